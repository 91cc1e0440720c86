package layout

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fill names n images in one go, all of them img.
func fill(t testing.TB, l *Layout, img *testImage, n int) {
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	err := l.edit(t.Context(), func(ctx context.Context, ix *indexFile) error {
		for i := range n - 1 {
			e, err := l.entryFor(ctx, reference.MustParse(fmt.Sprintf("registry.example/team/full%d:v1", i)), img.index)
			if err != nil {
				return err
			}
			ix.set(e)
		}
		return nil
	})
	require.NoError(t, err)
}

// One more image costs a layout of 4,900 at most twice what it costs one of 50,
// and 50 ms when a new process adds it to 5,000. The layouts take turns, so that
// whatever else the machine does meets both.
func TestGrowth(t *testing.T) {
	const rounds = 100
	small, big := openTest(t, t.TempDir()), openTest(t, t.TempDir())
	first := newTestImage(t, "registry.example/team/first:v1", 0, 2000)
	fill(t, small, first, 50)
	fill(t, big, first, 4900)
	var took [2]time.Duration
	for i := range rounds {
		img := newTestImage(t, fmt.Sprintf("registry.example/team/app%d:v1", i), i+1, 2000)
		for j, l := range []*Layout{small, big} {
			start := time.Now()
			require.NoError(t, (&testPuller{l: l, oneByOne: true}).pull(t.Context(), img))
			took[j] += time.Since(start)
		}
	}
	t.Logf("one image more: %v in a layout of 50, %v in one of 4,900", took[0]/rounds, took[1]/rounds)
	assert.Less(t, took[1], 2*took[0])

	best := time.Hour
	for i := range 10 {
		img := newTestImage(t, fmt.Sprintf("registry.example/team/single%d:v1", i), 1000+i, 2000)
		start := time.Now()
		l, err := Open(big.Dir())
		require.NoError(t, err)
		require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
		best = min(best, time.Since(start))
		require.NoError(t, l.Close())
	}
	t.Logf("a single image added to 5,000 by a new process: %v", best)
	assert.Less(t, best, raceFactor*50*time.Millisecond)
}

// To look a name up in a layout of thousands reads nothing.
func TestLookupReadsNothing(t *testing.T) {
	disk := newMemDisk()
	var ops []string
	l, err := openFS("mem", &hookFS{&memFS{disk}, func(op, name string) error { ops = append(ops, op+" "+name); return nil }}, Config{})
	require.NoError(t, err)
	data, desc := blobOf(1, 100)
	store(t, l, desc, data)
	ref := reference.MustParse("busybox:1.36")
	require.NoError(t, l.Tag(t.Context(), ref, desc))
	ops = nil
	for range 2 {
		_, err = l.Lookup(t.Context(), ref)
		require.NoError(t, err)
	}
	assert.Equal(t, []string{"lstat index.json", "lstat index.json"}, ops)

	other, err := openFS("mem", &memFS{disk}, Config{})
	require.NoError(t, err)
	_, err = other.Remove(t.Context(), ref)
	require.NoError(t, err)
	_, err = l.Lookup(t.Context(), ref)
	assert.Error(t, err, "what another process does is seen")
}

// A tag that is there already writes nothing.
func TestUnchangedTagWritesNothing(t *testing.T) {
	l, _, count := countingMem(t, nil)
	img := newTestImage(t, "registry.example/one:v1", 1, 100)
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	writes := count("write")
	require.NoError(t, l.Tag(t.Context(), img.ref, img.index))
	assert.Equal(t, writes, count("write"))
}
