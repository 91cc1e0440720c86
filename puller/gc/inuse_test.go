package gc_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/gc"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A movedTag is a layout in which a tag has moved to another image. The store does not list the
// former image any more, and a third image has its layers too. All was used two hours ago.
type movedTag struct {
	*site
	now         *clock
	store       *layout.Layout // with that clock
	name        string         // the tag
	put         pullertest.PutResult
	former      puller.Image
	third, next puller.Image
}

func newMovedTag(t *testing.T) *movedTag {
	t.Helper()
	dir := t.TempDir()
	m := &movedTag{site: newSite(t, dir, puller.Config{}), now: newClock()}
	var err error
	m.store, err = layout.Open(dir, layout.Config{Now: m.now.Now})
	require.NoError(t, err)
	t.Cleanup(func() { m.store.Close() })
	m.name = m.push(t, "team/app:v1", 1, 30_000, 2000)
	m.put = m.site.put["team/app:v1"]
	m.former = pull(t, m.puller, m.name)
	m.third = pull(t, m.puller, m.push(t, "team/third:v1", 1, 30_000, 2000, 500))
	m.push(t, "team/app:v1", 2, 700)
	m.next, err = m.puller.Pull(t.Context(), puller.Request{Image: m.name, Policy: "Always"})
	require.NoError(t, err)
	require.NotEqual(t, m.former.ID, m.next.ID)
	m.now.pass(2 * time.Hour)
	list, err := gc.FromStore(m.store).List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 2)
	for _, image := range list {
		require.NotEqual(t, m.former.ID, image.ID)
	}
	return m
}

// size returns the size of all blobs.
func (m *movedTag) size(t *testing.T) (size int64) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(m.store.Dir(), "blobs", "sha256"))
	require.NoError(t, err)
	for _, e := range entries {
		info, err := e.Info()
		require.NoError(t, err)
		size += info.Size()
	}
	return size
}

// has returns how many of the former image's blobs are stored: manifest, config and layers.
func (m *movedTag) has(t *testing.T) (n int) {
	t.Helper()
	for _, d := range append(m.put.Blobs, m.put.Manifests...) {
		ok, err := m.store.Has(t.Context(), d)
		require.NoError(t, err)
		if ok {
			n++
		}
	}
	return n
}

// An image that is in use stays when its tag has moved, in a round for its age or for space and
// in RemoveUnused, although the store does not list it and removes an image with the same
// layers. What is freed is what is not on the disk any more.
func TestAnImageInUseStaysWithoutAName(t *testing.T) {
	index := func(m *movedTag) string { return string(m.former.Digest) }
	repo := func(m *movedTag) string { return strings.TrimSuffix(m.name, ":v1") }
	inUse := map[string]func(m *movedTag) string{
		"ID":                     func(m *movedTag) string { return m.former.ID },
		"name@digest":            func(m *movedTag) string { return repo(m) + "@" + m.former.ID },
		"index":                  index,
		"name:tag@digest":        func(m *movedTag) string { return m.name + "@" + index(m) },
		"a runtime's own prefix": func(m *movedTag) string { return "pullable://" + repo(m) + "@" + index(m) },
	}
	collect := map[string]func(*gc.Collector) (gc.Report, error){
		"space":  func(c *gc.Collector) (gc.Report, error) { return c.Round(t.Context()) },
		"unused": func(c *gc.Collector) (gc.Report, error) { return c.RemoveUnused(t.Context()) },
	}
	for what, name := range inUse {
		for how, round := range collect {
			t.Run(what+", "+how, func(t *testing.T) {
				m := newMovedTag(t)
				whole := len(m.put.Blobs) + 1
				require.Equal(t, whole, m.has(t))
				before := m.size(t)
				c := collector(t, gc.Config{Images: gc.FromStore(m.store), Now: m.now.Now, MinAge: -1, InUse: of("registry.example/other:v1", name(m)), Usage: usage(1<<40, 0)})
				report, err := round(c)
				if how == "space" {
					assert.ErrorIs(t, err, gc.ErrNotEnough)
				} else {
					require.NoError(t, err)
				}
				assert.Len(t, report.Removed, 2)
				assert.Equal(t, before-m.size(t), report.Freed)
				assert.Equal(t, whole, m.has(t))
				assert.Positive(t, report.Freed)

				c = collector(t, gc.Config{Images: gc.FromStore(m.store), Now: m.now.Now, MinAge: -1, Usage: usage(1<<40, 0), StateDir: t.TempDir()})
				before = m.size(t)
				m.now.pass(2 * time.Hour) // has was a use
				report, err = c.RemoveUnused(t.Context())
				require.NoError(t, err)
				assert.Zero(t, m.has(t), "it is not in use any more")
				assert.Equal(t, before, report.Pruned)
			})
		}
	}
	t.Run("age", func(t *testing.T) {
		m := newMovedTag(t)
		c := collector(t, gc.Config{Images: gc.FromStore(m.store), Now: m.now.Now, MaxAge: time.Hour, InUse: of(m.former.ID), Usage: usage(100, 90)})
		_, err := c.Round(t.Context())
		require.NoError(t, err)
		m.now.pass(2 * time.Hour)
		before := m.size(t)
		report, err := c.Round(t.Context())
		require.NoError(t, err)
		require.Len(t, report.Removed, 2)
		assert.Equal(t, gc.ReasonAge, report.Removed[0].Reason)
		assert.Equal(t, before-m.size(t), report.Freed)
		assert.Equal(t, len(m.put.Blobs)+1, m.has(t))
	})
	t.Run("as the kubelet", func(t *testing.T) {
		m := newMovedTag(t)
		c := collector(t, gc.Config{Images: gc.FromStore(m.store), Now: m.now.Now, MinAge: -1, AsKubelet: true, InUse: of(m.former.ID), Usage: usage(1<<40, 0)})
		report, err := c.RemoveUnused(t.Context())
		require.NoError(t, err)
		require.Len(t, report.Removed, 2)
		assert.Equal(t, len(m.put.Blobs)+1, m.has(t))
	})
}

// The tag by which an image was started does not say which image that was.
func TestATagThatHasMovedKeepsTheImageThatHasItNow(t *testing.T) {
	m := newMovedTag(t)
	c := collector(t, gc.Config{Images: gc.FromStore(m.store), Now: m.now.Now, MinAge: -1, InUse: of(m.name), Usage: usage(1<<40, 0)})
	report, err := c.RemoveUnused(t.Context())
	require.NoError(t, err)
	require.Len(t, report.Removed, 1)
	assert.Equal(t, m.third.ID, report.Removed[0].Image.ID)
	assert.Zero(t, m.has(t))
	e, err := c.Explain(t.Context())
	require.NoError(t, err)
	require.Len(t, e.Images, 1)
	assert.Equal(t, m.next.ID, e.Images[0].Image.ID)
}

// If the manifest of an image in use is damaged, which content it needs is not known. A round
// then removes no content, and says which manifest it is.
func TestADamagedImageInUseEndsTheRemoval(t *testing.T) {
	m := newMovedTag(t)
	manifest := m.put.Manifests[0].Digest
	path := filepath.Join(m.store.Dir(), "blobs", "sha256", manifest.Encoded())
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	data[len(data)/2] ^= 1
	require.NoError(t, os.WriteFile(path, data, 0o644))
	before := m.size(t)
	c := collector(t, gc.Config{Images: gc.FromStore(m.store), Now: m.now.Now, MinAge: -1, InUse: of(string(m.former.Digest)), Usage: usage(1<<40, 0)})
	report, err := c.RemoveUnused(t.Context())
	assert.Equal(t, content.ErrStore, content.ReasonOf(err), "%v", err)
	assert.ErrorContains(t, err, "manifest "+string(manifest))
	assert.Empty(t, report.Removed)
	assert.Zero(t, report.Freed)
	assert.Equal(t, before, m.size(t))
}

// Names and IDs that are no digests of the store, and thousands of them, are no errors.
func TestWhatIsInUseNeedNotBeStored(t *testing.T) {
	m := newMovedTag(t)
	names := []string{"", "@", "sha256:", "app@sha256:0", "/bin/sh@md5:1", strings.Repeat("@", 100), m.former.ID}
	for i := range 5000 {
		names = append(names, "registry.example/app@"+digest.FromString(fmt.Sprint(i)).String())
	}
	c := collector(t, gc.Config{Images: gc.FromStore(m.store), Now: m.now.Now, MinAge: -1, InUse: of(names...), Usage: usage(1<<40, 0)})
	report, err := c.RemoveUnused(t.Context())
	require.NoError(t, err)
	assert.Len(t, report.Removed, 2)
	require.NoError(t, m.store.Tag(t.Context(), reference.MustParse("registry.example/app:v1"), ocispec.Descriptor{
		MediaType: m.put.Manifests[0].MediaType, Digest: m.put.Manifests[0].Digest, Size: m.put.Manifests[0].Size,
	}), "after a removal, Tag looks for all content")
}

// An image that was used less than MinAge ago stays too when its tag has moved, although no
// container has it yet.
func TestAYoungImageStaysWithoutAName(t *testing.T) {
	m := newMovedTag(t)
	c := collector(t, gc.Config{Images: gc.FromStore(m.store), Now: m.now.Now, MinAge: time.Minute, Usage: usage(1<<40, 1<<39)})
	_, err := c.Round(t.Context())
	require.NoError(t, err)
	m.now.pass(2 * time.Hour)
	c.Used(m.former.ID)
	files := func() (n int) { // unlike has, this is not a use
		for _, d := range append(m.put.Blobs, m.put.Manifests...) {
			if _, err := os.Lstat(filepath.Join(m.store.Dir(), "blobs", "sha256", d.Digest.Encoded())); err == nil {
				n++
			}
		}
		return n
	}
	for i := range 2 {
		m.now.pass(20 * time.Second)
		report, err := c.RemoveUnused(t.Context())
		require.NoError(t, err)
		assert.Len(t, report.Removed, 2-2*i, "the third image has the same layers")
		assert.Equal(t, len(m.put.Blobs)+1, files())
	}
	m.now.pass(2 * time.Hour)
	report, err := c.RemoveUnused(t.Context())
	require.NoError(t, err)
	assert.Positive(t, report.Pruned)
	assert.Zero(t, files())
}
