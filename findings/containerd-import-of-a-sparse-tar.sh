#!/usr/bin/env bash
# If GNU tar has packed an OCI archive with --sparse, containerd 2.4.2 imports it without the
# layers that have holes, and reports no error.
#
# `tar --sparse` has two formats. In the format "gnu", which is the default, a file with holes
# is an entry of type 'S'. In the format "posix" it is an ordinary entry. Go's archive/tar
# reads both: it reports the first as TypeGNUSparse and the second as TypeReg. The importer of
# containerd takes entries of TypeReg, and logs entries of other types at debug level. So after
# the import of the archive in the format "gnu", index.json, manifest and config are in the
# content store, and the layer is not. After the import of the other archive of the same layout
# it is. An uncompressed layer with a megabyte of zeros is enough, because programs that copy
# files, and file systems, make holes of zeros.
#
# The script needs Go and its module proxy, GNU tar, and a temporary folder on a file
# system with holes. It exits with 0 as long as containerd behaves like this.
set -euo pipefail
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
cat >go.mod <<'END'
module finding

go 1.25.0

require github.com/containerd/containerd/v2 v2.4.2
END
cat >main.go <<'END'
package main

import (
	"archive/tar"
	"context"
	_ "crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

func main() {
	layer := digest.Digest(os.Args[1])
	for _, name := range os.Args[2:] {
		f, err := os.Open(name)
		check(err)
		for r := tar.NewReader(f); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			check(err)
			if h.Size > 1<<20 {
				fmt.Printf("%s: the layer's entry has type %q\n", name, h.Typeflag)
			}
		}
		_, err = f.Seek(0, io.SeekStart)
		check(err)
		store, err := local.NewStore(name + ".store")
		check(err)
		ctx := namespaces.WithNamespace(context.Background(), "finding")
		_, err = archive.ImportIndex(ctx, store, f)
		fmt.Println(name+": error of the import:", err)
		_, err = store.Info(ctx, layer)
		fmt.Println(name+": the store lacks the layer:", errdefs.IsNotFound(err))
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
END
go mod tidy >log 2>&1 || { cat log; exit 1; }

blob() { # stores the file $1 with its holes under its digest and prints "digest size"
	sum=$(sha256sum "$1" | cut -d' ' -f1)
	cp --sparse=always "$1" "layout/blobs/sha256/$sum"
	echo "sha256:$sum $(stat -c %s "$1")"
}
mkdir -p layout/blobs/sha256
printf '{"imageLayoutVersion":"1.0.0"}' >layout/oci-layout
truncate -s 1M layer
printf x >>layer
read -r layer l < <(blob layer)
printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["%s"]}}' "$layer" >config
read -r config c < <(blob config)
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":%d},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"%s","size":%d}]}' "$config" "$c" "$layer" "$l" >manifest
read -r manifest m < <(blob manifest)
printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":%d,"annotations":{"org.opencontainers.image.ref.name":"v1"}}]}' "$manifest" "$m" >layout/index.json
tar -C layout --format=gnu --sparse -cf gnu.tar .
tar -C layout --format=posix --sparse -cf posix.tar .

go run . "$layer" gnu.tar posix.tar >got
cat >want <<'END'
gnu.tar: the layer's entry has type 'S'
gnu.tar: error of the import: <nil>
gnu.tar: the store lacks the layer: true
posix.tar: the layer's entry has type '0'
posix.tar: error of the import: <nil>
posix.tar: the store lacks the layer: false
END
diff -u want got
cat got
