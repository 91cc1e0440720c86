package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Each layer is unpacked into a directory of its own, and both of its digests are compared.
func TestUnpackingComparesBothDigests(t *testing.T) {
	var plain, packed bytes.Buffer
	archive := tar.NewWriter(&plain)
	require.NoError(t, archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o755}))
	require.NoError(t, archive.WriteHeader(&tar.Header{Name: "d/a", Mode: 0o644, Size: 1}))
	_, err := archive.Write([]byte("1"))
	require.NoError(t, err)
	require.NoError(t, archive.Close())
	gz := gzip.NewWriter(&packed)
	_, err = gz.Write(plain.Bytes())
	require.NoError(t, err)
	require.NoError(t, gz.Close())
	for name, tt := range map[string]struct {
		diffID, layer digest.Digest
		ok            bool
	}{
		"right":           {digest.FromBytes(plain.Bytes()), digest.FromBytes(packed.Bytes()), true},
		"another tar":     {digest.FromString("x"), digest.FromBytes(packed.Bytes()), false},
		"another content": {digest.FromBytes(plain.Bytes()), digest.FromString("x"), false},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := json.Marshal(ocispec.Image{RootFS: ocispec.RootFS{DiffIDs: []digest.Digest{tt.diffID}}})
			require.NoError(t, err)
			manifest, err := json.Marshal(ocispec.Manifest{
				Config: ocispec.Descriptor{Digest: digest.FromBytes(config), Size: int64(len(config))},
				Layers: []ocispec.Descriptor{{Digest: tt.layer, Size: int64(packed.Len())}},
			})
			require.NoError(t, err)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body := manifest
				switch {
				case strings.HasSuffix(r.URL.Path, digest.FromBytes(config).String()):
					body = config
				case strings.HasSuffix(r.URL.Path, tt.layer.String()):
					body = packed.Bytes()
				}
				_, _ = w.Write(body)
			}))
			defer server.Close()
			dir := t.TempDir()
			f := fetcher{scheme: "http://", unpacks: true, connections: 2}
			err = f.image(t.Context(), strings.TrimPrefix(server.URL, "http://")+"/app:1", dir)
			if !tt.ok {
				assert.Error(t, err)
				return
			}
			require.NoError(t, err)
			data, err := os.ReadFile(filepath.Join(dir, "unpacked", "0", "d", "a"))
			require.NoError(t, err)
			assert.Equal(t, "1", string(data))
		})
	}
}
