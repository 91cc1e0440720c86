package transfer_test

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestForeignLayerThatIsMissing: the error says that the addresses which the
// manifest lists for the layer were not followed.
func TestForeignLayerThatIsMissing(t *testing.T) {
	for _, urls := range [][]string{{"https://elsewhere.example/layer"}, nil} {
		s := newTown(t, []byte("a layer"))
		var m ocispec.Manifest
		require.NoError(t, json.Unmarshal(s.doc, &m))
		m.Layers[0].URLs = urls
		var err error
		s.doc, err = json.Marshal(m)
		require.NoError(t, err)
		layer := "/v2/team/app/blobs/" + m.Layers[0].Digest.String()
		s.hosts["r.example"] = func(w http.ResponseWriter, r *http.Request, blob []byte) {
			if r.URL.Path == layer {
				http.NotFound(w, r)
				return
			}
			honest(w, r, blob)
		}
		err = s.pull(s.client(""))
		require.ErrorIs(t, err, fs.ErrNotExist)
		if urls == nil {
			assert.NotContains(t, err.Error(), "urls")
		} else {
			assert.Contains(t, err.Error(), "(urls), which are not followed")
		}
	}
}
