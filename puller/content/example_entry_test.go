package content_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/reference"
)

// An entry that another tool wrote may have no whole name. Then its Ref is zero.
func ExampleEntry() {
	ref := reference.MustParse("busybox:1.36")
	for _, e := range []content.Entry{
		{Ref: ref, Name: ref.String()},
		{Name: "v1"},
	} {
		fmt.Println(e.Name, "is found by Lookup:", !e.Ref.IsZero())
	}
	// Output:
	// docker.io/library/busybox:1.36 is found by Lookup: true
	// v1 is found by Lookup: false
}

func ExampleLister() {
	dir, err := os.MkdirTemp("", "images")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	images, err := layout.Open(dir, layout.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer images.Close()
	for _, store := range []content.Store{images, new(pullertest.MemStore)} {
		lister, ok := store.(content.Lister)
		if !ok {
			fmt.Printf("a %T cannot list its images\n", store)
			continue
		}
		entries, err := lister.List(context.Background())
		fmt.Println(len(entries), err)
	}
	// Output:
	// 0 <nil>
	// a *pullertest.MemStore cannot list its images
}

func ExampleRemover() {
	dir, err := os.MkdirTemp("", "images")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	images, err := layout.Open(dir, layout.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer images.Close()
	var store content.Remover = images
	listed := content.Entry{Name: "v1", Manifest: ocispec.Descriptor{Digest: digest.FromString("an image that was there")}}
	_, err = store.RemoveImage(context.Background(), []content.Entry{listed}, nil)
	fmt.Println(errors.Is(err, content.ErrChanged))
	// Output: true
}

func ExampleRemoval() {
	removed := content.Removal{Blobs: 3, Bytes: 64 << 20}
	fmt.Printf("%d blobs removed, %d MiB free\n", removed.Blobs, removed.Bytes>>20)
	// Output: 3 blobs removed, 64 MiB free
}
