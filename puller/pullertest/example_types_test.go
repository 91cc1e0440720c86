package pullertest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/reference"
)

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
		{Repositories: []string{"public/app"}}, // everybody
	}
	fmt.Println(len(users), users[1].Name == "")
	// Output: 2 true
}

func ExampleImage() {
	reg, err := pullertest.Start(pullertest.Config{Network: &pullertest.Network{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer reg.Close()
	one, _ := reg.PutImage("team/app:v1", pullertest.Image{Layers: []int64{1000}, Seed: 1})
	same, _ := reg.PutImage("team/app:v2", pullertest.Image{Layers: []int64{1000}, Seed: 1})
	other, _ := reg.PutImage("team/app:v3", pullertest.Image{Layers: []int64{1000}, Seed: 2})
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
	put, err := reg.PutImage("team/app:v1", pullertest.Image{Layers: []int64{1000, 2000}})
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
	client := registry.Client{PlainHTTP: []string{reg.Host()}, DialContext: network.DialContext}
	defer client.CloseIdleConnections()
	_, _, err = client.Manifest(context.Background(), reference.MustParse(reg.Host()+"/team/app:v1"), anonymous, "")
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
