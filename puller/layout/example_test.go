package layout_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/reference"
)

// images returns a layout with two images that share a config. The caller closes it.
func images() *layout.Layout {
	dir, err := os.MkdirTemp("", "images")
	if err != nil {
		log.Fatal(err)
	}
	store, err := layout.Open(dir, layout.Config{})
	if err != nil {
		log.Fatal(err)
	}
	config := put(store, ocispec.MediaTypeImageConfig, `{"architecture":"amd64","os":"linux"}`)
	for _, name := range []string{"busybox:1.36", "registry.example/team/app:v1"} {
		layer := put(store, ocispec.MediaTypeImageLayer, "the layer of "+name)
		manifest := fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[%s]}`, text(config), text(layer))
		desc := put(store, ocispec.MediaTypeImageManifest, manifest)
		if err := store.Tag(context.Background(), reference.MustParse(name), desc); err != nil {
			log.Fatal(err)
		}
	}
	return store
}

func text(desc ocispec.Descriptor) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, desc.MediaType, desc.Digest, desc.Size)
}

// put stores content, as a transfer does.
func put(store *layout.Layout, mediaType, data string) ocispec.Descriptor {
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

func ExampleOpen() {
	dir, _ := os.MkdirTemp("", "images")
	store, err := layout.Open(dir, layout.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	defer os.RemoveAll(dir)

	_, err = store.Lookup(context.Background(), reference.MustParse("busybox:1.36"))
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	// Output: true
}

func ExampleConfig() {
	// A node whose connection often breaks keeps what has arrived of a big image for a week.
	cfg := layout.Config{PartialAge: 7 * 24 * time.Hour}
	dir, _ := os.MkdirTemp("", "images")
	store, err := layout.Open(dir, cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	fmt.Println(os.RemoveAll(dir))
	// Output: <nil>
}

// A transfer stores content in this way.
func ExampleLayout() {
	dir, _ := os.MkdirTemp("", "images")
	defer os.RemoveAll(dir)
	store, _ := layout.Open(dir, layout.Config{})
	defer store.Close()

	ctx, data := context.Background(), "hello"
	desc := ocispec.Descriptor{MediaType: "text/plain", Digest: digest.FromString(data), Size: 5}
	in, err := store.Ingest(ctx, desc)
	if errors.Is(err, fs.ErrExist) {
		return // the content is stored
	}
	if err != nil {
		log.Fatal(err)
	}
	defer in.Close() // keeps the written bytes if a later step fails
	in.WriteAt([]byte("lo"), 3)
	in.WriteAt([]byte("hel"), 0)
	fmt.Println(in.Commit(ctx))
	fmt.Println(store.Has(ctx, desc))
	// Output:
	// <nil>
	// true <nil>
}

func ExampleLayout_List() {
	store := images()
	defer os.RemoveAll(store.Dir())
	defer store.Close()

	list, err := store.List(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	for _, img := range list {
		fmt.Println(img.Ref, img.Descriptor.MediaType)
	}
	// Output:
	// docker.io/library/busybox:1.36 application/vnd.oci.image.manifest.v1+json
	// registry.example/team/app:v1 application/vnd.oci.image.manifest.v1+json
}

func ExampleImage() {
	store := images()
	defer os.RemoveAll(store.Dir())
	defer store.Close()

	list, _ := store.List(context.Background())
	img := list[0]
	fmt.Println(img.Name)
	fmt.Println(img.Descriptor.Digest == img.Manifest.Digest) // the name does not point to an index
	// Output:
	// docker.io/library/busybox:1.36
	// true
}

func ExampleLayout_Remove() {
	store := images()
	defer os.RemoveAll(store.Dir())
	defer store.Close()

	freed, err := store.Remove(context.Background(), reference.MustParse("busybox:1.36"))
	fmt.Println(freed.Blobs, err) // its manifest and layer; the other image uses the config
	// Output: 2 <nil>
}

func ExampleLayout_RemoveImage() {
	store := images()
	defer os.RemoveAll(store.Dir())
	defer store.Close()

	list, _ := store.List(context.Background())
	removed, err := store.RemoveImage(context.Background(), list[:1], nil)
	fmt.Printf("%d blobs, %d bytes, %v\n", removed.Blobs, removed.Bytes, err)
	_, err = store.RemoveImage(context.Background(), list[:1], nil)
	fmt.Println(errors.Is(err, content.ErrChanged))
	// Output:
	// 2 blobs, 362 bytes, <nil>
	// true
}

func ExampleLayout_Prune() {
	store := images()
	defer os.RemoveAll(store.Dir())
	defer store.Close()

	put(store, "text/plain", "of an image that never came to be")
	freed, err := store.Prune(context.Background(), layout.PruneConfig{})
	fmt.Println(freed.Blobs, err) // the blob is young, and a pull may tag it
	// Output: 0 <nil>
}

func ExamplePruneConfig() {
	store := images()
	defer os.RemoveAll(store.Dir())
	defer store.Close()

	put(store, "text/plain", "of an image that never came to be")
	busybox := reference.MustParse("busybox:1.36")
	running, _ := store.Lookup(context.Background(), busybox)
	store.Remove(context.Background(), busybox, running.Digest) // the name is gone, and the image still runs
	nobodyPulls := layout.PruneConfig{MinAge: -1, Keep: []digest.Digest{running.Digest}}
	freed, err := store.Prune(context.Background(), nobodyPulls)
	fmt.Println(freed.Blobs, err)
	nobodyPulls.Keep = nil // it has ended
	freed, err = store.Prune(context.Background(), nobodyPulls)
	fmt.Println(freed.Blobs, err)
	// Output:
	// 1 <nil>
	// 2 <nil>
}

func ExampleLayout_Verify() {
	store := images()
	defer os.RemoveAll(store.Dir())
	defer store.Close()

	layer := digest.FromString("the layer of busybox:1.36")
	os.WriteFile(filepath.Join(store.Dir(), "blobs", "sha256", layer.Encoded()), []byte("something else"), 0o644)
	for d, err := range store.Verify(context.Background()) {
		if errors.Is(err, content.ErrDigestMismatch) {
			fmt.Println("damaged:", d)
		} else if errors.Is(err, fs.ErrNotExist) {
			fmt.Println("to be pulled again:", d)
		}
	}
	// Output:
	// damaged: sha256:8fcfdf7efe67809a4ebf2327c10a519c86656c1d44dea54be72b1937383cb10a
	// to be pulled again: sha256:9a44a9298d438ec56220621226b831a2669e31352c7b253bb2e0467b77fab99b
}

func ExampleLayout_Repair() {
	store := images()
	defer os.RemoveAll(store.Dir())
	defer store.Close()

	layer := digest.FromString("the layer of busybox:1.36")
	os.WriteFile(filepath.Join(store.Dir(), "blobs", "sha256", layer.Encoded()), []byte("something else"), 0o644)
	freed, err := store.Repair(context.Background()) // then pull busybox:1.36 again
	fmt.Println(freed.Blobs, err)
	// Output: 1 <nil>
}

func ExampleLayout_FS() {
	store := images()
	defer os.RemoveAll(store.Dir())
	defer store.Close()

	names, err := fs.Glob(store.FS(), "sha256/*")
	fmt.Println(len(names), err)
	data, err := fs.ReadFile(store.FS(), "sha256/"+digest.FromString("the layer of busybox:1.36").Encoded())
	fmt.Println(string(data), err)
	// Output:
	// 5 <nil>
	// the layer of busybox:1.36 <nil>
}
