package ocilayout

import (
	"encoding/json"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzDocument compares with encoding/json, which reads a document whole.
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
			return // encoding/json takes the last of two
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
