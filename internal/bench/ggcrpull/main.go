// Command ggcrpull pulls an image into an OCI image layout with go-containerregistry. It does
// what the program at the beginning of README.md does. The scenario program compares the sizes
// and the packages of both programs, and does not run them.
package main

import (
	"fmt"
	"log"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func main() {
	if err := pull("registry.k8s.io/pause:3.10", "images"); err != nil {
		log.Fatal(err)
	}
}

func pull(image, dir string) error {
	ref, err := name.ParseReference(image)
	if err != nil {
		return err
	}
	img, err := remote.Image(ref, remote.WithAuthFromKeychain(authn.DefaultKeychain))
	if err != nil {
		return err
	}
	store, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	if err := store.AppendImage(img); err != nil {
		return err
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	fmt.Println(ref, digest)
	return nil
}
