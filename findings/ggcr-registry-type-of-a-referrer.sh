#!/usr/bin/env bash
# In a list of referrers the registry of go-containerregistry 0.22.1 gives each artifact the
# media type of its config as artifactType, even if the manifest has an artifactType of its
# own. The OCI distribution specification 1.1 requires the artifactType of the manifest. The
# type of the config is only for a manifest without one. The registry also ignores the query
# artifactType, which the specification allows.
#
# So an artifact without a config, such as a signature, is listed with the type
# application/vnd.oci.empty.v1+json. A client that filters the list by the type of signatures
# finds none. It finds them if it reads the manifests of the entries with the empty type.
#
# The script needs Go and its module proxy. It exits with 0 as long as the registry behaves
# like this.
set -euo pipefail
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
cat >go.mod <<'EOG'
module finding

go 1.25.0

require github.com/google/go-containerregistry v0.22.1
EOG
cat >main.go <<'EOG'
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	server := httptest.NewServer(registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	put := func(method, path, mediaType string, body []byte) {
		req, _ := http.NewRequest(method, server.URL+path, bytes.NewReader(body))
		req.Header.Set("Content-Type", mediaType)
		res, err := http.DefaultClient.Do(req)
		if err != nil || res.StatusCode != 201 {
			log.Fatal(path, err, res)
		}
	}
	digest := func(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }
	const manifest = "application/vnd.oci.image.manifest.v1+json"
	empty := []byte("{}")
	put("POST", "/v2/app/blobs/uploads/?digest="+digest(empty), "application/octet-stream", empty)
	config := fmt.Sprintf(`{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2}`, digest(empty))
	image := []byte(`{"schemaVersion":2,"mediaType":"` + manifest + `","config":` + config + `,"layers":[]}`)
	put("PUT", "/v2/app/manifests/v1", manifest, image)
	signature := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"artifactType":"application/vnd.example.signature","config":%s,"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":%d}}`,
		manifest, config, manifest, digest(image), len(image))
	put("PUT", "/v2/app/manifests/"+digest(signature), manifest, signature)
	failed := false
	for _, query := range []string{"", "?artifactType=application/vnd.example.signature", "?artifactType=application/other"} {
		res, err := http.Get(server.URL + "/v2/app/referrers/" + digest(image) + query)
		if err != nil {
			log.Fatal(err)
		}
		var list struct {
			Manifests []struct{ ArtifactType string }
		}
		if err := json.NewDecoder(res.Body).Decode(&list); err != nil {
			log.Fatal(err)
		}
		res.Body.Close()
		fmt.Printf("referrers%s: %+v\n", query, list.Manifests)
		failed = failed || len(list.Manifests) != 1 || list.Manifests[0].ArtifactType != "application/vnd.oci.empty.v1+json"
	}
	if failed {
		fmt.Println("changed: the registry does not list the artifact with the type of its config")
		os.Exit(1)
	}
}
EOG
GOFLAGS=-mod=mod go mod tidy 2>/dev/null
go run .
