package pullertest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/pullertest"
)

func ExampleStart() {
	reg, err := pullertest.Start(pullertest.Config{
		Auth:  pullertest.AuthBearer,
		Users: []pullertest.User{{Name: "robot", Password: "secret", Repositories: []string{"team/app"}}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer reg.Close()
	resp, err := http.Get(reg.URL() + "/v2/")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.StatusCode, reg.Counts().Root)
	// Output: 401 1
}

func ExampleRegistry_PutImage() {
	reg, err := pullertest.Start(pullertest.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer reg.Close()
	put, err := reg.PutImage("team/app:v1", pullertest.Image{
		Platforms: []ocispec.Platform{
			{OS: "linux", Architecture: "amd64"},
			{OS: "linux", Architecture: "arm64", Variant: "v8"},
		},
		Layers: []int64{200_000, 50_000},
		Seed:   1,
	})
	fmt.Println(put.Descriptor.MediaType, len(put.Manifests), len(put.Blobs), err)
	// Output: application/vnd.oci.image.index.v1+json 2 6 <nil>
}

func ExampleNetwork() {
	var network pullertest.Network
	reg, err := pullertest.Start(pullertest.Config{Network: &network, Addr: "registry.example:80"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer reg.Close()
	client := http.Client{Transport: &http.Transport{DialContext: network.DialContext, DisableKeepAlives: true}}
	resp, err := client.Get("http://registry.example/v2/")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	_, err = network.DialContext(context.Background(), "tcp", "registry.example:443")
	var refused *net.OpError
	fmt.Println(resp.Status, string(body))
	fmt.Println(errors.As(err, &refused), refused.Op, refused.Addr)
	// Output:
	// 200 OK {}
	// true dial registry.example:443
}
