#!/usr/bin/env bash
# containerd 2.4.2 makes different root file systems of one image with its overlayfs and its
# native snapshotter, and cannot unpack some images with overlayfs.
#
# With the native snapshotter containerd applies a layer to a copy of the layers below it. With
# overlayfs it applies the layer only to the upper directory, which is empty, and not to the
# mount. This has two effects.
#
# 1. A hard link to a file of a lower layer is an error, although the tar is valid and the
#    kernel's overlayfs would make the link.
# 2. If the path of a file leads through a symbolic link of a lower layer, the file is written
#    into a new directory, which hides the link. The image below has /lib -> /usr/lib, and its
#    second layer writes lib/new. With overlayfs /lib is then a directory without the files of
#    /usr/lib.
#
# podman stores layers as containerd's overlayfs snapshotter does.
#
# The script needs Go and its module proxy. It mounts nothing, and needs root only where the
# snapshotters need it. It exits with 0 as long as containerd behaves like this.
set -euo pipefail
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
cat >go.mod <<'END'
module finding

go 1.26.6

require github.com/containerd/containerd/v2 v2.4.2
END
cat >main.go <<'END'
package main

import (
	"archive/tar"
	"bytes"
	"context"
	_ "crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff/apply"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/rootfs"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/snapshots/native"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// layer stores a tar of entries.
func layer(ctx context.Context, store content.Store, entries ...tar.Header) rootfs.Layer {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		h.Mode = 0o755
		check(w.WriteHeader(&h))
	}
	check(w.Close())
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(b.Bytes()), Size: int64(b.Len())}
	check(content.WriteBlob(ctx, store, d.Digest.String(), &b, d))
	return rootfs.Layer{Diff: d, Blob: d}
}

func main() {
	ctx := namespaces.WithNamespace(context.Background(), "finding")
	store, err := local.NewStore("content")
	check(err)
	base := layer(ctx, store, tar.Header{Name: "a"}, tar.Header{Typeflag: tar.TypeDir, Name: "usr/lib"}, tar.Header{Name: "usr/lib/old"},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "lib", Linkname: "/usr/lib"})
	linked := layer(ctx, store, tar.Header{Typeflag: tar.TypeLink, Name: "b", Linkname: "a"})
	through := layer(ctx, store, tar.Header{Name: "lib/new"})
	for _, name := range []string{"native", "overlayfs"} {
		var sn snapshots.Snapshotter
		if name == "native" {
			sn, err = native.NewSnapshotter(name)
		} else {
			sn, err = overlay.NewSnapshotter(name)
		}
		check(err)
		_, err = rootfs.ApplyLayers(ctx, []rootfs.Layer{base, linked}, sn, apply.NewFileSystemApplier(store))
		fmt.Printf("%s: hard link to a lower layer: no such file: %t\n", name, errors.Is(err, fs.ErrNotExist) || err != nil && strings.Contains(err.Error(), "no such file"))
		id, err := rootfs.ApplyLayers(ctx, []rootfs.Layer{base, through}, sn, apply.NewFileSystemApplier(store))
		check(err)
		_, err = sn.View(ctx, "view", id.String())
		check(err)
		mounts, err := sn.Mounts(ctx, "view")
		check(err)
		top := mounts[0].Source // of native: all layers
		for _, o := range mounts[0].Options {
			if lower, ok := strings.CutPrefix(o, "lowerdir="); ok {
				top, _, _ = strings.Cut(lower, ":") // of overlayfs: the top layer
			}
		}
		info, err := os.Lstat(filepath.Join(top, "lib"))
		check(err)
		fmt.Printf("%s: lib is a directory in the top layer: %t\n", name, info.IsDir())
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
END
go mod tidy >log 2>&1 || { cat log; exit 1; }
go run . >got 2>log || { cat log; exit 1; }
cat >want <<'END'
native: hard link to a lower layer: no such file: false
native: lib is a directory in the top layer: false
overlayfs: hard link to a lower layer: no such file: true
overlayfs: lib is a directory in the top layer: true
END
diff -u want got
cat got
