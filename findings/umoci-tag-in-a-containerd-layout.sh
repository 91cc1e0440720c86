#!/usr/bin/env bash
# An image that umoci 0.6.0 derives in an OCI layout of containerd replaces the original image
# when containerd 2.4.2 imports the layout.
#
# An export of containerd names each entry by two annotations: io.containerd.image.name has the
# whole name, and org.opencontainers.image.ref.name has the tag. When umoci derives an image, it
# copies all annotations of the original entry and replaces only
# org.opencontainers.image.ref.name. So the new entry "patched" still has
# io.containerd.image.name = registry.example/app:v1. containerd takes the name from that
# annotation. Its import stores one image, registry.example/app:v1, which is the derived image.
# The original image is not stored, no image has the name "patched", and the import reports no
# error.
#
# The script needs Go and its module proxy. It exits with 0 as long as umoci behaves like
# this.
set -euo pipefail
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
cat >go.mod <<'EOF'
module finding

go 1.25.0

require (
	github.com/containerd/containerd/v2 v2.4.2
	github.com/opencontainers/umoci v0.6.0
)
EOF
cat >tools.go <<'EOF'
//go:build tools

package main

import _ "github.com/opencontainers/umoci/cmd/umoci"
EOF
cat >main.go <<'EOF'
package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/platforms"
	"go.etcd.io/bbolt"
)

func main() {
	original := writeLayout("layout")
	out, err := exec.Command("./umoci", "config", "--image", "layout:v1", "--tag", "patched", "--config.label", "a=b").CombinedOutput()
	if err != nil {
		log.Fatalf("umoci: %v: %s", err, out)
	}
	var index struct {
		Manifests []struct {
			Digest      string
			Annotations map[string]string
		}
	}
	text, err := os.ReadFile("layout/index.json")
	check(err)
	check(json.Unmarshal(text, &index))
	for _, m := range index.Manifests {
		fmt.Println("entry", m.Annotations["org.opencontainers.image.ref.name"], "of", m.Annotations["io.containerd.image.name"], which(m.Digest, original))
	}

	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	check(w.AddFS(os.DirFS("layout")))
	check(w.Close())
	client := newClient()
	ctx := namespaces.WithNamespace(context.Background(), "default")
	_, err = client.Import(ctx, &archive, containerd.WithAllPlatforms(true))
	fmt.Println("import error:", err)
	images, err := client.ImageService().List(ctx)
	check(err)
	for _, i := range images {
		fmt.Println("stored", i.Name, which(i.Target.Digest.String(), original))
	}
}

func which(digest, original string) string {
	if digest == original {
		return "(original)"
	}
	return "(derived)"
}

// writeLayout makes a layout with one image without layers and returns its digest.
func writeLayout(dir string) string {
	check(os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755))
	blob := func(text string) (string, int) {
		sum := fmt.Sprintf("%x", sha256.Sum256([]byte(text)))
		check(os.WriteFile(filepath.Join(dir, "blobs", "sha256", sum), []byte(text), 0o644))
		return "sha256:" + sum, len(text)
	}
	const mediaType = "application/vnd.oci.image.manifest.v1+json"
	config, n := blob(`{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}`)
	manifest, m := blob(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[]}`, mediaType, config, n))
	check(os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644))
	check(os.WriteFile(filepath.Join(dir, "index.json"), fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d,
		"annotations":{"io.containerd.image.name":"registry.example/app:v1","org.opencontainers.image.ref.name":"v1"}}]}`, mediaType, manifest, m), 0o644))
	return manifest
}

// newClient returns a containerd client whose stores are in this process.
func newClient() *containerd.Client {
	check(os.Mkdir("state", 0o755))
	store, err := local.NewStore("state")
	check(err)
	bolt, err := bbolt.Open("state/meta.db", 0o600, nil)
	check(err)
	db := metadata.NewDB(bolt, store, nil)
	client, err := containerd.New("", containerd.WithDefaultPlatform(platforms.All), containerd.WithServices(
		containerd.WithContentStore(db.ContentStore()),
		containerd.WithImageStore(metadata.NewImageStore(db)),
		containerd.WithLeasesService(metadata.NewLeaseManager(db))))
	check(err)
	return client
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
EOF
go mod tidy >/dev/null 2>&1
go build -o umoci github.com/opencontainers/umoci/cmd/umoci
go run . >got 2>log || { cat log; exit 1; }
cat >want <<'EOF'
entry v1 of registry.example/app:v1 (original)
entry patched of registry.example/app:v1 (derived)
import error: <nil>
stored registry.example/app:v1 (derived)
EOF
diff -u want got
cat got
