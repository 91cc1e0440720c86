package layout

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pullkit/pullkit/internal/disk/disktest"
	"github.com/pullkit/pullkit/puller/content"
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

// One more image takes as many file operations in a layout of 2,000 images as in
// one of 50. What it takes in time is BenchmarkGrowth's to say.
func TestGrowth(t *testing.T) {
	var took []int64
	for _, n := range []int{50, 2000} {
		var ops atomic.Int64
		l, err := openFS("mem", disktest.Before(disktest.New().Process(), func(string, string) error { ops.Add(1); return nil }), Config{})
		require.NoError(t, err)
		fill(t, l, newTestImage(t, "registry.example/team/first:v1", 0, 2000), n)
		img := newTestImage(t, "registry.example/team/app:v1", 1, 2000)
		before := ops.Load()
		require.NoError(t, (&testPuller{l: l, oneByOne: true}).pull(t.Context(), img))
		took = append(took, ops.Load()-before)
	}
	assert.Equal(t, took[0], took[1])
}

// BenchmarkGrowth pulls one more image into a layout of 50, one of 4,900, and by a
// new process one of 5,000. The layouts take turns, so that whatever else the
// machine does meets all of them. The middle one should take at most twice as
// long as the first, the last at most 50 ms.
func BenchmarkGrowth(b *testing.B) {
	small, big, others := openTest(b, b.TempDir()), openTest(b, b.TempDir()), openTest(b, b.TempDir())
	first := newTestImage(b, "registry.example/team/first:v1", 0, 2000)
	fill(b, small, first, 50)
	fill(b, big, first, 4900)
	fill(b, others, first, 5000)
	var took [3]time.Duration
	n := 0
	pull := func(l *Layout) {
		n++
		img := newTestImage(b, fmt.Sprintf("registry.example/team/app%d:v1", n), n, 2000)
		require.NoError(b, (&testPuller{l: l, oneByOne: true}).pull(b.Context(), img))
	}
	for b.Loop() {
		for j, l := range []*Layout{small, big} {
			start := time.Now()
			pull(l)
			took[j] += time.Since(start)
		}
		start := time.Now()
		again, err := Open(others.Dir())
		require.NoError(b, err)
		pull(again)
		took[2] += time.Since(start)
		require.NoError(b, again.Close())
	}
	for j, unit := range []string{"ms/image-51", "ms/image-4901", "ms/new-process"} {
		b.ReportMetric(float64(took[j].Microseconds())/1000/float64(b.N), unit)
	}
}

// Lookup sees what another process wrote since index.json was last read.
func TestLookupSeesOtherProcesses(t *testing.T) {
	mem := disktest.New()
	l, other := must(openMem(mem.Process())), must(openMem(mem.Process()))
	data, desc := blobOf(1, 100)
	store(t, l, desc, data)
	ref := reference.MustParse("busybox:1.36")
	require.NoError(t, l.Tag(t.Context(), ref, desc))
	for _, reader := range []*Layout{l, other} {
		got, err := reader.Lookup(t.Context(), ref)
		require.NoError(t, err)
		assert.Equal(t, desc.Digest, got.Digest)
	}
	_, err := other.Remove(t.Context(), ref)
	require.NoError(t, err)
	_, err = l.Lookup(t.Context(), ref)
	assert.ErrorIs(t, err, content.ErrNotFound)
}
