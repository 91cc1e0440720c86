package layout

import (
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A noTimesFS answers for the time of access what a file system does that does not
// keep the one that was set.
type noTimesFS struct {
	fsys
	answer func(set time.Time) time.Time
}

func (f noTimesFS) Accessed(fi fs.FileInfo) time.Time { return f.answer(f.fsys.Accessed(fi)) }

// Prune frees what is older than MinAge by the layout's own notes, and spares what a
// pull stored or found, where times of access are not kept.
func TestPruneWithoutAccessTimes(t *testing.T) {
	for name, answer := range map[string]func(time.Time) time.Time{
		"none":             func(time.Time) time.Time { return time.Time{} },
		"modification's":   func(time.Time) time.Time { return stamp },
		"the date alone":   func(at time.Time) time.Time { return at.Truncate(24 * time.Hour) },
		"long ago for all": func(time.Time) time.Time { return time.Unix(0, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
			l := must(openFS("mem", noTimesFS{&memFS{newMemDisk()}, answer}, Config{Now: func() time.Time { return now }}))
			found, kept := blobOf(1, 100)
			data, stored := blobOf(2, 100)
			store(t, l, kept, found)
			store(t, l, stored, data)
			prune := func(want int, why string) {
				t.Helper()
				freed, err := l.Prune(t.Context(), PruneConfig{})
				require.NoError(t, err)
				assert.Equal(t, want, freed.Blobs, why)
			}
			prune(0, "both were stored just now")
			now = now.Add(59 * time.Minute)
			ok, err := l.Has(t.Context(), kept)
			require.NoError(t, err)
			require.True(t, ok)
			prune(0, "an hour is not over")
			now = now.Add(2 * time.Minute)
			prune(1, "one was found by a pull two minutes ago")
			ok, err = l.Has(t.Context(), stored)
			require.NoError(t, err)
			assert.False(t, ok)
			now = now.Add(2 * time.Hour)
			prune(1, "nobody came back")
			assert.Empty(t, must(l.fs.ReadDir(usedDir)), "the notes go with the blobs")
		})
	}
}

// A blob of which nothing tells when it was used stays, and is freed when it was seen
// unused for long enough.
func TestPruneWithoutNotes(t *testing.T) {
	now := time.Now()
	l := must(openFS("mem", noTimesFS{&memFS{newMemDisk()}, func(time.Time) time.Time { return time.Time{} }}, Config{Now: func() time.Time { return now }}))
	data, desc := blobOf(1, 100)
	store(t, l, desc, data)
	require.NoError(t, l.fs.Remove(noteName(desc.Digest)))
	for _, want := range []int{0, 0, 1} {
		freed, err := l.Prune(t.Context(), PruneConfig{})
		require.NoError(t, err)
		assert.Equal(t, want, freed.Blobs)
		now = now.Add(40 * time.Minute)
	}
}

// Where times of access are kept there are no notes.
func TestNoNotesWithAccessTimes(t *testing.T) {
	l := openTest(t, t.TempDir())
	data, desc := blobOf(1, 100)
	store(t, l, desc, data)
	_, err := l.fs.Lstat(usedDir)
	assert.Equal(t, accessed(must(l.fs.Lstat(blobName(desc.Digest)))).IsZero(), err == nil)
}
