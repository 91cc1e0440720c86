// Command orascp copies an image from a registry on plain http into an OCI image
// layout with oras-go, with the defaults of that library:
//
//	orascp [-platform OS/ARCH] HOST/REPOSITORY:TAG DIR
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/oci"
	"oras.land/oras-go/v2/registry/remote"
)

func main() {
	platform := flag.String("platform", "", "`OS/ARCH` to choose from an index (default: copy all)")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: orascp [-platform OS/ARCH] HOST/REPOSITORY:TAG DIR")
		os.Exit(2)
	}
	if err := run(context.Background(), flag.Arg(0), flag.Arg(1), *platform); err != nil {
		fmt.Fprintln(os.Stderr, "orascp:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, image, dir, platform string) error {
	source, err := remote.NewRepository(image)
	if err != nil {
		return err
	}
	source.PlainHTTP = true
	target, err := oci.New(dir)
	if err != nil {
		return err
	}
	options := oras.DefaultCopyOptions
	if os, arch, ok := strings.Cut(platform, "/"); ok {
		options.WithTargetPlatform(&ocispec.Platform{OS: os, Architecture: arch})
	}
	name := source.Reference.Reference
	_, err = oras.Copy(ctx, source, name, target, name, options)
	return err
}
