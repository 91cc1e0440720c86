#!/usr/bin/env bash
# go.podman.io/image 5.42.1 is the library of skopeo, podman and buildah. If it writes an image
# to an OCI layout under a name that another image has there, it keeps the other image in
# index.json as an entry without a name.
#
# This has two effects.
#
# 1. `oci:DIR` without a name reads the only image of a layout. It works after the first image
#    was copied and fails after the second, although the layout has only one name.
# 2. The digest of the first image stays in index.json. So a garbage collector that keeps what
#    index.json lists keeps the blobs of the first image.
#
# If the first image is copied to the name again, its entry gets the name back, and the entry
# of the second image loses it. Both entries stay.
#
# The script needs Go and its module proxy. It exits with 0 as long as the library
# behaves like this.
set -euo pipefail
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
cat >go.mod <<'END'
module finding

go 1.25.0

require go.podman.io/image/v5 v5.42.1
END
cat >main.go <<'END'
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/pkg/blobinfocache/none"
	"go.podman.io/image/v5/types"
)

// write writes an image of one config blob under name.
func write(dir, name, author string) {
	ctx := context.Background()
	ref, err := layout.ParseReference(dir + ":" + name)
	check(err)
	dest, err := ref.NewImageDestination(ctx, nil)
	check(err)
	defer dest.Close()
	config := []byte(`{"architecture":"amd64","os":"linux","author":"` + author + `","config":{},"rootfs":{"type":"layers","diff_ids":[]}}`)
	info, err := dest.PutBlob(ctx, bytes.NewReader(config), types.BlobInfo{Digest: digest.FromBytes(config), Size: int64(len(config))}, none.NoCache, true)
	check(err)
	doc, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": map[string]any{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": info.Digest, "size": info.Size},
		"layers": []any{},
	})
	check(err)
	check(dest.PutManifest(ctx, doc, nil))
	check(dest.Commit(ctx, nil))
}

// show prints the author of each entry of index.json with the entry's name, and whether
// the layout can be read without a name.
func show(dir, after string) {
	fmt.Println(after)
	var index struct {
		Manifests []struct {
			Digest      digest.Digest
			Annotations map[string]string
		}
	}
	read(dir+"/index.json", &index)
	for _, entry := range index.Manifests {
		var m manifest.OCI1
		read(dir+"/blobs/sha256/"+entry.Digest.Encoded(), &m)
		var config struct{ Author string }
		read(dir+"/blobs/sha256/"+m.Config.Digest.Encoded(), &config)
		fmt.Printf("  entry: image %s, name %q\n", config.Author, entry.Annotations["org.opencontainers.image.ref.name"])
	}
	ref, err := layout.ParseReference(dir)
	check(err)
	source, err := ref.NewImageSource(context.Background(), nil)
	if err != nil {
		fmt.Println("  read without a name:", err)
		return
	}
	source.Close()
	fmt.Println("  read without a name: works")
}

func read(path string, v any) {
	data, err := os.ReadFile(path)
	check(err)
	check(json.Unmarshal(data, v))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	dir := "layout"
	write(dir, "app", "A")
	show(dir, "image A written as app:")
	write(dir, "app", "B")
	show(dir, "image B written as app:")
	write(dir, "app", "A")
	show(dir, "image A written as app again:")
}
END
export GOFLAGS=-mod=mod CGO_ENABLED=0
go mod tidy >log 2>&1 || { cat log; exit 1; }
go build -tags containers_image_openpgp,exclude_graphdriver_btrfs -o finding . >log 2>&1 || { cat log; exit 1; }
./finding >got
cat >want <<'END'
image A written as app:
  entry: image A, name "app"
  read without a name: works
image B written as app:
  entry: image A, name ""
  entry: image B, name "app"
  read without a name: more than one image in oci, choose an image
image A written as app again:
  entry: image A, name "app"
  entry: image B, name ""
  read without a name: more than one image in oci, choose an image
END
diff -u want got
cat got
