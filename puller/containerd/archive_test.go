package containerd_test

import (
	"bytes"
	"testing"

	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/archive"
	"github.com/pullkit/pullkit/puller/containerd"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// An image goes from one namespace into an archive, and from the archive into the namespace of
// the kubelet.
func TestImagesGoThroughAnArchive(t *testing.T) {
	onEach(t, func(t *testing.T, d *realtest.Containerd) {
		reg, r := startRegistry(t, pullertest.Config{}), newRaw(t, d, "k8s.io")
		image := putImage(t, reg, "app:v1", pullertest.ImageSpec{Platforms: platforms, Layers: []int64{1 << 20, 10}})
		from, to := open(t, d, containerd.Config{Namespace: "build"}), open(t, d, containerd.Config{})
		_, err := newPuller(t, from).Pull(t.Context(), puller.Request{Image: image})
		require.NoError(t, err)
		var file bytes.Buffer
		require.NoError(t, archive.Export(t.Context(), from, &file))
		for range 2 { // in the second round containerd has everything
			entries, err := archive.Import(t.Context(), to, bytes.NewReader(file.Bytes()), archive.Config{})
			require.NoError(t, err)
			require.Len(t, entries, 1)
			assert.Equal(t, reference.MustParse(image), entries[0].Ref)
			assert.Empty(t, r.leaseIDs(t))
			r.collect(t)
			assert.Contains(t, d.Ctr(t, "k8s.io", "images", "check", "name=="+image), "complete (")
		}
		assert.Len(t, r.records(t), 3)
	})
}
