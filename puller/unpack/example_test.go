package unpack_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/puller/unpack"
	"github.com/pullkit/pullkit/reference"
)

// A model server needs the files of a model. The program pulls the image and writes its files.
func Example() {
	image, dir, stop := startRegistry() // such as "registry.example/models/tiny:v1", "/var/lib/models"
	defer stop()
	store, err := layout.Open(filepath.Join(dir, "store"), layout.Config{})
	if err != nil {
		log.Fatal(err)
	}
	rt, err := transfer.New(transfer.Config{Store: store})
	if err != nil {
		log.Fatal(err)
	}
	p, err := puller.New(puller.Config{Runtime: rt})
	if err != nil {
		log.Fatal(err)
	}
	img, err := p.Pull(context.Background(), puller.Request{Image: image})
	if err != nil {
		log.Fatal(err)
	}
	manifest, err := store.Lookup(context.Background(), img.Ref)
	if err != nil {
		log.Fatal(err)
	}
	files, err := unpack.Files(context.Background(), store, manifest, filepath.Join(dir, "tiny"), unpack.Config{})
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range files {
		fmt.Println(f.Name, f.Size)
	}
	// Output:
	// config.json 18
	// model.safetensors 1048576
}

// startRegistry starts a registry that has a model as ModelPack writes it, and returns its
// name there and a new directory. stop ends the registry and removes the directory.
func startRegistry() (image, dir string, stop func()) {
	dir, err1 := os.MkdirTemp("", "unpack-example-")
	reg, err2 := pullertest.Start(pullertest.Config{})
	if err := cmp.Or(err1, err2); err != nil {
		log.Fatal(err)
	}
	part := func(mediaType, name, data string) string {
		desc := reg.PutBlob("models/tiny", mediaType, []byte(data))
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"annotations":{"org.cncf.model.filepath":%q}}`, desc.MediaType, desc.Digest, desc.Size, name)
	}
	reg.PutManifest("models/tiny:v1", ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"mediaType":"`+ocispec.MediaTypeImageManifest+
		`","artifactType":"application/vnd.cncf.model.manifest.v1+json","config":`+part("application/vnd.cncf.model.config.v1+json", "", "{}")+
		`,"layers":[`+part("application/vnd.cncf.model.weight.config.v1.raw", "config.json", `{"hidden_size":64}`)+
		`,`+part("application/vnd.cncf.model.weight.v1.raw", "model.safetensors", strings.Repeat("0123456789abcdef", 1<<16))+`]}`))
	return reg.Host() + "/models/tiny:v1", dir, func() { reg.Close(); os.RemoveAll(dir) }
}

// pulled returns a store with that model, the descriptor of its manifest, and a new
// directory. remove removes it.
func pulled() (store *layout.Layout, manifest ocispec.Descriptor, dir string, remove func()) {
	image, dir, remove := startRegistry()
	store, err1 := layout.Open(filepath.Join(dir, "store"), layout.Config{})
	rt, err2 := transfer.New(transfer.Config{Store: store})
	p, err3 := puller.New(puller.Config{Runtime: rt})
	if err := cmp.Or(err1, err2, err3); err != nil {
		log.Fatal(err)
	}
	if _, err := p.Pull(context.Background(), puller.Request{Image: image}); err != nil {
		log.Fatal(err)
	}
	manifest, err := store.Lookup(context.Background(), reference.MustParse(image))
	if err != nil {
		log.Fatal(err)
	}
	return store, manifest, dir, remove
}

// The second call finds that there is nothing to do. A later call finds a file that was changed.
func ExampleFiles() {
	ctx := context.Background()
	store, manifest, dir, remove := pulled()
	defer remove()
	out := filepath.Join(dir, "tiny")
	for range 2 {
		files, err := unpack.Files(ctx, store, manifest, out, unpack.Config{})
		fmt.Println(len(files), "files", err)
	}
	if err := os.WriteFile(filepath.Join(out, "config.json"), []byte("{}"), 0o644); err != nil {
		log.Fatal(err)
	}
	_, err := unpack.Files(ctx, store, manifest, out, unpack.Config{})
	fmt.Println(errors.Is(err, unpack.ErrChanged))
	// Output:
	// 2 files <nil>
	// 2 files <nil>
	// true
}

// With Link, a directory does not take up room of its own: its files are the store's blobs.
func ExampleConfig() {
	store, manifest, dir, remove := pulled()
	defer remove()
	_, err := unpack.Files(context.Background(), store, manifest, filepath.Join(dir, "tiny"), unpack.Config{
		Link:     true,
		MaxBytes: 1 << 30,
		MaxFiles: 100,
	})
	if err != nil {
		log.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "tiny", "model.safetensors"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.Mode())
	// Output: -r--r--r--
}

func ExampleFile() {
	store, manifest, dir, remove := pulled()
	defer remove()
	files, err := unpack.Files(context.Background(), store, manifest, filepath.Join(dir, "tiny"), unpack.Config{})
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range files {
		fmt.Println(f.Name, f.Size, f.Digest == f.Layer) // a layer that is a file has its digest
	}
	// Output:
	// config.json 18 true
	// model.safetensors 1048576 true
}

// A layout is a Directory, whose blobs can be linked. A store in memory is not.
func ExampleDirectory() {
	var store any = new(layout.Layout)
	_, ok := store.(unpack.Directory)
	fmt.Println(ok)
	store = new(pullertest.MemStore)
	_, ok = store.(unpack.Directory)
	fmt.Println(ok)
	// Output:
	// true
	// false
}

// An Error says which layer and which file are wrong.
func ExampleError() {
	store, manifest, dir, remove := pulled()
	defer remove()
	_, err := unpack.Files(context.Background(), store, manifest, filepath.Join(dir, "tiny"), unpack.Config{MaxBytes: 1000})
	var e *unpack.Error
	if errors.As(err, &e) {
		fmt.Println(e.File)
		fmt.Println(e.Layer)
		fmt.Println(e.Err)
	}
	// Output:
	// model.safetensors
	// sha256:aca1cd027e979588d14b877b7b0cb8585ad9fec599eb45801992ee5382b3760f
	// the artifact is too large: its files have too many bytes, see Config.MaxBytes
}

// The reason of an error is found with errors.Is.
func ExampleReason() {
	store, manifest, dir, remove := pulled()
	defer remove()
	out := filepath.Join(dir, "tiny")
	if err := os.Mkdir(out, 0o755); err != nil {
		log.Fatal(err)
	}
	_, err := unpack.Files(context.Background(), store, manifest, out, unpack.Config{})
	if errors.Is(err, unpack.ErrTaken) {
		fmt.Println("remove the directory, or give another one")
	}
	// Output: remove the directory, or give another one
}
