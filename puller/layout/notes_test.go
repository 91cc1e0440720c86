package layout

import (
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/disk/disktest"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A noTimesFS answers for the time of access what a file system does that does not
// keep the one that was set.
type noTimesFS struct {
	disk.FS
	answer func(set time.Time) time.Time
}

func (f noTimesFS) Accessed(fi fs.FileInfo) time.Time { return f.answer(f.FS.Accessed(fi)) }

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
			l := must(openFS("mem", noTimesFS{disktest.New().Process(), answer}, Config{Now: func() time.Time { return now }}))
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
	l := must(openFS("mem", noTimesFS{disktest.New().Process(), func(time.Time) time.Time { return time.Time{} }}, Config{Now: func() time.Time { return now }}))
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
	assert.Equal(t, l.fs.Accessed(must(l.fs.Lstat(ocilayout.BlobName(desc.Digest)))).IsZero(), err == nil)
}

// A process that dies between the stamp of a partial and its rename loses nothing
// that had arrived, whatever the file system answers for the time of access: a stamped
// partial looks old by its time of modification.
func TestStampedPartialIsKept(t *testing.T) {
	for name, answer := range map[string]func(time.Time) time.Time{
		"kept":             func(at time.Time) time.Time { return at },
		"none":             func(time.Time) time.Time { return time.Time{} },
		"modification's":   func(time.Time) time.Time { return stamp },
		"long ago for all": func(time.Time) time.Time { return time.Unix(0, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			mem, now := disktest.New(), time.Now()
			cfg := Config{Now: func() time.Time { return now }}
			dead := false
			l := must(openFS("mem", disktest.Before(noTimesFS{mem.Process(), answer}, func(op, name string) error {
				if dead = dead || op == "sync" && strings.HasSuffix(name, partSuffix); dead {
					return disktest.ErrDead
				}
				return nil
			}),

				cfg))
			data, desc := blobOf(1, 300<<10)
			in := must(l.Ingest(t.Context(), desc))
			_, err := in.WriteAt(data, 0)
			require.NoError(t, err)
			require.Error(t, in.Commit(t.Context()))

			mem = mem.Crash(disktest.KeepAll) // the process's locks are gone, its files are there
			kept := func() int64 {
				l := must(openFS("mem", noTimesFS{mem.Process(), answer}, cfg))
				defer func() { require.NoError(t, l.Close()) }()
				return must(l.Kept(t.Context(), desc))
			}
			require.True(t, must(mem.Process().Lstat(partName(desc.Digest))).ModTime().Equal(stamp), "the process died before it set the time")
			assert.EqualValues(t, len(data), kept())
			now = now.Add(23 * time.Hour)
			assert.EqualValues(t, len(data), kept(), "it is younger than PartialAge")
			now = now.Add(2 * time.Hour)
			assert.Zero(t, kept(), "nobody wrote to it for longer than PartialAge")
		})
	}
}

// Prune with a negative MinAge removes a partial that a dead process had stamped.
func TestStampedPartialIsPruned(t *testing.T) {
	l := must(openFS("mem", disktest.New().Process(), Config{}))
	data, desc := blobOf(1, 1000)
	in := must(l.Ingest(t.Context(), desc))
	_, err := in.WriteAt(data, 0)
	require.NoError(t, err)
	require.NoError(t, in.Close())
	require.NoError(t, l.fs.Chtimes(partName(desc.Digest), time.Now(), stamp))
	_, err = l.Prune(t.Context(), PruneConfig{MinAge: -1})
	require.NoError(t, err)
	assert.Zero(t, must(l.Kept(t.Context(), desc)))
}
