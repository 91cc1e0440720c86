package pullertest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
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
	put, err := reg.PutImage("team/app:v1", pullertest.ImageSpec{
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

var anonymous credentials.Credential

func ExampleTestSource() {
	var network pullertest.Network
	err := pullertest.TestSource(&network, func(host string) (content.Source, error) {
		return registry.New(registry.Config{PlainHTTP: []string{host}, DialContext: network.DialContext})
	})
	fmt.Println(err)
	// Output: <nil>
}

func ExampleTestRuntime() {
	var network pullertest.Network
	err := pullertest.TestRuntime(&network, func(host string) (puller.Runtime, error) {
		client, err := registry.New(registry.Config{PlainHTTP: []string{host}, DialContext: network.DialContext})
		if err != nil {
			return nil, err
		}
		return transfer.New(transfer.Config{Source: client, Store: &pullertest.MemStore{}})
	})
	fmt.Println(err)
	// Output: <nil>
}

func ExampleRegistry() {
	var network pullertest.Network
	reg, err := pullertest.Start(pullertest.Config{Network: &network, Addr: "registry.example:80"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer reg.Close()
	desc := reg.PutBlob("team/app", "text/plain", []byte("hello"))
	reg.PutManifest("team/app:v1", ocispec.MediaTypeImageManifest, []byte("{}"))
	reg.Remove("team/app:v1")
	fmt.Println(reg.Host(), reg.URL(), desc.Size)
	// Output: registry.example:80 http://registry.example:80 5
}

func ExampleConfig() {
	reg, err := pullertest.Start(pullertest.Config{
		Auth:      pullertest.AuthBearer,
		Users:     []pullertest.User{{Name: "robot", Password: "secret"}},
		TokenLife: time.Minute,
		TLS:       true,
		Network:   &pullertest.Network{},
		Addr:      "registry.example:443",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer reg.Close()
	fmt.Println(reg.URL(), len(reg.CA()) > 0)
	// Output: https://registry.example:443 true
}

func ExampleAuthMode() {
	_, err := pullertest.Start(pullertest.Config{Auth: "digest"})
	fmt.Println(err)
	// Output: registry: unknown authentication mode "digest"
}

func ExampleUser() {
	users := []pullertest.User{
		{Name: "robot", Password: "secret", Repositories: []string{"team/app"}},
		{Repositories: []string{"public/app"}}, // the anonymous user
	}
	fmt.Println(len(users), users[1].Name == "")
	// Output: 2 true
}

func ExampleImageSpec() {
	reg, err := pullertest.Start(pullertest.Config{Network: &pullertest.Network{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer reg.Close()
	one, _ := reg.PutImage("team/app:v1", pullertest.ImageSpec{Layers: []int64{1000}, Seed: 1})
	same, _ := reg.PutImage("team/app:v2", pullertest.ImageSpec{Layers: []int64{1000}, Seed: 1})
	other, _ := reg.PutImage("team/app:v3", pullertest.ImageSpec{Layers: []int64{1000}, Seed: 2})
	fmt.Println(one.Descriptor.Digest == same.Descriptor.Digest, one.Descriptor.Digest == other.Descriptor.Digest)
	// Output: true false
}

func ExamplePutResult() {
	reg, err := pullertest.Start(pullertest.Config{Network: &pullertest.Network{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer reg.Close()
	put, err := reg.PutImage("team/app:v1", pullertest.ImageSpec{Layers: []int64{1000, 2000}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(put.Descriptor.MediaType)
	for _, blob := range put.Blobs {
		fmt.Println(blob.MediaType)
	}
	// Output:
	// application/vnd.oci.image.manifest.v1+json
	// application/vnd.oci.image.config.v1+json
	// application/vnd.oci.image.layer.v1.tar+gzip
	// application/vnd.oci.image.layer.v1.tar+gzip
}

func ExampleCounts() {
	var network pullertest.Network
	reg, err := pullertest.Start(pullertest.Config{Network: &network})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer reg.Close()
	client, err := registry.New(registry.Config{PlainHTTP: []string{reg.Host()}, DialContext: network.DialContext})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.CloseIdleConnections()
	_, err = client.Manifest(context.Background(), content.Repo{Ref: reference.MustParse(reg.Host() + "/team/app:v1"), Cred: anonymous}, "")
	counts := reg.Counts()
	fmt.Println(errors.Is(err, os.ErrNotExist), counts.ManifestGet, counts.Total())
	// Output: true 1 1
}

func ExampleMemStore() {
	var store pullertest.MemStore
	_, err := store.Lookup(context.Background(), reference.MustParse("registry.example/team/app:v1"))
	fmt.Println(err)
	// Output: "registry.example/team/app:v1" is not in the store: file does not exist
}

func ExampleTestStore() {
	err := pullertest.TestStore(func() (content.Store, error) { return &pullertest.MemStore{}, nil })
	fmt.Println(err)
	// Output: <nil>
}
