package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/reference"
)

// demo starts a registry with an image and makes its root file system twice.
func demo(ctx context.Context, stdout io.Writer) error {
	reg, err := pullertest.Start(pullertest.Config{})
	if err != nil {
		return err
	}
	defer reg.Close()
	put, err := reg.PutImage("team/app:v1", pullertest.ImageSpec{Platforms: []ocispec.Platform{index.Host()}, Layers: []int64{3 << 20, 1000}})
	if err != nil {
		return err
	}
	image := reg.Host() + "/team/app:v1"
	fmt.Fprintf(stdout, "A registry on loopback has an image with two layers: %s, %s\n", image, put.Descriptor.Digest)
	dir, err := os.MkdirTemp("", "rootfs-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o := options{out: filepath.Join(dir, "app"), image: reference.MustParse(image), written: image, platform: index.Host()}
	for _, title := range []string{"Its root file system", "Again, with nothing to fetch"} {
		fmt.Fprintf(stdout, "\n-- %s:\n", title)
		if err := makeRootFS(ctx, o, stdout, io.Discard); err != nil {
			return err
		}
	}
	files, err := os.ReadDir(filepath.Join(o.out, "rootfs"))
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, "\n-- What it has:")
	for _, f := range files {
		fmt.Fprintln(stdout, f.Name())
	}
	return nil
}
