package containerd_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/containerd"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The disk of containerd is full. The error says so, and the bytes that have arrived are removed,
// so that they do not take up the room. When the disk has room again, the pull succeeds.
func TestAFullDiskLeavesNoPartial(t *testing.T) {
	onEach(t, func(t *testing.T, d *realtest.Containerd) {
		reg, r := startRegistry(t, pullertest.Config{}), newRaw(t, d, "k8s.io")
		image := putImage(t, reg, "app:v1", pullertest.ImageSpec{Platforms: platforms, Layers: []int64{20 << 20}})
		dir := filepath.Join(d.Root, "io.containerd.content.v1.content", "ingest")
		require.NoError(t, os.MkdirAll(dir, 0o755))
		require.NoError(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"))
		full := true
		unmount := func() {
			if full {
				full = false
				require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH))
			}
		}
		t.Cleanup(unmount)
		store := open(t, d, containerd.Config{})
		data := make([]byte, 20<<20)
		in, err := store.Ingest(t.Context(), ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(data), Size: int64(len(data))})
		require.NoError(t, err)
		_, err = in.WriteAt(data, 0)
		require.ErrorIs(t, err, content.ErrNoSpace)
		assert.Equal(t, content.ErrStore, content.ReasonOf(err))
		require.NoError(t, in.Discard())
		require.NoError(t, in.Close())
		var left int64
		require.NoError(t, filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
			left += info.Size()
			return err
		}))
		assert.Less(t, left, int64(1<<20), "bytes in the directory of ingests")
		unmount()
		_, err = newPuller(t, store).Pull(t.Context(), puller.Request{Image: image, Policy: "Always"})
		require.NoError(t, err)
		assert.Contains(t, d.Ctr(t, "k8s.io", "images", "check", "name=="+image), "complete (")
		assert.Empty(t, r.leaseIDs(t))
	})
}
