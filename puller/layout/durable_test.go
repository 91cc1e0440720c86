package layout

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/disk/disktest"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pullAndLosePower pulls, which must work, and then the machine loses power: what
// Tag said is durable is there, whatever happened before.
func pullAndLosePower(t *testing.T, mem *disktest.Disk, l *Layout, img *testImage, keep func() bool, what string) {
	require.NoError(t, (&testPuller{chunk: memChunk, l: l, oneByOne: true}).pull(t.Context(), img), what)
	require.NoError(t, l.Close())
	mem = mem.Crash(keep)
	requireSound(t, mem.Process(), what)
	l, err := openMem(mem.Process())
	require.NoError(t, err, what)
	requirePulled(t, l, img, what)
}

// pullUntil pulls img by a process of its own, whose operations before may fail.
func pullUntil(t *testing.T, mem *disktest.Disk, img *testImage, before func(op, name string) error) error {
	l, err := openMem(disktest.Before(mem.Process(), before))
	if err != nil {
		return err
	}
	defer l.Close()
	return (&testPuller{chunk: memChunk, l: l, oneByOne: true}).pull(t.Context(), img)
}

// diesAfter is a process that dies after k operations.
func diesAfter(k int64) func(op, name string) error {
	var n atomic.Int64
	return func(string, string) error {
		if n.Add(1) > k {
			return disktest.ErrDead
		}
		return nil
	}
}

// A process dies at every operation of a pull, another one finds what it named and
// had not synced, and after that one's Tag the power is lost.
func TestTagAfterADeathIsDurable(t *testing.T) {
	img := faultImage(t)
	for done, k := false, int64(0); !done; k++ {
		for seed := range uint64(1 + rounds.Of(2)) {
			mem := disktest.New()
			done = pullUntil(t, mem, img, diesAfter(k)) == nil
			l, err := openMem(mem.Process())
			require.NoError(t, err)
			keep := disktest.KeepNone
			if seed > 0 {
				keep = disktest.KeepSome(seed)
			}
			pullAndLosePower(t, mem, l, img, keep, fmt.Sprintf("operation %d, seed %d", k, seed))
		}
	}
}

// The same in one process that lives on, for another that dies while it is open.
func TestTagAfterAnotherDeathIsDurable(t *testing.T) {
	img, before := faultImage(t), newTestImage(t, "registry.example/team/before:v1", 8, 100, 6000)
	for done, k := false, int64(0); !done; k++ {
		mem := disktest.New()
		l, err := openMem(mem.Process())
		require.NoError(t, err)
		require.NoError(t, (&testPuller{chunk: memChunk, l: l}).pull(t.Context(), before))
		var n atomic.Int64
		other, err := openMem(disktest.Before(mem.Process(), func(string, string) error {
			if n.Add(1) > k {
				return disktest.ErrDead
			}
			return nil
		}))
		if err == nil {
			err = (&testPuller{chunk: memChunk, l: other, oneByOne: true}).pull(t.Context(), img)
			other.Close()
		}
		done = err == nil
		pullAndLosePower(t, mem, l, img, disktest.KeepNone, fmt.Sprintf("operation %d", k))
	}
}

// The sync of a directory fails once, which the pull says; what it has named by
// then is made durable by the next.
func TestFailedSyncOfNamesIsNotTrusted(t *testing.T) {
	img := faultImage(t)
	for k, done := 0, false; !done; k++ {
		mem, n := disktest.New(), 0
		fsys := disktest.Before(mem.Process(), func(op, _ string) error {
			if op != "syncdir" {
				return nil
			}
			if n++; n-1 != k {
				return nil
			}
			return syscall.EIO
		})

		l, err := openMem(fsys)
		if err == nil {
			err = (&testPuller{chunk: memChunk, l: l, oneByOne: true}).pull(t.Context(), img)
		} else {
			l = must(openMem(fsys))
		}
		done = err == nil
		pullAndLosePower(t, mem, l, img, disktest.KeepNone, fmt.Sprintf("sync %d", k))
	}
}

// A blob that another program wrote and did not sync gets the stamp of a verified
// one, and then the power is lost: there is no wrong blob with that stamp.
func TestForeignBlobIsSyncedBeforeItsStamp(t *testing.T) {
	data, desc := blobOf(1, 5*4096)
	for seed := range uint64(rounds.Of(40)) {
		for name, found := range map[string]func(l *Layout) error{
			"Has": func(l *Layout) error { _, err := l.Has(t.Context(), desc); return err },
			"Verify": func(l *Layout) error {
				for _, err := range l.Verify(t.Context()) {
					return err
				}
				return nil
			},
		} {
			mem := disktest.New()
			l, err := openMem(mem.Process())
			require.NoError(t, err)
			require.NoError(t, l.ready(desc.Digest))
			f, err := l.createFresh(ocilayout.BlobName(desc.Digest))
			require.NoError(t, err)
			_, err = f.WriteAt(data, 0)
			require.NoError(t, err)
			require.NoError(t, found(l))
			mem = mem.Crash(disktest.KeepSome(seed))
			l, err = openMem(mem.Process())
			require.NoError(t, err)
			ok, err := l.Has(t.Context(), ocispec.Descriptor{Digest: desc.Digest, Size: desc.Size})
			require.NoError(t, err)
			if ok {
				requireSound(t, l.fs, fmt.Sprintf("%s, seed %d", name, seed))
			}
		}
	}
	// A sync that fails says so; the blob is not stamped.
	mem := disktest.New()
	l, err := openMem(disktest.Before(mem.Process(), func(op, name string) error {
		if op == "sync" && name == ocilayout.BlobName(desc.Digest) {
			return syscall.EIO
		}
		return nil
	}))
	require.NoError(t, err)
	require.NoError(t, l.ready(desc.Digest))
	f, err := l.createFresh(ocilayout.BlobName(desc.Digest))
	require.NoError(t, err)
	_, err = f.WriteAt(data, 0)
	require.NoError(t, err)
	_, err = l.Has(t.Context(), desc)
	require.ErrorIs(t, err, syscall.EIO)
	fi, err := l.fs.Lstat(ocilayout.BlobName(desc.Digest))
	require.NoError(t, err)
	assert.False(t, fi.ModTime().Equal(stamp))
}

// A process dies at every operation of a pull, another one commits a blob of its own
// into what directories there are, and the power is lost: the blob is there.
func TestCommitAfterADeathIsDurable(t *testing.T) {
	img := faultImage(t)
	data, desc := blobOf(1, 100)
	for done, k := false, int64(0); !done; k++ {
		mem := disktest.New()
		done = pullUntil(t, mem, img, diesAfter(k)) == nil
		l, err := openMem(mem.Process())
		require.NoError(t, err)
		store(t, l, desc, data)
		l, err = openMem(mem.Crash(disktest.KeepNone).Process())
		require.NoError(t, err, "operation %d", k)
		ok, err := l.Has(t.Context(), desc)
		require.NoError(t, err, "operation %d", k)
		require.True(t, ok, "operation %d: a committed blob is gone", k)
	}
}

// A blob whose name could not be synced is tagged all the same: Tag makes it durable.
func TestTagAfterAFailedCommitIsDurable(t *testing.T) {
	mem, broken := disktest.New(), false
	l, err := openMem(disktest.Before(mem.Process(), func(op, name string) error {
		if broken && op == "syncdir" && name == blobsDir+"/sha256" {
			return syscall.EIO
		}
		return nil
	}))
	require.NoError(t, err)
	require.NoError(t, (&testPuller{chunk: memChunk, l: l}).pull(t.Context(), faultImage(t)))
	data, desc := blobOf(1, 100)
	broken = true
	in, err := l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	_, err = in.WriteAt(data, 0)
	require.NoError(t, err)
	require.ErrorIs(t, in.Commit(t.Context()), syscall.EIO)
	broken = false
	require.NoError(t, l.Tag(t.Context(), reference.MustParse("busybox:1.36"), desc))
	l, err = openMem(mem.Crash(disktest.KeepNone).Process())
	require.NoError(t, err)
	ok, err := l.Has(t.Context(), desc)
	require.NoError(t, err)
	assert.True(t, ok)
}
