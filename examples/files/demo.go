package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/unpack"
	"github.com/pullkit/pullkit/reference"
)

// demo starts a registry with a model, pulls it, and writes its files twice.
func demo(ctx context.Context, stdout io.Writer) error {
	reg, err := pullertest.Start(pullertest.Config{})
	if err != nil {
		return err
	}
	defer reg.Close()
	if err := putModel(reg); err != nil {
		return err
	}
	image := reg.Host() + "/models/tiny:v1"
	fmt.Fprintf(stdout, "A registry on loopback has a model in the format of ModelPack: %s\n", image)
	dir, err := os.MkdirTemp("", "files-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o := options{out: filepath.Join(dir, "tiny"), store: filepath.Join(dir, "images"), image: reference.MustParse(image), written: image}
	fmt.Fprint(stdout, "\n-- Its files:\n")
	if err := files(ctx, o, stdout, io.Discard); err != nil {
		return err
	}
	fmt.Fprint(stdout, "\n-- Again, with nothing to do:\n")
	reg.ResetCounts()
	if err := files(ctx, o, stdout, io.Discard); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "requests to the registry: %d\n", reg.Counts().Total())
	fmt.Fprint(stdout, "\n-- Only what is in the directory text, linked from the store:\n")
	o.out, o.files = filepath.Join(dir, "text"), unpack.Config{SubPath: "text", Link: true}
	return files(ctx, o, stdout, io.Discard)
}

// putModel puts a model into the registry, as writers of ModelPack do: one layer a file,
// with its path in an annotation.
func putModel(reg *pullertest.Registry) error {
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		ArtifactType: "application/vnd.cncf.model.manifest.v1+json",
		Config:       reg.PutBlob("models/tiny", "application/vnd.cncf.model.config.v1+json", []byte(`{"descriptor":{"name":"tiny"}}`)),
	}
	for _, f := range []struct{ kind, name, data string }{
		{"doc", "README.md", "# tiny\n"},
		{"weight.config", "text/config.json", `{"hidden_size":64}`},
		{"weight", "text/model.safetensors", strings.Repeat("weights ", 1<<17)},
	} {
		layer := reg.PutBlob("models/tiny", "application/vnd.cncf.model."+f.kind+".v1.raw", []byte(f.data))
		layer.Annotations = map[string]string{"org.cncf.model.filepath": f.name}
		m.Layers = append(m.Layers, layer)
	}
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	reg.PutManifest("models/tiny:v1", m.MediaType, body)
	return nil
}
