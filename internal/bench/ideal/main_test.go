package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestEachWayOfFetchingStoresTheContent: each way of fetching stores the right content, with the
// expected ranges and number of connections.
func TestEachWayOfFetchingStoresTheContent(t *testing.T) {
	large, little := bytes.Repeat([]byte("large"), 4<<20), []byte("little")
	blobs := map[string][]byte{}
	var manifest ocispec.Manifest
	for _, content := range [][]byte{large, little} {
		d := digest.FromBytes(content)
		blobs[d.String()] = content
		manifest.Layers = append(manifest.Layers, ocispec.Descriptor{Digest: d, Size: int64(len(content))})
	}
	manifest.Config = manifest.Layers[1]
	manifest.Layers = manifest.Layers[:1]
	document, err := json.Marshal(manifest)
	require.NoError(t, err)

	var mu sync.Mutex
	var ranges []string
	connections := map[string]bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		if name == "1" {
			_, _ = w.Write(document)
			return
		}
		mu.Lock()
		ranges = append(ranges, r.Header.Get("Range"))
		connections[r.RemoteAddr] = true
		mu.Unlock()
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blobs[name]))
	}))
	defer server.Close()
	image := strings.TrimPrefix(server.URL, "http://") + "/app:1"
	for name, tt := range map[string]struct {
		fetcher fetcher
		ranges  []string
	}{
		"inline": {fetcher{copy: copyInline, connections: 2}, []string{"", ""}},
		"pipe":   {fetcher{copy: copyPipe, connections: 1, parts: true}, []string{"", ""}},
		"parts": {fetcher{copy: copyPipe, connections: 2, parts: true}, []string{
			"", "bytes=0-8388607", "bytes=8388608-16777215", "bytes=16777216-20971519",
		}},
	} {
		ranges, connections = nil, map[string]bool{}
		dir := t.TempDir()
		tt.fetcher.scheme = "http://"
		require.NoError(t, tt.fetcher.image(t.Context(), image, dir), name)
		assert.ElementsMatch(t, tt.ranges, ranges, name)
		assert.LessOrEqual(t, len(connections), tt.fetcher.connections+1, "one connection had only the manifest: %s", name)
		for d, content := range blobs {
			got, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", digest.Digest(d).Encoded()))
			require.NoError(t, err)
			assert.True(t, bytes.Equal(content, got), name)
		}
	}
	blobs[digest.FromBytes(large).String()] = append([]byte("other"), large[5:]...)
	for _, parts := range []bool{false, true} {
		f := fetcher{copy: copyPipe, connections: 2, parts: parts, scheme: "http://"}
		assert.ErrorContains(t, f.image(t.Context(), image, t.TempDir()), "got sha256:")
	}
}
