package layout_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/disk/disktest"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// faultImage returns an image with blobs of all sizes that the layout treats differently:
// an empty blob, small blobs that are synced together, a blob with a side list, and a
// blob that has its own sync.
func faultImage(t testing.TB) *testImage {
	return newTestImage(t, "registry.example/team/app:v1", 7, 0, 5, 5000, 15000, 40000)
}

const memChunk = 3000 // bytes of one write, so that pages are written in parts

// countOps pulls once and returns how many operations it took.
func countOps(t *testing.T, oneByOne bool) int64 {
	var n atomic.Int64
	mem := disktest.New()
	fsys := disktest.Before(mem.Process(), func(string, string) error { n.Add(1); return nil })
	l, err := openMem(fsys)
	require.NoError(t, err)
	p := &testPuller{chunk: memChunk, l: l, oneByOne: oneByOne}
	require.NoError(t, p.pull(t.Context(), faultImage(t)))
	require.NoError(t, l.Close())
	return n.Load()
}

// For each operation of a pull there is a pull in which it fails, once or from then on.
// The pull succeeds or returns an error of the store. No wrong blob is visible. The next
// pull without faults succeeds.
func TestAPullSurvivesAFaultOfEveryOperation(t *testing.T) {
	img := faultImage(t)
	for _, mode := range []struct {
		name              string
		forever, oneByOne bool
		err               error
	}{
		{"once", false, true, syscall.EIO},
		{"for ever", true, true, syscall.EIO},
		{"once, mem full", false, false, content.ErrNoSpace},
		{"for ever, no descriptors", true, false, syscall.EMFILE},
	} {
		t.Run(mode.name, func(t *testing.T) {
			total := countOps(t, mode.oneByOne)
			t.Logf("%d operations", total)
			require.Greater(t, total, int64(60))
			for k := range total + 5 {
				var n atomic.Int64
				var mu sync.Mutex
				failed := ""
				mem := disktest.New()
				fsys := disktest.Before(mem.Process(), func(op, name string) error {
					if i := n.Add(1) - 1; i < k || i > k && !mode.forever {
						return nil
					}
					mu.Lock()
					defer mu.Unlock()
					if failed == "" {
						failed = op + " " + name
					}
					return fmt.Errorf("%s %s: %w", op, name, mode.err)
				})

				l, err := openMem(fsys)
				if err == nil {
					err = (&testPuller{chunk: memChunk, l: l, oneByOne: mode.oneByOne}).pull(t.Context(), img)
					l.Close()
				}
				what := fmt.Sprintf("operation %d: %s", k, failed)
				requireSound(t, mem.Process(), what)
				if err != nil {
					require.NotEmpty(t, failed, what)
					assert.ErrorIs(t, err, mode.err, what)
					assert.Equal(t, content.ErrStore, content.ReasonOf(err), "%s: %v", what, err)
				}
				assert.False(t, mem.Locked(""), what)
				again, aerr := openMem(mem.Process())
				require.NoError(t, aerr, what)
				if err == nil {
					requirePulled(t, again, img, what)
				}
				require.NoError(t, (&testPuller{chunk: memChunk, l: again}).pull(t.Context(), img), what)
				requirePulled(t, again, img, what)
				require.NoError(t, again.Close())
			}
		})
	}
}

// A sync fails, and the system loses the bytes that it could not write. The next pull
// succeeds. After a loss of power, its blobs are there.
func TestFailedSyncIsNotTrusted(t *testing.T) {
	img := faultImage(t)
	for k, done := 0, false; !done; k++ {
		mem, n := disktest.New(), 0
		done = pullUntil(t, mem, img, func(op, name string) error {
			if op != "sync" && op != "syncfs" {
				return nil
			}
			if n++; n-1 != k {
				return nil
			}
			return syscall.EIO
		}) == nil
		l, err := openMem(mem.Process())
		require.NoError(t, err)
		require.NoError(t, (&testPuller{chunk: memChunk, l: l, oneByOne: true}).pull(t.Context(), img))
		mem = mem.Crash(disktest.KeepNone)
		what := fmt.Sprintf("sync %d", k)
		requireSound(t, mem.Process(), what)
		l, err = openMem(mem.Process())
		require.NoError(t, err)
		requirePulled(t, l, img, what)
	}
}

// The machine loses power at every operation of a pull. Any part of what was not synced
// is lost, in any order.
func TestLosePowerAtEveryOperation(t *testing.T) {
	img, before := faultImage(t), newTestImage(t, "registry.example/team/before:v1", 8, 100, 6000)
	seeds := uint64(someRounds(20, 3))
	for _, oneByOne := range []bool{true, false} {
		t.Run(fmt.Sprintf("one by one %v", oneByOne), func(t *testing.T) {
			done := false
			for k := int64(0); !done; k++ {
				for seed := range seeds {
					keep := disktest.KeepSome(seed)
					switch seed {
					case 0:
						keep = disktest.KeepNone
					case 1:
						keep = disktest.KeepAll
					}
					done = losePower(t, img, before, k, keep, oneByOne, fmt.Sprintf("operation %d, seed %d", k, seed))
				}
			}
		})
	}
}

// Power is lost at every operation of an Open that makes the layout and of the first pull.
// The next Open and the next pull succeed. If Tag returned, the image is there.
func TestLosePowerInTheFirstPull(t *testing.T) {
	img := newTestImage(t, "registry.example/team/app:v1", 7, 100, 5000)
	seeds := uint64(someRounds(20, 4))
	for _, syncs := range []string{"together", "alone"} {
		for done, k := false, int64(0); !done; k++ {
			for seed := range seeds {
				mem, dies := disktest.New(), diesAfter(k)
				l, err := openMem(disktest.Before(mem.Process(), func(op, name string) error {
					if op == "syncfs" && syncs == "alone" {
						return errors.ErrUnsupported
					}
					return dies(op, name)
				}))
				if err == nil {
					err = (&testPuller{l: l, oneByOne: syncs == "alone"}).pull(t.Context(), img)
				}
				done = err == nil
				keep := disktest.KeepSome(seed)
				if seed == 0 {
					keep = disktest.KeepNone
				}
				what := fmt.Sprintf("syncs %s, operation %d, seed %d", syncs, k, seed)
				l, err = openMem(mem.Crash(keep).Process())
				require.NoError(t, err, what)
				_, err = l.List(t.Context())
				require.NoError(t, err, what)
				if done {
					requirePulled(t, l, img, what)
				}
				require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img), what)
				requirePulled(t, l, img, what)
			}
		}
	}
}

// An oci-layout without content is made again, also next to other files. An index.json
// without content is an error, because it may have had names.
func TestAnEmptyLayoutFileIsMadeAgain(t *testing.T) {
	for _, lost := range []string{"", "\x00\x00"} {
		dir := t.TempDir()
		l := openTest(t, dir)
		img := newTestImage(t, "registry.example/team/app:v1", 7, 100)
		require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
		for _, name := range []string{layoutName, "notes.txt"} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(lost), 0o644))
		}
		l = openTest(t, dir)
		requirePulled(t, l, img, "made again")
		assert.Equal(t, ocilayout.Layout, string(must(os.ReadFile(filepath.Join(dir, layoutName)))))
		require.NoError(t, os.WriteFile(filepath.Join(dir, indexName), []byte(lost), 0o644))
		l = openTest(t, dir)
		_, err := l.List(t.Context())
		assert.ErrorIs(t, err, content.ErrStore)
		_, err = l.Prune(t.Context(), layout.PruneConfig{MinAge: -1})
		assert.ErrorIs(t, err, content.ErrStore)
	}
}

// losePower reports whether the pull was over before operation k.
func losePower(t *testing.T, img, before *testImage, k int64, keep func() bool, oneByOne bool, what string) bool {
	mem := disktest.New()
	first, err := openMem(mem.Process())
	require.NoError(t, err)
	require.NoError(t, (&testPuller{chunk: memChunk, l: first, oneByOne: true}).pull(t.Context(), before))
	require.NoError(t, first.Close())

	var n atomic.Int64
	off := func(string, string) error {
		if n.Add(1) > k {
			return disktest.ErrDead
		}
		return nil
	}
	l, err := openMem(disktest.Before(mem.Process(), off))
	if err == nil {
		err = (&testPuller{chunk: memChunk, l: l, oneByOne: oneByOne}).pull(t.Context(), img)
		l.Close()
	}
	require.True(t, err == nil || errors.Is(err, disktest.ErrDead), "%s: %v", what, err)

	mem = mem.Crash(keep)
	requireSound(t, mem.Process(), what)
	l, oerr := openMem(mem.Process())
	require.NoError(t, oerr, what)
	requirePulled(t, l, before, what)
	if err == nil {
		requirePulled(t, l, img, what) // Tag returned, so its image is durable
	}
	require.NoError(t, (&testPuller{chunk: memChunk, l: l, oneByOne: oneByOne}).pull(t.Context(), img), what)
	requirePulled(t, l, img, what)
	require.NoError(t, l.Close())
	return err == nil
}

// The process dies after every operation, and the system runs on. The next pull fetches
// at most 1 MiB again.
func TestDieAtEveryOperation(t *testing.T) {
	img := newTestImage(t, "registry.example/team/app:v1", 9, 3000, 4<<20)
	size := int64(0)
	for _, desc := range img.all {
		size += desc.Size
	}
	step := int64(6 - rounds.Of(5)) // each operation, or every fifth
	for k := int64(0); ; k += step {
		mem := disktest.New()
		var n atomic.Int64
		l, err := layout.OpenDisk("mem", disktest.Before(mem.Process(), func(string, string) error {
			if n.Add(1) > k {
				return disktest.ErrDead
			}
			return nil
		}),

			layout.Config{})
		var first, second testPuller
		if err == nil {
			first.l = l
			err = first.pull(t.Context(), img)
		}
		mem = mem.Crash(disktest.KeepAll) // the process's locks are released
		l, oerr := layout.OpenDisk("mem", mem.Process(), layout.Config{})
		require.NoError(t, oerr)
		second.l = l
		require.NoError(t, second.pull(t.Context(), img), "operation %d", k)
		requirePulled(t, l, img, fmt.Sprintf("operation %d", k))
		again := first.fetched.Load() + second.fetched.Load() - size
		require.LessOrEqual(t, again, int64(1<<20), "operation %d", k)
		require.NoError(t, l.Close())
		if err == nil {
			t.Logf("%d operations", k)
			return
		}
	}
}

// pullAndLosePower pulls, which must succeed, and then the machine loses power. The image
// that was tagged must be there.
func pullAndLosePower(t *testing.T, mem *disktest.Disk, l *layout.Layout, img *testImage, keep func() bool, what string) {
	require.NoError(t, (&testPuller{chunk: memChunk, l: l, oneByOne: true}).pull(t.Context(), img), what)
	require.NoError(t, l.Close())
	mem = mem.Crash(keep)
	requireSound(t, mem.Process(), what)
	l, err := openMem(mem.Process())
	require.NoError(t, err, what)
	requirePulled(t, l, img, what)
}

// pullUntil pulls img in a new process. before may make the process's operations fail.
func pullUntil(t *testing.T, mem *disktest.Disk, img *testImage, before func(op, name string) error) error {
	l, err := openMem(disktest.Before(mem.Process(), before))
	if err != nil {
		return err
	}
	defer l.Close()
	return (&testPuller{chunk: memChunk, l: l, oneByOne: true}).pull(t.Context(), img)
}

// diesAfter returns the function of a Hook for a process that dies after k operations.
func diesAfter(k int64) func(op, name string) error {
	var n atomic.Int64
	return func(string, string) error {
		if n.Add(1) > k {
			return disktest.ErrDead
		}
		return nil
	}
}

// A process dies at every operation of a pull. Another process finds blobs that the first
// had named and not synced, and tags the image. Then the power is lost. The image is
// there.
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

// This is TestTagAfterADeathIsDurable for a process whose layout was open before the
// other process died.
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

// The sync of a directory fails once, and the pull returns the error. The next pull makes
// the names of the first durable.
func TestFailedSyncOfNamesIsNotTrusted(t *testing.T) {
	img := faultImage(t)
	for k, done := 0, false; !done; k++ {
		mem, n, armed := disktest.New(), 0, true
		fsys := disktest.Before(mem.Process(), func(op, _ string) error {
			if op != "syncdir" || !armed {
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
		done, armed = err == nil, false
		pullAndLosePower(t, mem, l, img, disktest.KeepNone, fmt.Sprintf("sync %d", k))
	}
}

// Another goroutine syncs all noted names, by a Tag, just before each change of a name. The
// change is durable all the same when Commit or Tag returns.
func TestNamesThatChangeAfterASyncAreDurable(t *testing.T) {
	before, img := newTestImage(t, "registry.example/team/before:v1", 8, 100), faultImage(t)
	mem := disktest.New()
	d := newSwitchDisk(mem.Process())
	l := must(openMem(d))
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), before))
	var syncing atomic.Bool
	synced := 0
	d.set(func(op, name string) error {
		if op != "mkdir" && (op != "rename" || name == indexName) || !syncing.CompareAndSwap(false, true) {
			return nil
		}
		defer syncing.Store(false)
		synced++
		return l.Tag(t.Context(), before.ref, before.index)
	})
	data := []byte("a blob in a new directory")
	desc := ocispec.Descriptor{Digest: digest.SHA512.FromBytes(data), Size: int64(len(data))}
	store(t, l, desc, data)
	require.Greater(t, synced, 1, "before the new directory and before the blob got its name")
	require.True(t, must(must(openMem(mem.Crash(disktest.KeepNone).Process())).Has(t.Context(), desc)))

	mem = disktest.New()
	d = newSwitchDisk(mem.Process())
	l = must(openMem(d))
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), before))
	d.set(func(op, name string) error {
		if op != "rename" || name == indexName || !syncing.CompareAndSwap(false, true) {
			return nil
		}
		defer syncing.Store(false)
		return l.Tag(t.Context(), before.ref, before.index)
	})
	pullAndLosePower(t, mem, l, img, disktest.KeepNone, "synced before each change")
}

// A blob that another program wrote and did not sync gets the stamp of a verified blob,
// and then the power is lost. No wrong blob has the stamp.
func TestForeignBlobIsSyncedBeforeItsStamp(t *testing.T) {
	data, desc := blobOf(1, 5*4096)
	for seed := range uint64(rounds.Of(40)) {
		for name, found := range map[string]func(l *layout.Layout) error{
			"Has": func(l *layout.Layout) error { _, err := l.Has(t.Context(), desc); return err },
			"Verify": func(l *layout.Layout) error {
				for _, err := range l.Verify(t.Context()) {
					return err
				}
				return nil
			},
		} {
			mem := disktest.New()
			l, err := openMem(mem.Process())
			require.NoError(t, err)
			putBlob(t, mem.Process(), desc.Digest, data)
			require.NoError(t, found(l))
			mem = mem.Crash(disktest.KeepSome(seed))
			l, err = openMem(mem.Process())
			require.NoError(t, err)
			ok, err := l.Has(t.Context(), ocispec.Descriptor{Digest: desc.Digest, Size: desc.Size})
			require.NoError(t, err)
			if ok {
				requireSound(t, mem.Process(), fmt.Sprintf("%s, seed %d", name, seed))
			}
		}
	}
	// If the sync fails, the caller gets the error, and the blob is not stamped.
	mem := disktest.New()
	l, err := openMem(disktest.Before(mem.Process(), func(op, name string) error {
		if op == "sync" && name == ocilayout.BlobName(desc.Digest) {
			return syscall.EIO
		}
		return nil
	}))
	require.NoError(t, err)
	putBlob(t, mem.Process(), desc.Digest, data)
	_, err = l.Has(t.Context(), desc)
	require.ErrorIs(t, err, syscall.EIO)
	fi, err := mem.Process().Lstat(ocilayout.BlobName(desc.Digest))
	require.NoError(t, err)
	assert.False(t, fi.ModTime().Equal(stamp))
}

// A process dies at every operation of a pull. Another process commits a blob of its own
// to the directories that the first made, and then the power is lost. The blob is there.
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

// Tag accepts a blob whose name could not be synced, and makes the name durable.
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

// Power is lost at every operation of a removal. No name is left without its blobs. A
// removal that returned is durable.
func TestLosePowerInRemove(t *testing.T) {
	one, two := newTestImage(t, "a.example/one:v1", 1, 100, 3000), newTestImage(t, "a.example/two:v1", 2, 100)
	for done, k := false, int64(0); !done; k++ {
		for seed := range uint64(5) {
			mem := disktest.New()
			d := newSwitchDisk(mem.Process())
			l := must(openMem(d))
			for _, img := range []*testImage{one, two} {
				require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
			}
			d.set(diesAfter(k))

			_, err := l.Remove(t.Context(), one.ref)
			if err == nil {
				_, err = l.Prune(t.Context(), layout.PruneConfig{MinAge: -1})
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
