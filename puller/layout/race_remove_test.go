package layout

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pullkit/pullkit/internal/disk/disktest"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Layouts pull, remove and prune, all at once and with no regard for each other:
// what a Tag accepted is whole, and a Tag that does not accept says that something
// is gone.
func TestAllAtOnce(t *testing.T) {
	mem, dir := disktest.New(), t.TempDir()
	for name, open := range map[string]func() (*Layout, error){
		"in memory": func() (*Layout, error) { return openMem(mem.Process()) },
		"on disk":   func() (*Layout, error) { return Open(dir) },
	} {
		t.Run(name, func(t *testing.T) {
			layouts := []*Layout{must(open()), must(open()), must(open())}
			images := []*testImage{newTestImage(t, "a.example/x:v1", 1, 100, 3000), newTestImage(t, "a.example/x:v1", 2, 5)}
			var wg sync.WaitGroup
			for g := range uint64(6) {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(g, 3))
					for i := range 25 {
						img := *images[r.IntN(len(images))]
						img.ref = reference.MustParse(fmt.Sprintf("a.example/g%d:v%d", g, i))
						one, other := layouts[r.IntN(3)], layouts[r.IntN(3)]
						useAndRemove(t, one, other, &img, r)
					}
				})
			}
			wg.Wait()
			for d, err := range layouts[0].Verify(t.Context()) {
				assert.NoError(t, err, d)
			}
			for _, l := range layouts {
				require.NoError(t, l.Close())
			}
		})
	}
}

func useAndRemove(t *testing.T, one, other *Layout, img *testImage, r *rand.Rand) {
	if err := (&testPuller{l: one}).pull(t.Context(), img); err != nil {
		assert.ErrorIs(t, err, fs.ErrNotExist)
		return
	}
	got, err := other.Lookup(t.Context(), img.ref)
	assert.NoError(t, err)
	assert.Equal(t, img.index.Digest, got.Digest)
	for _, desc := range img.all {
		ok, err := other.Has(t.Context(), desc)
		assert.NoError(t, err)
		assert.True(t, ok, "Tag accepted it, and %s is missing", desc.Digest)
	}
	if r.IntN(3) > 0 {
		_, err = other.Remove(t.Context(), img.ref)
		assert.NoError(t, err)
	}
	if r.IntN(3) > 0 {
		_, err = other.Prune(t.Context(), PruneConfig{MinAge: -1})
		assert.NoError(t, err)
	}
}

// Power is lost at every operation of a removal: no name is left without its blobs,
// and what Remove said is durable.
func TestLosePowerInRemove(t *testing.T) {
	one, two := newTestImage(t, "a.example/one:v1", 1, 100, 3000), newTestImage(t, "a.example/two:v1", 2, 100)
	for done, k := false, int64(0); !done; k++ {
		for seed := range uint64(5) {
			mem := disktest.New()
			l := must(openMem(mem.Process()))
			for _, img := range []*testImage{one, two} {
				require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
			}
			var n atomic.Int64
			l.fs = disktest.Before(l.fs, func(string, string) error {
				if n.Add(1) > k {
					return disktest.ErrDead
				}
				return nil
			})

			_, err := l.Remove(t.Context(), one.ref)
			if err == nil {
				_, err = l.Prune(t.Context(), PruneConfig{MinAge: -1})
			}
			done = err == nil
			keep := disktest.KeepSome(seed)
			if seed == 0 {
				keep = disktest.KeepNone
			}
			what := fmt.Sprintf("operation %d, seed %d", k, seed)
			l = must(openMem(mem.Crash(keep).Process()))
			requirePulled(t, l, two, what)
			if _, err := l.Lookup(t.Context(), one.ref); err == nil {
				requirePulled(t, l, one, what)
				require.False(t, done, "%s: what was removed is there again", what)
			}
		}
	}
}
