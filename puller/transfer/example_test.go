package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller"
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
	if _, err := reg.PutImage("team/app:v1", pullertest.Image{Layers: []int64{3 << 20, 1000}}); err != nil {
		log.Fatal(err)
	}
	return reg, puller.Spec{
		Ref:      reference.MustParse(reg.Host() + "/team/app:v1"),
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
	}
}

func ExampleNew() {
	reg, spec := demo() // an http registry on loopback, and what to pull from it
	defer reg.Close()

	// Programs use a layout.Layout as Store, and need no Source for https.
	rt := transfer.New(transfer.Config{
		Store:  &pullertest.MemStore{},
		Source: &registry.Client{PlainHTTP: []string{reg.Host()}},
	})
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
	reg, spec := demo()
	defer reg.Close()
	rt := transfer.New(transfer.Config{
		Store:  &pullertest.MemStore{},
		Source: &registry.Client{PlainHTTP: []string{reg.Host()}},
		Blobs:  3, // be gentle to a small registry
		Admit: func(_ context.Context, ref reference.Reference, _ ocispec.Descriptor, _ []byte) error {
			return errors.New("nobody has signed it")
		},
	})
	_, err := rt.Pull(context.Background(), spec)
	fmt.Println(errors.Is(err, puller.ErrSignatureValidation))
	fmt.Println(err)
	// Output:
	// true
	// refused by the admission hook: nobody has signed it
}

func ExampleRuntime() {
	reg, spec := demo()
	defer reg.Close()
	rt := transfer.New(transfer.Config{
		Store:  &pullertest.MemStore{},
		Source: &registry.Client{PlainHTTP: []string{reg.Host()}},
	})
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
