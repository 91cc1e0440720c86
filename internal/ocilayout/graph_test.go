package ocilayout

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzDocument compares ParseDocument with encoding/json.
func FuzzDocument(f *testing.F) {
	desc := `{"mediaType":"a/b","digest":"sha256:` + strings.Repeat("4", 64) + `","size":3}`
	f.Add([]byte(`{"config":` + desc + `,"layers":[` + desc + `,{}, ` + desc + `],"manifests":null}`))
	f.Add([]byte(`{"manifests":[` + desc + `],"blobs":[],"layers":[{"annotations":{"a":"` + strings.Repeat("x", 90) + `"}}]}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := ParseDocument(data)
		if err != nil {
			return
		}
		var members map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(data, &members), "%q", data)
		if hasDuplicates(data) {
			return // encoding/json takes the last of two members with the same key
		}
		short := false
		for key, got := range map[string][]ocispec.Descriptor{"manifests": doc.Manifests, "layers": doc.Layers, "blobs": doc.Blobs} {
			var all []json.RawMessage
			require.NoError(t, json.Unmarshal(or(members[key], `[]`), &all), "%q", data)
			var want []ocispec.Descriptor
			for _, raw := range all {
				if len(raw) < minDescriptor {
					short = true
					continue
				}
				var d ocispec.Descriptor
				require.NoError(t, json.Unmarshal(raw, &d), "%q", data)
				want = append(want, d)
			}
			assert.Equal(t, want, got, "%q", data)
		}
		assert.Equal(t, short, doc.empty, "%q", data)
	})
}

// A tree is a store with an index of two images. The second has a foreign layer that is
// not stored.
type tree struct {
	store                               pullertest.MemStore
	index, first, second, config, layer ocispec.Descriptor
}

func (tr *tree) put(t *testing.T, mediaType string, data string) ocispec.Descriptor {
	t.Helper()
	desc := descOf(mediaType, data)
	in, err := tr.store.Ingest(t.Context(), desc)
	require.NoError(t, err)
	_, err = in.WriteAt([]byte(data), 0)
	require.NoError(t, err)
	require.NoError(t, in.Commit(t.Context()))
	return desc
}

func descOf(mediaType, data string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.Digest(fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(data)))), Size: int64(len(data))}
}

func documentOf(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	require.NoError(t, err)
	return string(data)
}

func newTree(t *testing.T) *tree {
	tr := new(tree)
	tr.config = tr.put(t, ocispec.MediaTypeImageConfig, "{}")
	tr.layer = tr.put(t, ocispec.MediaTypeImageLayer, "a layer")
	foreign := descOf(ocispec.MediaTypeImageLayer, "elsewhere")
	foreign.URLs = []string{"https://elsewhere.example/layer"}
	tr.first = tr.put(t, ocispec.MediaTypeImageManifest, documentOf(t, map[string]any{"config": tr.config, "layers": []any{tr.layer}}))
	tr.second = tr.put(t, ocispec.MediaTypeImageManifest, documentOf(t, map[string]any{"config": tr.config, "layers": []any{tr.layer, foreign}}))
	tr.index = tr.put(t, ocispec.MediaTypeImageIndex, documentOf(t, map[string]any{"manifests": []any{tr.first, tr.second}}))
	return tr
}

func TestCompleteNeedsAllPartsOfOneImage(t *testing.T) {
	tr := newTree(t)
	absent := descOf(ocispec.MediaTypeImageLayer, "absent")
	for name, tt := range map[string]struct {
		desc ocispec.Descriptor
		want bool
	}{
		"a manifest":                           {tr.first, true},
		"with a foreign layer":                 {tr.second, true},
		"an index":                             {tr.index, true},
		"a blob":                               {tr.layer, true},
		"a blob that is not stored":            {absent, false},
		"a manifest whose layer is not stored": {tr.put(t, ocispec.MediaTypeImageManifest, documentOf(t, map[string]any{"layers": []any{absent}})), false},
		"an index that lists nothing stored":   {tr.put(t, ocispec.MediaTypeImageIndex, documentOf(t, map[string]any{"manifests": []any{descOf(ocispec.MediaTypeImageManifest, "absent too")}})), false},
		"an index that lists nothing":          {tr.put(t, ocispec.MediaTypeImageIndex, `{"manifests":[]}`), true},
		"an index of an index":                 {tr.put(t, ocispec.MediaTypeImageIndex, documentOf(t, map[string]any{"manifests": []any{tr.index}})), true},
		"a manifest that is not JSON":          {tr.put(t, ocispec.MediaTypeImageManifest, `not JSON`), true},
		"a layer without a digest":             {tr.put(t, ocispec.MediaTypeImageManifest, `{"layers":[{}]}`), false},
		"a malformed digest":                   {ocispec.Descriptor{Digest: "sha256:../../x"}, false},
		"a blob that is shorter than its size": {ocispec.Descriptor{MediaType: tr.first.MediaType, Digest: tr.first.Digest, Size: tr.first.Size + 1}, false},
	} {
		ok, err := Complete(t.Context(), &tr.store, tt.desc)
		require.NoError(t, err, name)
		assert.Equal(t, tt.want, ok, name)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Complete(ctx, &tr.store, tr.first)
	assert.ErrorIs(t, err, context.Canceled)
}

func TestOnlyImageIsTheOneStoredImageOfAnIndex(t *testing.T) {
	tr := newTree(t)
	one := tr.put(t, ocispec.MediaTypeImageIndex, documentOf(t, map[string]any{"manifests": []any{descOf(ocispec.MediaTypeImageManifest, "absent"), tr.second, tr.second}}))
	for _, tt := range []struct{ desc, want ocispec.Descriptor }{{tr.index, tr.index}, {one, tr.second}, {tr.first, tr.first}} {
		got, err := OnlyImage(t.Context(), &tr.store, tt.desc)
		require.NoError(t, err)
		assert.Equal(t, tt.want.Digest, got.Digest)
	}
	for manifest, want := range map[*ocispec.Descriptor]bool{&tr.second: true, &tr.first: false} {
		ok, err := Lists(t.Context(), &tr.store, one, *manifest)
		require.NoError(t, err)
		assert.Equal(t, want, ok)
	}
	ok, err := Lists(t.Context(), &tr.store, descOf(ocispec.MediaTypeImageIndex, "absent"), tr.first)
	require.NoError(t, err)
	assert.False(t, ok)
}

func TestWalkVisitsEachDescriptorOnce(t *testing.T) {
	tr := newTree(t)
	var stored, absent []digest.Digest
	seen := make(map[digest.Digest]bool)
	for range 2 { // nothing is visited twice
		require.NoError(t, Walk(t.Context(), &tr.store, tr.index, seen, func(desc ocispec.Descriptor, ok bool) {
			if ok {
				stored = append(stored, desc.Digest)
			} else {
				absent = append(absent, desc.Digest)
			}
		}))
	}
	assert.Equal(t, []digest.Digest{tr.index.Digest, tr.first.Digest, tr.config.Digest, tr.layer.Digest, tr.second.Digest}, stored)
	assert.Equal(t, []digest.Digest{descOf("", "elsewhere").Digest}, absent)
}

func TestReadBlobRefusesLargeAndMissingBlobs(t *testing.T) {
	tr := newTree(t)
	data, err := ReadBlob(t.Context(), &tr.store, tr.layer)
	require.NoError(t, err)
	assert.Equal(t, "a layer", string(data))
	large := tr.layer
	large.Size = MaxDocument + 1
	_, err = ReadBlob(t.Context(), &tr.store, large)
	assert.ErrorContains(t, err, "more than")
	_, err = ReadBlob(t.Context(), &tr.store, descOf("", "absent"))
	assert.ErrorIs(t, err, fs.ErrNotExist)
}
