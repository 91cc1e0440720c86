#!/usr/bin/env bash
# If a mirror answers 429 to the GET of a blob, containerd 2.4.2 asks it five times, without a
# wait between the requests, before it asks the next host. It does the same if the answer has
# Retry-After. A mirror that answers 503, 500 or 404, or that cuts the connection, is asked
# once.
#
# The status 429 says that there are too many requests, and here it causes five times as many.
# A busy server in a list of mirrors therefore gets fewer requests if it answers 503.
#
# The script needs Go and its module proxy. It exits with 0 as long as containerd behaves
# like this.
set -euo pipefail
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
cat >go.mod <<'EOG'
module finding

go 1.25.0

require github.com/containerd/containerd/v2 v2.4.2
EOG
cat >main.go <<'EOG'
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func main() {
	blob := bytes.Repeat([]byte("blob"), 1000)
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(blob), Size: int64(len(blob))}
	for _, mirror := range []struct {
		name   string
		status int
		after  string
	}{{"404", 404, ""}, {"429", 429, ""}, {"429 with Retry-After", 429, "1"}, {"503", 503, ""}, {"503 with Retry-After", 503, "1"}, {"500", 500, ""}, {"cut", 0, ""}} {
		var mu sync.Mutex
		var asked []string
		note := func(who string, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, who+" "+r.Method)
		}
		one := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			note("mirror", r)
			if mirror.status == 0 {
				w.Header().Set("Content-Length", fmt.Sprint(len(blob)))
				w.Write(blob[:1000])
				panic(http.ErrAbortHandler)
			}
			if mirror.after != "" {
				w.Header().Set("Retry-After", mirror.after)
			}
			w.WriteHeader(mirror.status)
		}))
		one.Config.ErrorLog = log.New(io.Discard, "", 0)
		two := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			note("registry", r)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blob))
		}))
		host := func(s *httptest.Server) docker.RegistryHost {
			return docker.RegistryHost{Client: s.Client(), Host: strings.TrimPrefix(s.URL, "http://"), Scheme: "http", Path: "/v2",
				Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve}
		}
		resolver := docker.NewResolver(docker.ResolverOptions{Hosts: func(string) ([]docker.RegistryHost, error) {
			return []docker.RegistryHost{host(one), host(two)}, nil
		}})
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		began := time.Now()
		fetcher, err := resolver.Fetcher(ctx, "reg.example/app:v1")
		if err != nil {
			log.Fatal(err)
		}
		var data []byte
		r, err := fetcher.Fetch(ctx, desc)
		if err == nil {
			data, err = io.ReadAll(r)
			r.Close()
		}
		took := "at once"
		if time.Since(began) > 500*time.Millisecond {
			took = "after a wait"
		}
		fmt.Printf("%s: %d bytes, error %v, %s, asked %v\n", mirror.name, len(data), err, took, asked)
		cancel()
		one.Close()
		two.Close()
	}
}
EOG
go mod tidy >log 2>&1 || { cat log; exit 1; }
go run . | tee out
cat >want <<'EOG'
404: 4000 bytes, error <nil>, at once, asked [mirror GET registry GET]
429: 4000 bytes, error <nil>, at once, asked [mirror GET mirror GET mirror GET mirror GET mirror GET registry GET]
429 with Retry-After: 4000 bytes, error <nil>, at once, asked [mirror GET mirror GET mirror GET mirror GET mirror GET registry GET]
503: 4000 bytes, error <nil>, at once, asked [mirror GET registry GET]
503 with Retry-After: 4000 bytes, error <nil>, at once, asked [mirror GET registry GET]
500: 4000 bytes, error <nil>, at once, asked [mirror GET registry GET]
cut: 4000 bytes, error <nil>, at once, asked [mirror GET registry GET]
EOG
diff want out
