package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
)

// demo starts a registry on loopback that has team/app:v1.
func demo() (*pullertest.Registry, puller.Spec) {
	reg, err := pullertest.Start(pullertest.Config{})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := reg.PutImage("team/app:v1", pullertest.ImageSpec{Layers: []int64{3 << 20, 1000}}); err != nil {
		log.Fatal(err)
	}
	return reg, puller.Spec{
		Ref:      reference.MustParse(reg.Host() + "/team/app:v1"),
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
	}
}

// overHTTP is a Client for a registry without TLS.
func overHTTP(host string) *registry.Client {
	client, err := registry.New(registry.Config{PlainHTTP: []string{host}})
	if err != nil {
		log.Fatal(err)
	}
	return client
}

func ExampleNew() {
	reg, spec := demo() // an http registry on loopback, and what to pull from it
	defer reg.Close()

	// Programs use a layout.Layout as Store, and need no Source for https.
	rt, err := transfer.New(transfer.Config{
		Store:  &pullertest.MemStore{},
		Source: overHTTP(reg.Host()),
	})
	if err != nil {
		log.Fatal(err)
	}
	image, err := rt.Pull(context.Background(), spec)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(image.Platform.Architecture, reg.Counts().Total(), "requests")
	_, err = rt.Pull(context.Background(), spec)
	fmt.Println(err, reg.Counts().Total(), "requests")
	// Output:
	// amd64 4 requests
	// <nil> 5 requests
}

func ExampleConfig() {
	_, err := transfer.New(transfer.Config{
		Store:           &pullertest.MemStore{},
		MaxBlobs:        3, // be gentle to a small registry
		MaxConnsPerBlob: 1,
	})
	fmt.Println(err)
	_, err = transfer.New(transfer.Config{MaxMemory: -1})
	fmt.Println(err)
	// Output:
	// <nil>
	// transfer: Config.MaxMemory is -1; give a positive number, or zero for the default
}

func ExampleRuntime_admit() {
	reg, spec := demo()
	defer reg.Close()
	rt, err := transfer.New(transfer.Config{
		Store:  &pullertest.MemStore{},
		Source: overHTTP(reg.Host()),
	})
	if err != nil {
		log.Fatal(err)
	}
	spec.Admit = func(_ context.Context, image content.Admission) error { // a Puller sets it, by its Config.Admission
		return fmt.Errorf("no signature of %s, with %d bytes of manifest", image.Repo.Ref.Repository(), len(image.Manifest))
	}
	_, err = rt.Pull(context.Background(), spec)
	fmt.Println(errors.Is(err, puller.ErrSignatureValidation))
	fmt.Println(err)
	// Output:
	// true
	// not admitted: no signature of team/app, with 560 bytes of manifest
}

func ExampleRuntime_MirrorNames() {
	source, err := registry.New(registry.Config{Registries: map[string]registry.Hosts{
		"docker.io": {Mirrors: []registry.Host{{URL: "https://cache.example"}}},
	}})
	if err != nil {
		log.Fatal(err)
	}
	rt, err := transfer.New(transfer.Config{Store: &pullertest.MemStore{}, Source: source})
	if err != nil {
		log.Fatal(err)
	}
	names, err := rt.MirrorNames(context.Background(), reference.MustParse("nginx:1.29"))
	fmt.Println(names, err)
	// Output: [cache.example/library/nginx:1.29] <nil>
}

func ExampleRuntime() {
	reg, spec := demo()
	defer reg.Close()
	rt, err := transfer.New(transfer.Config{
		Store:  &pullertest.MemStore{},
		Source: overHTTP(reg.Host()),
	})
	if err != nil {
		log.Fatal(err)
	}
	plan, err := rt.Plan(context.Background(), spec)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("to fetch:", len(plan.Fetch), "present:", len(plan.Present))

	stored := 0
	spec.Progress = func(p puller.Progress) {
		if p.State == puller.BlobStored {
			stored++
		}
	}
	if _, err := rt.Pull(context.Background(), spec); err != nil {
		log.Fatal(err)
	}
	fmt.Println("stored:", stored)
	// Output:
	// to fetch: 3 present: 0
	// stored: 3
}
