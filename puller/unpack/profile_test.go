package unpack_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"path/filepath"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The layer of a profile can be a tar without a file, or with a link only. Such a profile is
// invalid.
func TestAProfileWithoutAFileIsAnError(t *testing.T) {
	reg, err := pullertest.Start(pullertest.Config{})
	require.NoError(t, err)
	defer reg.Close()
	dir := t.TempDir()
	store, err := layout.Open(filepath.Join(dir, "store"), layout.Config{})
	require.NoError(t, err)
	rt, err := transfer.New(transfer.Config{Store: store})
	require.NoError(t, err)
	p, err := puller.New(puller.Config{Runtime: rt})
	require.NoError(t, err)
	for _, header := range []*tar.Header{nil, {Typeflag: tar.TypeDir, Name: "d/", Mode: 0o755}, {Typeflag: tar.TypeSymlink, Name: "l", Linkname: "absent"}} {
		var layer bytes.Buffer
		w := tar.NewWriter(&layer)
		if header != nil {
			require.NoError(t, w.WriteHeader(header))
		}
		require.NoError(t, w.Close())
		image := putProfileLayer(reg, seccompConfig, ocispec.MediaTypeImageLayer, layer.String())
		_, err := pullProfile(t.Context(), p, store, puller.Request{Image: image}, dir)
		assert.ErrorIs(t, err, invalidProfile, fmt.Sprint(header))
	}
}
