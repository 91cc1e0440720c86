// Command orascp copies an image from a registry into an OCI image layout with oras-go,
// with the defaults of that library and the credentials of Docker's config.json:
//
//	orascp [-plain-http] [-platform OS/ARCH] HOST/REPOSITORY:TAG DIR
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
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/retry"
)

func main() {
	platform := flag.String("platform", "", "`OS/ARCH` to choose from an index (default: copy all)")
	plain := flag.Bool("plain-http", false, "use plain http")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: orascp [-plain-http] [-platform OS/ARCH] HOST/REPOSITORY:TAG DIR")
		os.Exit(2)
	}
	if err := run(context.Background(), flag.Arg(0), flag.Arg(1), *platform, *plain); err != nil {
		fmt.Fprintln(os.Stderr, "orascp:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, image, dir, platform string, plain bool) error {
	source, err := remote.NewRepository(image)
	if err != nil {
		return err
	}
	source.PlainHTTP = plain
	store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
	if err != nil {
		return err
	}
	source.Client = &auth.Client{Client: retry.DefaultClient, Cache: auth.NewCache(), Credential: credentials.Credential(store)}
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
