package archive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/archive"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/reference"
)

// images returns a layout with two small images.
func images() (store *layout.Layout, remove func()) {
	dir, err := os.MkdirTemp("", "images")
	if err != nil {
		log.Fatal(err)
	}
	store, err = layout.Open(dir, layout.Config{})
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"busybox:1.36", "registry.example/team/app:v1"} {
		config := put(store, ocispec.MediaTypeImageConfig, `{"architecture":"amd64","os":"linux"}`)
		layer := put(store, ocispec.MediaTypeImageLayer, "the layer of "+name)
		manifest := fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[%s]}`, text(config), text(layer))
		if err := store.Tag(context.Background(), reference.MustParse(name), put(store, ocispec.MediaTypeImageManifest, manifest)); err != nil {
			log.Fatal(err)
		}
	}
	return store, func() {
		store.Close()
		os.RemoveAll(dir)
	}
}

func text(desc ocispec.Descriptor) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, desc.MediaType, desc.Digest, desc.Size)
}

// put stores content, as a transfer does.
func put(store content.Store, mediaType, data string) ocispec.Descriptor {
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(data), Size: int64(len(data))}
	in, err := store.Ingest(context.Background(), desc)
	if errors.Is(err, fs.ErrExist) {
		return desc
	}
	if err != nil {
		log.Fatal(err)
	}
	defer in.Close()
	if _, err := in.WriteAt([]byte(data), 0); err != nil {
		log.Fatal(err)
	}
	if err := in.Commit(context.Background()); err != nil {
		log.Fatal(err)
	}
	return desc
}

// The file is for a node without a network. It has the named images, or all images of the
// store if no image is named.
func ExampleExport() {
	store, remove := images()
	defer remove()

	var file bytes.Buffer
	err := archive.Export(context.Background(), store, &file, reference.MustParse("busybox:1.36"))
	fmt.Println(file.Len(), err)
	// Output: 8192 <nil>
}

func ExampleImport() {
	from, remove := images()
	defer remove()
	to := new(pullertest.MemStore) // in a program this is a layout

	r, w := io.Pipe()
	go func() { w.CloseWithError(archive.Export(context.Background(), from, w)) }()
	entries, err := archive.Import(context.Background(), to, r, archive.Config{})
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range entries {
		fmt.Println(e.Ref)
	}
	// Output:
	// docker.io/library/busybox:1.36
	// registry.example/team/app:v1
}

// The archive gives its image only the tag v1, without a repository.
func ExampleConfig() {
	file, err := os.Open("testdata/untagged.tar")
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()

	store := new(pullertest.MemStore)
	entries, err := archive.Import(context.Background(), store, file, archive.Config{Repository: "registry.example/team/app"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(entries[0].Ref)
	// Output: registry.example/team/app:v1
}
