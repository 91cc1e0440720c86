package gc_test

import (
	"context"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/gc"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}

// A site is a registry with images, and a layout that they are pulled into.
type site struct {
	registry *pullertest.Registry
	store    *layout.Layout
	puller   *puller.Puller
	put      map[string]pullertest.PutResult
}

func newSite(t *testing.T, dir string, conf puller.Config) *site {
	t.Helper()
	reg, err := pullertest.Start(pullertest.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { reg.Close() })
	s := &site{registry: reg, put: map[string]pullertest.PutResult{}}
	s.store, s.puller = s.open(t, dir, conf)
	return s
}

// open opens the layout as another process does.
func (s *site) open(t *testing.T, dir string, conf puller.Config) (*layout.Layout, *puller.Puller) {
	t.Helper()
	store, err := layout.Open(dir, layout.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { store.Close() })
	rt, err := transfer.New(transfer.Config{Store: store})
	require.NoError(t, err)
	conf.Runtime, conf.Platform = rt, amd64
	p, err := puller.New(conf)
	require.NoError(t, err)
	return store, p
}

// push puts an image into the registry. Images with one seed share their layers.
func (s *site) push(t *testing.T, name string, seed uint64, layers ...int64) string {
	t.Helper()
	put, err := s.registry.PutImage(name, pullertest.ImageSpec{Platforms: []ocispec.Platform{amd64}, Layers: layers, Seed: seed})
	require.NoError(t, err)
	s.put[name] = put
	return s.registry.Host() + "/" + name
}

func pull(t *testing.T, p *puller.Puller, name string) puller.Image {
	t.Helper()
	image, err := p.Pull(t.Context(), puller.Request{Image: name})
	require.NoError(t, err)
	return image
}

// A clock can be set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now()} }

func (c *clock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }

func (c *clock) pass(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.now = c.now.Add(d) }

func collector(t *testing.T, cfg gc.Config) *gc.Collector {
	t.Helper()
	c, err := gc.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	return c
}

// of yields names that are in use.
func of(names ...string) func(context.Context) iter.Seq2[string, error] {
	return func(context.Context) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			for _, name := range names {
				if !yield(name, nil) {
					return
				}
			}
		}
	}
}

func usage(capacity, available int64) func(context.Context) (gc.Usage, error) {
	return func(context.Context) (gc.Usage, error) {
		return gc.Usage{Capacity: capacity, Available: available}, nil
	}
}

// An image is a manifest with all its names. Its ID is that of a puller.Image. Its size
// counts each blob once. InUse may also yield the ID that a container runtime has for it.
func TestImagesOfALayout(t *testing.T) {
	s := newSite(t, t.TempDir(), puller.Config{})
	one, same := s.push(t, "team/app:v1", 1, 3000, 200), s.push(t, "team/app:v2", 1, 3000, 200)
	image := pull(t, s.puller, one)
	assert.Equal(t, image.ID, pull(t, s.puller, same).ID)
	images := gc.FromStore(s.store)
	list, err := images.List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 1)
	assert.Equal(t, image.ID, list[0].ID)
	assert.Equal(t, []string{one, same}, list[0].Names)
	assert.Equal(t, image.Size, list[0].Size)
	assert.False(t, list[0].Foreign)
	assert.Equal(t, s.store.Dir(), images.(gc.Directory).Dir())

	data, err := fs.ReadFile(s.store.FS(), "sha256/"+image.Manifest.Encoded())
	require.NoError(t, err)
	config := strings.SplitN(strings.SplitN(string(data), `"config":`, 2)[1], `"digest":"`, 2)[1][:71]
	repo := strings.TrimSuffix(one, ":v1")
	for _, name := range []string{one, same, image.ID, config, string(image.Digest), repo + "@" + string(image.Digest), repo + "@" + image.ID} {
		c := collector(t, gc.Config{Images: images, InUse: of(name), MinAge: -1})
		report, err := c.RemoveUnused(t.Context())
		require.NoError(t, err)
		assert.Empty(t, report.Removed, name)
	}
	c := collector(t, gc.Config{Images: images, InUse: of(repo+":v3", "sha256:"+strings.Repeat("0", 64)), MinAge: -1})
	report, err := c.RemoveUnused(t.Context())
	require.NoError(t, err)
	require.Len(t, report.Removed, 1)
	list, err = images.List(t.Context())
	require.NoError(t, err)
	assert.Empty(t, list)
	for d, err := range s.store.Verify(t.Context()) {
		t.Errorf("%s is left: %v", d, err)
	}
}

// A layout with all images of an index, and an entry without a whole name.
func TestImagesOfOtherTools(t *testing.T) {
	dir := t.TempDir()
	s := newSite(t, dir, puller.Config{})
	arm64 := ocispec.Platform{OS: "linux", Architecture: "arm64"}
	put, err := s.registry.PutImage("team/both:v1", pullertest.ImageSpec{Platforms: []ocispec.Platform{amd64, arm64}, Layers: []int64{500}, Seed: 7})
	require.NoError(t, err)
	name := s.registry.Host() + "/team/both:v1"
	var ids []string
	for _, platform := range []ocispec.Platform{amd64, arm64} {
		image, err := s.puller.Pull(t.Context(), puller.Request{Image: name, Platform: platform})
		require.NoError(t, err)
		ids = append(ids, image.ID)
	}
	images := gc.FromStore(s.store)
	list, err := images.List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 1)
	assert.Equal(t, string(put.Descriptor.Digest), list[0].ID)
	assert.Equal(t, ids, list[0].Parts)

	// The last use of a part counts for the image, and the records of the parts are kept.
	now := newClock()
	var stored []bool
	c := collector(t, gc.Config{Images: images, Now: now.Now, MaxAge: time.Hour, Usage: usage(100, 90), Sweep: func(_ context.Context, _ time.Time, has func(string) bool) error {
		stored = []bool{has(ids[0]), has(ids[1]), has(list[0].ID)}
		return nil
	}})
	_, err = c.Round(t.Context())
	require.NoError(t, err)
	now.pass(50 * time.Minute)
	c.Used(ids[1])
	c.Used("of an image that is not stored")
	now.pass(50 * time.Minute)
	report, err := c.Round(t.Context())
	require.NoError(t, err)
	assert.Empty(t, report.Removed)
	assert.Equal(t, []bool{true, true, true}, stored)
	now.pass(50 * time.Minute)
	report, err = c.Round(t.Context())
	require.NoError(t, err)
	require.Len(t, report.Removed, 1)
	assert.Equal(t, gc.ReasonAge, report.Removed[0].Reason)
	assert.Equal(t, []bool{false, false, false}, stored)
	list, err = images.List(t.Context())
	require.NoError(t, err)
	assert.Empty(t, list)
}

// foreignStore is a store with an entry that has only a bare tag.
type foreignStore struct{ content.Remover }

func (s foreignStore) List(ctx context.Context) ([]content.Entry, error) {
	entries, err := s.Remover.List(ctx)
	mine := entries[0]
	mine.Ref, mine.Name = reference.Reference{}, "mine"
	return append(entries, mine), err
}

func TestAnImageWithANameOfAnotherProgramIsKept(t *testing.T) {
	s := newSite(t, t.TempDir(), puller.Config{})
	name := s.push(t, "team/app:v1", 1, 3000)
	pull(t, s.puller, name)
	images := gc.FromStore(foreignStore{s.store})
	assert.Empty(t, images.(gc.Directory).Dir())
	_, err := gc.New(gc.Config{Images: images})
	assert.ErrorContains(t, err, "Config.Usage is nil")
	c := collector(t, gc.Config{Images: images, MinAge: -1, Usage: usage(100, 0)})
	report, err := c.Round(t.Context())
	assert.ErrorIs(t, err, gc.ErrNotEnough)
	assert.Empty(t, report.Removed)
	e, err := c.Explain(t.Context())
	require.NoError(t, err)
	assert.Equal(t, gc.ReasonForeign, e.Images[0].Reason)
}

// pinningStore is a store that pins images by a name.
type pinningStore struct {
	content.Remover
	pins string
}

func (s pinningStore) Pinned(_ context.Context, entries ...content.Entry) (bool, error) {
	if s.pins == "" {
		return false, fs.ErrPermission
	}
	return strings.Contains(entries[0].Name, s.pins), nil
}

func TestTheStorePinsImages(t *testing.T) {
	s := newSite(t, t.TempDir(), puller.Config{})
	for i, name := range []string{"team/app:v1", "team/pause:v1"} {
		pull(t, s.puller, s.push(t, name, uint64(i), 300))
	}
	c := collector(t, gc.Config{Images: gc.FromStore(pinningStore{s.store, ""}), MinAge: -1, Usage: usage(100, 0)})
	_, err := c.Round(t.Context())
	assert.ErrorIs(t, err, fs.ErrPermission, "if it is not known which images are pinned, nothing is removed")
	c = collector(t, gc.Config{Images: gc.FromStore(pinningStore{s.store, "/pause"}), MinAge: -1, Usage: usage(100, 0)})
	report, err := c.RemoveUnused(t.Context())
	require.NoError(t, err)
	require.Len(t, report.Removed, 1)
	assert.Contains(t, report.Removed[0].Image.Names[0], "/app")
}

// A round first removes content that no image needs, such as the rest of a removal that was
// killed.
func TestARoundRemovesContentWithoutAName(t *testing.T) {
	now := newClock()
	dir := t.TempDir()
	s := newSite(t, dir, puller.Config{})
	image := pull(t, s.puller, s.push(t, "team/app:v1", 1, 3000))
	old, err := layout.Open(dir, layout.Config{Now: now.Now})
	require.NoError(t, err)
	defer old.Close()
	desc := ocispec.Descriptor{MediaType: "text/plain", Digest: digest.FromString("left over"), Size: 9}
	in, err := old.Ingest(t.Context(), desc)
	require.NoError(t, err)
	_, err = in.WriteAt([]byte("left over"), 0)
	require.NoError(t, err)
	require.NoError(t, in.Commit(t.Context()))
	c := collector(t, gc.Config{Images: gc.FromStore(old), Now: now.Now, InUse: of(image.ID), Usage: usage(100, 15)})
	now.pass(2 * time.Hour)
	report, err := c.Round(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 9, report.Pruned)
	assert.EqualValues(t, 9, report.Freed)
	assert.EqualValues(t, 5, report.ToFree)
}

// An image can list a manifest that is larger than any that is read. It does not stop the
// collection of images, and goes as others do.
func TestAnImageThatListsALargeManifest(t *testing.T) {
	for _, stored := range []bool{false, true} {
		s := newSite(t, t.TempDir(), puller.Config{})
		image := pull(t, s.puller, s.push(t, "team/app:v1", 1, 3000))
		add := func(mediaType string, data []byte) ocispec.Descriptor {
			desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
			in, err := s.store.Ingest(t.Context(), desc)
			require.NoError(t, err)
			_, err = in.WriteAt(data, 0)
			require.NoError(t, err)
			require.NoError(t, in.Commit(t.Context()))
			return desc
		}
		large := []byte("{}" + strings.Repeat(" ", 5<<20))
		listed := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(large), Size: int64(len(large))}
		if stored {
			listed = add(listed.MediaType, large)
		}
		index := add(ocispec.MediaTypeImageIndex, fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`, listed.MediaType, listed.Digest, listed.Size))
		require.NoError(t, s.store.Tag(t.Context(), reference.MustParse("registry.example/stranger:v1"), index))
		c := collector(t, gc.Config{Images: gc.FromStore(s.store), MinAge: -1, InUse: of(image.ID), Usage: usage(1<<40, 0)})
		_, err := c.Explain(t.Context())
		require.NoError(t, err)
		report, err := c.RemoveUnused(t.Context())
		require.NoError(t, err)
		require.Len(t, report.Removed, 1)
		assert.Equal(t, []string{"registry.example/stranger:v1"}, report.Removed[0].Image.Names)
		ok, err := s.store.Has(t.Context(), listed)
		require.NoError(t, err)
		assert.False(t, ok)
	}
}

// The puller's records of removed images are swept, and those of others are kept.
func TestRecordsAreSweptAfterARemoval(t *testing.T) {
	dir, now := t.TempDir(), newClock()
	access, err := records.Open(filepath.Join(dir, "records"))
	require.NoError(t, err)
	defer access.Close()
	var c *gc.Collector
	s := newSite(t, filepath.Join(dir, "images"), puller.Config{Records: access, Used: func(image puller.Image) { c.Used(image.ID) }})
	c = collector(t, gc.Config{Images: gc.FromStore(s.store), Now: now.Now, Sweep: s.puller.Sweep, MaxAge: time.Hour, Usage: usage(100, 90)})
	one, two := pull(t, s.puller, s.push(t, "team/one:v1", 1, 3000)), pull(t, s.puller, s.push(t, "team/two:v1", 2, 3000))
	now.pass(50 * time.Minute)
	pull(t, s.puller, s.registry.Host()+"/team/two:v1") // present
	now.pass(20 * time.Minute)
	report, err := c.Round(t.Context())
	require.NoError(t, err)
	require.Len(t, report.Removed, 1)
	assert.Equal(t, one.ID, report.Removed[0].Image.ID)
	_, err = access.Record(t.Context(), two.ID)
	require.NoError(t, err)
	_, err = access.Record(t.Context(), one.ID)
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

// Pulls and rounds of two processes run at the same time. Each pull succeeds, and each
// image that has a name at the end is complete.
func TestPullsGoOnWhileTwoProcessesCollect(t *testing.T) {
	dir := t.TempDir()
	s := newSite(t, dir, puller.Config{})
	var names []string
	for i := range 6 {
		names = append(names, s.push(t, fmt.Sprintf("team/app:v%d", i), uint64(i/2), 2000, 300)) // pairs share their layers
	}
	done := make(chan struct{})
	var pulls, rounding sync.WaitGroup
	for i := range 3 {
		_, p := s.open(t, dir, puller.Config{Parallel: -1})
		pulls.Go(func() {
			for j := range rounds.Of(100) {
				name := names[(i*7+j)%len(names)]
				if _, err := p.Pull(t.Context(), puller.Request{Image: name, Policy: "Always"}); err != nil {
					assert.NoError(t, err)
					return
				}
			}
		})
	}
	removed := make([]int, 2)
	for i := range removed {
		store, _ := s.open(t, dir, puller.Config{})
		c := collector(t, gc.Config{Images: gc.FromStore(store), MinAge: -1, Usage: usage(1<<40, 0)})
		rounding.Go(func() {
			for {
				report, err := c.RemoveUnused(t.Context())
				assert.NoError(t, err)
				removed[i] += len(report.Removed)
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	pulls.Wait()
	close(done)
	rounding.Wait()
	assert.Positive(t, removed[0]+removed[1])
	for d, err := range s.store.Verify(t.Context()) {
		assert.NoError(t, err, d)
	}
	list, err := gc.FromStore(s.store).List(t.Context())
	require.NoError(t, err)
	for _, image := range list {
		for _, name := range image.Names {
			_, err := s.puller.Pull(t.Context(), puller.Request{Image: name, Policy: "Never"})
			assert.NoError(t, err, name)
		}
	}
}
