package rootfs_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/rootfs"
	"github.com/pullkit/pullkit/puller/transfer"
)

// put stores a blob.
func put(store *pullertest.MemStore, mediaType string, data []byte) ocispec.Descriptor {
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	in, err := store.Ingest(context.Background(), desc)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := in.WriteAt(data, 0); err != nil {
		log.Fatal(err)
	}
	if err := in.Commit(context.Background()); err != nil {
		log.Fatal(err)
	}
	return desc
}

// image stores an image with one layer and returns its manifest.
func image(store *pullertest.MemStore, entries ...tar.Header) ocispec.Descriptor {
	var plain, packed bytes.Buffer
	w := tar.NewWriter(&plain)
	for _, h := range entries {
		w.WriteHeader(&h)
	}
	w.Close()
	z := gzip.NewWriter(&packed)
	z.Write(plain.Bytes())
	z.Close()
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(plain.Bytes())}}}
	body, _ := json.Marshal(config)
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: put(store, ocispec.MediaTypeImageConfig, body), Layers: []ocispec.Descriptor{put(store, ocispec.MediaTypeImageLayerGzip, packed.Bytes())},
	}
	body, _ = json.Marshal(m)
	return put(store, m.MediaType, body)
}

// temp returns a new directory.
func temp() string {
	dir, err := os.MkdirTemp("", "rootfs")
	if err != nil {
		log.Fatal(err)
	}
	return dir
}

func ExampleUnpack() {
	store, parent := new(pullertest.MemStore), temp()
	defer os.RemoveAll(parent)
	manifest := image(store, tar.Header{Typeflag: tar.TypeDir, Name: "etc", Mode: 0o755}, tar.Header{Typeflag: tar.TypeSymlink, Name: "etc/os-release", Linkname: "/usr/lib/os-release"})
	dir := filepath.Join(parent, "app")
	for range 2 {
		result, err := rootfs.Unpack(context.Background(), store, manifest, dir, rootfs.Config{})
		fmt.Println(result.Layers, result.Files, result.Present, err)
	}
	target, err := os.Readlink(filepath.Join(dir, "rootfs", "etc", "os-release"))
	fmt.Println(target, err)
	// Output:
	// 1 2 false <nil>
	// 1 2 true <nil>
	// /usr/lib/os-release <nil>
}

func ExamplePull() {
	reg, err := pullertest.Start(pullertest.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer reg.Close()
	if _, err := reg.PutImage("app:v1", pullertest.ImageSpec{Platforms: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}}, Layers: []int64{1000, 2000}}); err != nil {
		log.Fatal(err)
	}
	store, parent := new(pullertest.MemStore), temp()
	defer os.RemoveAll(parent)
	rt, err := transfer.New(transfer.Config{Store: store, MaxBlobs: 3})
	if err != nil {
		log.Fatal(err)
	}
	pull := func(ctx context.Context, events func(puller.Event)) (puller.Image, error) {
		p, err := puller.New(puller.Config{Runtime: rt, Events: events, Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}})
		if err != nil {
			return puller.Image{}, err
		}
		return p.Pull(ctx, puller.Request{Image: reg.Host() + "/app:v1"})
	}
	img, result, err := rootfs.Pull(context.Background(), store, filepath.Join(parent, "app"), rootfs.Config{}, pull)
	fmt.Println(img.Manifest == result.Manifest, result.Layers, err)
	// Output: true 2 <nil>
}

func ExampleConfig() {
	store, parent := new(pullertest.MemStore), temp()
	defer os.RemoveAll(parent)
	manifest := image(store, tar.Header{Name: "a"}, tar.Header{Name: "b"})
	_, err := rootfs.Unpack(context.Background(), store, manifest, filepath.Join(parent, "app"), rootfs.Config{MaxFiles: 1})
	fmt.Println(errors.Is(err, rootfs.ErrTooLarge))
	// Output: true
}

func ExampleResult() {
	store, parent := new(pullertest.MemStore), temp()
	defer os.RemoveAll(parent)
	result, err := rootfs.Unpack(context.Background(), store, image(store), filepath.Join(parent, "app"), rootfs.Config{NoSync: true})
	if err != nil {
		log.Fatal(err)
	}
	// The config says how to run the image.
	config, err := store.Open(context.Background(), result.Config)
	if err != nil {
		log.Fatal(err)
	}
	defer config.Close()
	var c ocispec.Image
	fmt.Println(json.NewDecoder(config).Decode(&c), c.Architecture)
	// Output: <nil> amd64
}

func ExampleDropped() {
	store, parent := new(pullertest.MemStore), temp()
	defer os.RemoveAll(parent)
	manifest := image(store, tar.Header{Typeflag: tar.TypeChar, Name: "dev/null", Devmajor: 1, Devminor: 3})
	result, err := rootfs.Unpack(context.Background(), store, manifest, filepath.Join(parent, "app"), rootfs.Config{})
	fmt.Println(result.Dropped.Devices, "device was not made", err)
	// Output: 1 device was not made <nil>
}

func ExampleError() {
	store, parent := new(pullertest.MemStore), temp()
	defer os.RemoveAll(parent)
	manifest := image(store, tar.Header{Typeflag: tar.TypeLink, Name: "bin/sh", Linkname: "bin/absent"})
	_, err := rootfs.Unpack(context.Background(), store, manifest, filepath.Join(parent, "app"), rootfs.Config{})
	var e *rootfs.Error
	fmt.Println(errors.As(err, &e), e.File)
	// Output: true bin/sh
}

func ExampleReason() {
	store, parent := new(pullertest.MemStore), temp()
	defer os.RemoveAll(parent)
	_, err := rootfs.Unpack(context.Background(), store, image(store), parent, rootfs.Config{})
	fmt.Println(errors.Is(err, rootfs.ErrTaken), rootfs.ErrTaken)
	// Output: true the directory is not one that an earlier call has made of this image
}

func ExampleReason_Error() {
	fmt.Println(rootfs.ErrNotImage.Error())
	// Output: not an image with a root file system
}

func ExampleError_Unwrap() {
	err := &rootfs.Error{Dir: "app", Err: rootfs.ErrTaken}
	fmt.Println(err.Unwrap() == rootfs.ErrTaken)
	// Output: true
}

func ExampleError_Error() {
	err := &rootfs.Error{Dir: "app", File: "bin/sh", Err: rootfs.ErrBadLayer}
	fmt.Println(err.Error())
	// Output: root file system in "app": file "bin/sh": not a layer that can be applied
}

func ExampleRead() {
	store, parent := new(pullertest.MemStore), temp()
	defer os.RemoveAll(parent)
	manifest := image(store)
	dir := filepath.Join(parent, "app")
	_, err := rootfs.Read(dir)
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	if _, err := rootfs.Unpack(context.Background(), store, manifest, dir, rootfs.Config{}); err != nil {
		log.Fatal(err)
	}
	result, err := rootfs.Read(dir)
	fmt.Println(result.Manifest == manifest.Digest, err)
	// Output:
	// true
	// true <nil>
}
