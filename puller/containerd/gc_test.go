package containerd_test

import (
	"context"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/containerd"
	"github.com/pullkit/pullkit/puller/gc"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A collector removes images from containerd, with all their names. It starts with the image that
// was not used for the longest time. It does not remove a pinned image, or an image that a
// container runtime reports as in use by its ID in CRI.
func TestImagesOfContainerdAreCollected(t *testing.T) {
	onEach(t, func(t *testing.T, d *realtest.Containerd) {
		reg, r := startRegistry(t, pullertest.Config{}), newRaw(t, d, "k8s.io")
		store := open(t, d, containerd.Config{Pin: func(ref reference.Reference) bool { return ref.Tag() == "pinned" }})
		p := newPuller(t, store)
		start, inUse, available := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC), "", int64(100)
		var hours atomic.Int64 // from start; atomic, because the collector calls Now in its own goroutines
		collector, err := gc.New(gc.Config{
			Images: gc.FromStore(store), Now: func() time.Time { return start.Add(time.Duration(hours.Load()) * time.Hour) }, StateDir: t.TempDir(),
			Usage: func(context.Context) (gc.Usage, error) {
				return gc.Usage{Capacity: 100 << 20, Available: available << 20}, nil
			},
			InUse: func(context.Context) iter.Seq2[string, error] {
				return func(yield func(string, error) bool) { yield(inUse, nil) }
			},
		})
		require.NoError(t, err)
		defer collector.Close()
		pull := func(name string, seed uint64) puller.Image {
			image, err := p.Pull(t.Context(), puller.Request{Image: putImage(t, reg, name, pullertest.ImageSpec{Platforms: platforms, Layers: []int64{3 << 20}, Seed: seed})})
			require.NoError(t, err)
			collector.Used(image.ID)
			hours.Add(1)
			return image
		}
		pinned, used := pull("app:pinned", 1), pull("app:used", 2)
		one, two := pull("app:one", 3), pull("app:two", 4)
		pull("app:too", 3) // another name of the image one, so that it was used later than two
		list, err := gc.FromStore(store).List(t.Context())
		require.NoError(t, err)
		require.Len(t, list, 4)
		for _, image := range list {
			assert.Equal(t, image.ID == pinned.ID, image.Pinned)
			assert.False(t, image.Foreign, image.Names)
		}
		for _, record := range r.records(t) {
			if desc := record.GetTarget().GetDigest(); desc == string(used.Digest) && len(record.GetName()) == 71 {
				inUse = record.GetName() // the ID in CRI: the digest of the config
			}
		}
		require.NotEmpty(t, inUse)

		available = 15
		report, err := collector.Round(t.Context())
		require.NoError(t, err)
		require.Len(t, report.Removed, 2, "6 MiB are freed, because 5 MiB are needed")
		assert.Equal(t, two.ID, report.Removed[0].Image.ID)
		assert.Equal(t, one.ID, report.Removed[1].Image.ID)
		assert.Greater(t, report.Freed, int64(6<<20))
		list, err = gc.FromStore(store).List(t.Context())
		require.NoError(t, err)
		assert.Len(t, list, 2)
		assert.Len(t, r.stored(t), 8, "index, manifest, config and layer of two images")

		// A tag moves to another image. The former one keeps its name with the digest, under
		// which it is listed and kept while it is in use.
		former := pull("app:moved", 5)
		inUse = former.ID
		pull("app:moved", 6)
		report, err = collector.RemoveUnused(t.Context())
		require.NoError(t, err)
		for _, removed := range report.Removed {
			assert.NotEqual(t, former.ID, removed.Image.ID)
		}
		list, err = gc.FromStore(store).List(t.Context())
		require.NoError(t, err)
		require.Len(t, list, 2, "the pinned one, and the one in use")
		assert.Contains(t, []string{list[0].ID, list[1].ID}, former.ID)
		assert.Len(t, r.stored(t), 8)
	})
}

// In a namespace that CRI does not use, an image has only the name that it was pulled by. When
// the name moves to another image, containerd removes the content of the former one, but a
// container keeps its unpacked layers.
func TestAContainerKeepsTheLayersOfAnImageWithoutAName(t *testing.T) {
	onEach(t, func(t *testing.T, d *realtest.Containerd) {
		reg, r := startRegistry(t, pullertest.Config{}), newRaw(t, d, "other")
		store := open(t, d, containerd.Config{Namespace: "other"})
		p := newPuller(t, store)
		pull := func(seed uint64) (puller.Image, string) {
			name := putImage(t, reg, "app:v1", pullertest.ImageSpec{Platforms: platforms, Layers: []int64{1 << 20}, Seed: seed})
			image, err := p.Pull(t.Context(), puller.Request{Image: name, Policy: pullpolicy.Always})
			require.NoError(t, err)
			return image, name
		}
		former, name := pull(1)
		d.Ctr(t, "other", "containers", "create", "--snapshotter", "native", name, "runs", "/bin/true")
		snapshots := func() int { // lines without the head
			return strings.Count(strings.TrimSpace(d.Ctr(t, "other", "snapshots", "--snapshotter", "native", "ls")), "\n")
		}
		require.Equal(t, 2, snapshots(), "the layer, and what the container writes")
		pull(2)
		r.collect(t)
		assert.Len(t, r.stored(t), 4)
		assert.NotContains(t, r.stored(t), former.Manifest)
		assert.Equal(t, 2, snapshots())
		entries, err := store.List(t.Context())
		require.NoError(t, err)
		removed, err := store.RemoveImage(t.Context(), entries, []digest.Digest{former.Manifest, former.Digest})
		require.NoError(t, err, "what is gone is not an error")
		assert.Equal(t, 4, removed.Blobs)
		assert.Equal(t, 2, snapshots())
		d.Ctr(t, "other", "containers", "delete", "runs")
		r.collect(t)
		assert.Zero(t, snapshots())
	})
}
