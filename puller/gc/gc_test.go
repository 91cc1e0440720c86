package gc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A node is an Images with a file system and a clock of its own.
type node struct {
	images  []Image
	frees   map[string]int64 // how many bytes the removal of an image frees; without an entry, its Size
	stuck   map[string]error // errors of removals
	removed []string
	inUse   []string
	useErr  error
	listErr error
	onList  func()
	onDrop  func(id string)
	total   int64
	free    int64
	now     time.Time
	swept   []map[string]bool
}

func newNode() *node {
	return &node{total: 1000, free: 100, now: time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC), frees: map[string]int64{}, stuck: map[string]error{}}
}

func (n *node) add(id string, size int64) { n.images = append(n.images, Image{ID: id, Size: size}) }

func (n *node) List(context.Context) ([]Image, error) {
	if n.onList != nil {
		n.onList()
	}
	return slices.Clone(n.images), n.listErr
}

func (n *node) Remove(_ context.Context, image Image, _ []digest.Digest) (int64, error) {
	if n.onDrop != nil {
		n.onDrop(image.ID)
	}
	if err := n.stuck[image.ID]; err != nil {
		return 0, err
	}
	n.removed = append(n.removed, image.ID)
	n.images = slices.DeleteFunc(n.images, func(i Image) bool { return i.ID == image.ID })
	freed, ok := n.frees[image.ID]
	if !ok {
		freed = image.Size
	}
	n.free += freed
	return freed, nil
}

func (n *node) config() Config {
	return Config{
		Images: n,
		Usage:  func(context.Context) (Usage, error) { return Usage{n.total, n.free}, nil },
		Now:    func() time.Time { return n.now },
		InUse: func(context.Context) iter.Seq2[string, error] {
			return func(yield func(string, error) bool) {
				for _, id := range n.inUse {
					if !yield(id, nil) {
						return
					}
				}
				if n.useErr != nil {
					yield("", n.useErr)
				}
			}
		},
		Sweep: func(_ context.Context, before time.Time, stored func(string) bool) error {
			left := map[string]bool{}
			for i := range 20 {
				if id := fmt.Sprint("i", i); stored(id) {
					left[id] = true
				}
			}
			n.swept = append(n.swept, left)
			return nil
		},
	}
}

func start(t *testing.T, cfg Config) *Collector {
	t.Helper()
	c, err := New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	return c
}

// pass moves the clock by d, and then runs a round of the collector.
func (n *node) pass(t *testing.T, c *Collector, d time.Duration) {
	t.Helper()
	n.now = n.now.Add(d)
	_, err := c.Round(t.Context())
	require.NoError(t, err)
}

func TestNewRefusesWhatIsNotValid(t *testing.T) {
	usage := func(context.Context) (Usage, error) { return Usage{}, nil }
	for want, cfg := range map[string]Config{
		"Config.Images is nil":    {},
		"Config.Usage is nil":     {Images: newNode()},
		"at most 100":             {Images: newNode(), Usage: usage, High: 101},
		"must not be higher":      {Images: newNode(), Usage: usage, High: 70},
		"Config.MaxAge is -1ns":   {Images: newNode(), Usage: usage, MaxAge: -1},
		"set only one of the two": {Images: newNode(), Usage: usage, AsKubelet: true, StateDir: "x"},
	} {
		_, err := New(cfg)
		assert.ErrorContains(t, err, want)
	}
}

// The image that was not used for the longest time is removed first, and no more images
// than necessary are removed.
func TestRoundFreesSpaceDownToTheLowThreshold(t *testing.T) {
	n := newNode()
	n.free = 500
	c := start(t, n.config())
	for i := range 5 {
		n.add(fmt.Sprint("i", i), 60)
		n.pass(t, c, time.Hour)
	}
	n.inUse = []string{"i0"}
	n.pass(t, c, time.Hour)
	n.inUse = nil
	n.free = 150 // 85 % are used
	n.now = n.now.Add(time.Hour)
	report, err := c.Round(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"i1"}, n.removed, "i0 was used later")
	assert.Equal(t, Report{
		Removed: []Removed{{Image: Image{ID: "i1", Size: 60}, Reason: ReasonSpace, Freed: 60}},
		Before:  Usage{1000, 150}, After: Usage{1000, 210}, ToFree: 50, Freed: 60,
	}, report)
	assert.Equal(t, []map[string]bool{{"i0": true, "i2": true, "i3": true, "i4": true}}, n.swept)

	n.free = 151 // 84.9 %, rounded up as the kubelet does
	report, err = c.Round(t.Context())
	require.NoError(t, err)
	assert.Positive(t, report.ToFree)
	n.free = 160
	report, err = c.Round(t.Context())
	require.NoError(t, err)
	assert.Empty(t, report.Removed)
	assert.Zero(t, report.ToFree)
}

// Shared content counts once: the round goes on until the bytes are really free.
func TestFreedBytesAreThoseThatBecameFree(t *testing.T) {
	for kubelet, want := range map[bool]int{false: 4, true: 1} {
		n := newNode()
		cfg := n.config()
		cfg.AsKubelet = kubelet
		c := start(t, cfg)
		n.free = 500
		for i := range 4 {
			n.add(fmt.Sprint("i", i), 200)
			n.frees[fmt.Sprint("i", i)] = 30 // the rest is a layer that all images share
			n.pass(t, c, time.Hour)
		}
		n.frees["i3"] = 170
		n.now, n.free = n.now.Add(time.Hour), 100
		report, err := c.Round(t.Context())
		assert.NoError(t, err)
		assert.Len(t, n.removed, want, "kubelet %v", kubelet)
		if !kubelet {
			assert.Equal(t, report.After.Available-report.Before.Available, report.Freed)
		}
	}
}

// A store can free more than it counts. The round stops when the file system has enough room.
func TestARoundStopsWhenTheFileSystemHasEnoughRoom(t *testing.T) {
	n := newNode()
	c := start(t, n.config())
	n.free = 500
	for i := range 4 {
		n.add(fmt.Sprint("i", i), 100)
		n.frees[fmt.Sprint("i", i)] = 10
		n.pass(t, c, time.Hour)
	}
	n.now, n.free = n.now.Add(time.Hour), 100
	n.onDrop = func(string) { n.free += 60 } // unpacked layers
	report, err := c.Round(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"i0", "i1"}, n.removed)
	assert.EqualValues(t, 20, report.Freed)
	assert.EqualValues(t, 240, report.After.Available)
}

// An image that came a moment ago and was never used is not older than the maximum age. In
// the kubelet it is.
func TestAnImageThatWasNeverUsedIsAsOldAsItsPull(t *testing.T) {
	for kubelet, want := range map[bool][]string{false: {"i0"}, true: {"i0", "i1"}} {
		n := newNode()
		n.free = 900
		cfg := n.config()
		cfg.MaxAge, cfg.AsKubelet = 24*time.Hour, kubelet
		c := start(t, cfg)
		n.add("i0", 10)
		n.pass(t, c, time.Second)
		n.now = n.now.Add(25 * time.Hour)
		n.add("i1", 10) // pulled ahead, a moment ago
		report, err := c.Round(t.Context())
		require.NoError(t, err)
		assert.Equal(t, want, n.removed, "kubelet %v", kubelet)
		assert.Equal(t, ReasonAge, report.Removed[0].Reason)
		assert.Equal(t, !kubelet, len(n.swept) == 1, "the kubelet sweeps only after it has freed space")
	}
}

// Used counts from the pull, and protects an image also while a round runs.
func TestUsedKeepsAnImage(t *testing.T) {
	n := newNode()
	cfg := n.config()
	cfg.MinAge = -1
	c := start(t, cfg)
	n.free = 500
	for i := range 3 {
		n.add(fmt.Sprint("i", i), 10)
		n.pass(t, c, time.Minute)
	}
	n.free = 100
	n.now = n.now.Add(time.Hour)
	n.onDrop = func(id string) {
		if id == "i0" {
			c.Used("i1") // a pull finds it present
		}
	}
	_, err := c.Round(t.Context())
	assert.ErrorIs(t, err, ErrNotEnough)
	assert.Equal(t, []string{"i0", "i2"}, n.removed)
}

// A round can take long. An image that is used while the round runs is not too old any more.
func TestUsedKeepsAnOldImage(t *testing.T) {
	n := newNode()
	cfg := n.config()
	cfg.MinAge, cfg.MaxAge = -1, time.Hour
	c := start(t, cfg)
	n.free = 500
	for i := range 3 {
		n.add(fmt.Sprint("i", i), 10)
		n.pass(t, c, time.Second)
	}
	n.now = n.now.Add(2 * time.Hour)
	n.onDrop = func(id string) {
		if id == "i0" {
			n.now = n.now.Add(time.Second)
			c.Used("i1") // a pull finds it present
		}
	}
	report, err := c.Round(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"i0", "i2"}, n.removed)
	assert.Equal(t, ReasonAge, report.Removed[1].Reason)
}

// If it is not known which images are in use, nothing is removed.
func TestAnErrorOfInUseRemovesNothing(t *testing.T) {
	n := newNode()
	c := start(t, n.config())
	n.add("i0", 900)
	n.add("i1", 900)
	n.free = 500
	n.pass(t, c, time.Second)
	n.now, n.free = n.now.Add(time.Hour), 0
	n.inUse, n.useErr = []string{"i0"}, errors.New("the runtime does not answer")
	for _, round := range []func(context.Context) (Report, error){c.Round, c.RemoveUnused} {
		report, err := round(t.Context())
		assert.ErrorIs(t, err, n.useErr)
		assert.Zero(t, report)
	}
	_, err := c.Explain(t.Context())
	assert.ErrorIs(t, err, n.useErr)
	n.useErr, n.listErr = nil, errors.New("the store does not answer")
	_, err = c.Round(t.Context())
	assert.ErrorIs(t, err, n.listErr)
	n.listErr = nil
	c.config.InUse = func(context.Context) iter.Seq2[string, error] { return nil }
	_, err = c.Round(t.Context())
	assert.ErrorContains(t, err, "returned nil")
	assert.Empty(t, n.removed)
	assert.Empty(t, n.swept)
}

// If an image cannot be removed, the round removes the next one. An image that has changed
// since it was listed is kept without an error, and counts as used.
func TestRoundGoesOnAfterAnImageThatIsKept(t *testing.T) {
	n := newNode()
	cfg := n.config()
	cfg.MaxAge = 24 * time.Hour
	c := start(t, cfg)
	for i := range 5 {
		n.add(fmt.Sprint("i", i), 100)
		n.free = 900
		n.pass(t, c, time.Minute)
	}
	n.stuck["i0"] = errors.New("the disk is read-only")
	n.stuck["i1"] = fmt.Errorf("pulled: %w", content.ErrChanged)
	n.now, n.free = n.now.Add(24*time.Hour-90*time.Second), 100 // i0 to i2 are too old
	report, err := c.Round(t.Context())
	assert.ErrorIs(t, err, n.stuck["i0"])
	assert.NotErrorIs(t, err, content.ErrChanged)
	assert.NotErrorIs(t, err, ErrNotEnough)
	assert.Equal(t, []string{"i2"}, n.removed[:1])
	assert.Equal(t, ReasonAge, report.Removed[0].Reason)
	e, err := c.Explain(t.Context())
	require.NoError(t, err)
	for _, v := range e.Images {
		if v.Image.ID == "i1" {
			assert.Equal(t, ReasonYoung, v.Reason)
			assert.Equal(t, n.now, v.LastUsed)
		}
	}
}

func TestAnErrorSaysThatTooLittleBecameFree(t *testing.T) {
	n := newNode()
	c := start(t, n.config())
	n.free = 900
	n.add("i0", 10)
	n.pass(t, c, time.Second)
	n.now, n.free = n.now.Add(time.Hour), 0
	report, err := c.Round(t.Context())
	assert.ErrorIs(t, err, ErrNotEnough)
	assert.EqualError(t, err, "gc: the removal of unused images did not free enough space: 100% of 1000 B were used, 200 B had to become free, and 10 B became free; the rest is images that must stay, or other files")
	assert.Len(t, report.Removed, 1)
	n.total = 0
	_, err = c.Round(t.Context())
	assert.ErrorContains(t, err, "must be more than 0")
}

// Images are in use by ID, by the ID of a part, and by names in any spelling.
func TestAnImageIsInUseByAnyOfItsNames(t *testing.T) {
	d := "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	image := Image{ID: "id", Parts: []string{"part"}, Names: []string{"docker.io/library/busybox:1.36", "docker.io/library/busybox@" + d}, aliases: []string{"config", ""}}
	for name, want := range map[string]bool{
		"id": true, "part": true, "config": true, "busybox:1.36": true, "docker.io/busybox:1.36": true, "busybox@" + d: true, "busybox:7@" + d: true,
		"": false, "busybox": false, "busybox:1.37": false, "other@" + d: false, d: false, "BAD NAME": false,
	} {
		n := newNode()
		n.inUse = []string{name}
		_, used, err := start(t, n.config()).look(t.Context())
		require.NoError(t, err)
		assert.Equal(t, want, used.has(image), name)
	}
}

func TestExplainSaysWhyEachImageIsKeptOrGoes(t *testing.T) {
	n := newNode()
	n.free = 900
	cfg := n.config()
	cfg.MaxAge = 24 * time.Hour
	cfg.Pinned = func(i Image) bool { return i.ID == "pinned too" }
	c := start(t, cfg)
	n.add("old", 1)
	n.add("used", 1)
	n.add("pinned too", 1)
	n.images = append(n.images, Image{ID: "pinned", Pinned: true}, Image{ID: "foreign", Foreign: true})
	n.pass(t, c, time.Second)
	n.now = n.now.Add(25 * time.Hour)
	n.add("b", 1)
	n.add("a", 1)
	c.Used("a")
	c.Used("b")
	n.now = n.now.Add(time.Hour)
	c.Used("b")
	n.now = n.now.Add(time.Hour)
	n.images = append(n.images, Image{ID: "new", Names: []string{"docker.io/library/x\n:1"}})
	n.inUse, n.free = []string{"used"}, 100
	before := fmt.Sprint(c.records)
	e, err := c.Explain(t.Context())
	require.NoError(t, err)
	assert.Equal(t, before, fmt.Sprint(c.records), "Explain changes nothing")
	assert.Equal(t, Usage{1000, 100}, e.Usage)
	assert.EqualValues(t, 100, e.ToFree)
	var got []string
	for _, v := range e.Images {
		got = append(got, v.String())
	}
	assert.Equal(t, []string{
		`"old": number 1: removed in the next round, because it was not used for the maximum age (never used, first seen 2026-11-29T12:00:01Z)`,
		`"a": number 2: removed when space is needed (last used 2026-11-30T13:00:01Z)`,
		`"b": number 3: removed when space is needed (last used 2026-11-30T14:00:01Z)`,
		`"used": kept, because it is in use (last used 2026-11-30T15:00:01Z)`,
		`"pinned too": kept, because it is pinned (never used, first seen 2026-11-29T12:00:01Z)`,
		`"pinned": kept, because it is pinned (never used, first seen 2026-11-29T12:00:01Z)`,
		`"foreign": kept, because another program gave it a name that no pull writes (never used, first seen 2026-11-29T12:00:01Z)`,
		`"docker.io/library/x\n:1": kept until 2026-11-30T15:02:01Z, because it came or was used a short time ago (never used, first seen 2026-11-30T15:00:01Z)`,
	}, got)

	n.inUse = nil // the container has just ended
	report, err := c.RemoveUnused(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"old", "used", "a", "b"}, idsOf(report))
}

func idsOf(report Report) []string {
	var ids []string
	for _, r := range report.Removed {
		ids = append(ids, r.Image.ID)
	}
	return ids
}

// A round that waits for another round ends with its context.
func TestRoundWaitsForTheRoundThatRuns(t *testing.T) {
	n := newNode()
	c := start(t, n.config())
	ctx, cancel := context.WithCancel(t.Context())
	n.onList = func() {
		n.onList = nil
		cancel()
		_, err := c.Round(ctx)
		assert.ErrorIs(t, err, context.Canceled)
	}
	n.free = 900
	_, err := c.Round(t.Context())
	require.NoError(t, err)
}

// When the context ends, the round stops before the next image.
func TestRoundStopsWhenItsContextEnds(t *testing.T) {
	n := newNode()
	c := start(t, n.config())
	n.free = 900
	for i := range 3 {
		n.add(fmt.Sprint("i", i), 1)
	}
	n.pass(t, c, time.Second)
	n.now, n.free = n.now.Add(time.Hour), 0
	ctx, cancel := context.WithCancel(t.Context())
	n.onDrop = func(string) { cancel() }
	report, err := c.Round(ctx)
	assert.ErrorIs(t, err, context.Canceled)
	assert.NotErrorIs(t, err, ErrNotEnough)
	assert.Len(t, report.Removed, 1)
}

// The collector decides as the kubelet's own image manager has decided for the same
// images. internal/oracle made the vectors.
func TestVectorsOfTheKubelet(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "vectors", "kubelet.json"))
	require.NoError(t, err)
	var file struct {
		Source string
		Worlds []struct {
			High, Low      int
			MinAge, MaxAge time.Duration
			Rounds         []struct {
				After  time.Duration
				All    bool
				Images []struct {
					ID            string
					Size          int64
					Pinned, Stuck bool
				}
				InUse, Mounted                    []string
				ListFails, InUseFails, UsageFails bool
				Capacity, Available               int64
				Removed                           []string
				Swept, Failed                     bool
			}
		}
	}
	require.NoError(t, json.Unmarshal(data, &file))
	require.Contains(t, file.Source, "realImageGCManager")
	rounds, removals := 0, 0
	none := func(n int) int {
		if n == 0 {
			return -1
		}
		return n
	}
	broken := errors.New("broken")
	for w, world := range file.Worlds {
		n := newNode()
		cfg := n.config()
		cfg.High, cfg.Low, cfg.MinAge, cfg.MaxAge, cfg.AsKubelet = none(world.High), none(world.Low), world.MinAge, world.MaxAge, true
		if cfg.MinAge == 0 {
			cfg.MinAge = -1
		}
		usageFails, full := false, Usage{}
		cfg.Usage = func(context.Context) (Usage, error) {
			if usageFails {
				return Usage{}, broken
			}
			return full, nil
		}
		c := start(t, cfg)
		for i, round := range world.Rounds {
			what := fmt.Sprintf("world %d, round %d", w, i)
			n.now = n.now.Add(round.After)
			n.images, n.stuck, n.removed, n.swept = nil, map[string]error{}, nil, nil
			var tried []string
			n.onDrop = func(id string) { tried = append(tried, id) }
			for _, image := range round.Images {
				n.images = append(n.images, Image{ID: image.ID, Size: image.Size, Pinned: image.Pinned})
				if image.Stuck {
					n.stuck[image.ID] = broken
				}
			}
			n.inUse, n.useErr, n.listErr, usageFails = append(round.InUse, round.Mounted...), nil, nil, round.UsageFails
			if round.InUseFails {
				n.useErr = broken
			}
			if round.ListFails {
				n.listErr = broken
			}
			full = Usage{round.Capacity, round.Available}
			run := c.Round
			if round.All {
				run = c.RemoveUnused
			}
			_, err := run(t.Context())
			require.Equal(t, round.Removed, tried, what)
			require.Equal(t, round.Failed, err != nil, "%s: %v", what, err)
			require.Equal(t, round.Swept, len(n.swept) > 0, what)
			rounds, removals = rounds+1, removals+len(tried)
		}
	}
	assert.Greater(t, rounds, 500)
	assert.Greater(t, removals, 200)
}
