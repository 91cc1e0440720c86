package layout_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/disk/disktest"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// blobOf makes a blob of random bytes, the same for the same seed.
func blobOf(seed, size int) ([]byte, ocispec.Descriptor) {
	data := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	r.Read(data)
	return data, descOf("application/octet-stream", data)
}

func descOf(mediaType string, data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.Digest("sha256:" + hexOf(data)), Size: int64(len(data))}
}

func openTest(t testing.TB, dir string) *layout.Layout {
	t.Helper()
	l, err := layout.Open(dir, layout.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

func store(t testing.TB, l *layout.Layout, desc ocispec.Descriptor, data []byte) {
	t.Helper()
	in, err := l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	_, err = in.WriteAt(data, 0)
	require.NoError(t, err)
	require.NoError(t, in.Commit(t.Context()))
}

func TestStoredContentCanBeRead(t *testing.T) {
	l := openTest(t, t.TempDir()+"/new/images")
	for _, size := range []int{0, 1, 1000, 300 << 10, 3 << 20} {
		data, desc := blobOf(size, size)
		ok, err := l.Has(t.Context(), desc)
		require.NoError(t, err)
		assert.False(t, ok)
		store(t, l, desc, data)
		ok, err = l.Has(t.Context(), desc)
		require.NoError(t, err)
		assert.True(t, ok)
		r, err := l.Open(t.Context(), desc)
		require.NoError(t, err)
		got, err := io.ReadAll(r)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		assert.True(t, bytes.Equal(data, got))
		_, err = l.Ingest(t.Context(), desc)
		assert.ErrorIs(t, err, fs.ErrExist)
	}
	requireTidy(t, l)
}

func TestLookupReturnsWhatWasTagged(t *testing.T) {
	dir := t.TempDir()
	l := openTest(t, dir)
	data, desc := blobOf(1, 100)
	ref := reference.MustParse("busybox:1.36")
	err := l.Tag(t.Context(), ref, desc)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = l.Lookup(t.Context(), ref)
	require.ErrorIs(t, err, fs.ErrNotExist)
	assert.Equal(t, content.ErrNotFound, content.ReasonOf(err))
	store(t, l, desc, data)
	require.NoError(t, l.Tag(t.Context(), ref, desc))
	for _, l := range []*layout.Layout{l, openTest(t, dir)} {
		got, err := l.Lookup(t.Context(), ref)
		require.NoError(t, err)
		assert.Equal(t, desc, got)
	}
}

// An index.json that other processes replace all the time can always be read.
func TestIndexIsReadWhileItIsReplaced(t *testing.T) {
	l := openTest(t, t.TempDir())
	index := must(os.ReadFile(filepath.Join(l.Dir(), indexName)))
	var stop atomic.Bool
	var wg sync.WaitGroup
	var turn sync.Mutex // in place of the lock that a process holds while it replaces index.json
	for i := range 2 {
		fsys := must(disk.Open(l.Dir()))
		defer fsys.Close()
		wg.Go(func() {
			for temp := fmt.Sprintf("%s%d", tempPrefix, i); !stop.Load(); {
				f, err := fsys.OpenFile(temp, disk.NewFile)
				if !assert.NoError(t, err) {
					return
				}
				_, err = f.WriteAt(index, 0)
				assert.NoError(t, err)
				f.Close()
				turn.Lock()
				assert.NoError(t, fsys.Rename(temp, indexName))
				turn.Unlock()
			}
		})
	}
	for range 3000 {
		if _, err := l.List(t.Context()); !assert.NoError(t, err) {
			break
		}
	}
	stop.Store(true)
	wg.Wait()
}

// Two processes make the same directory a layout. The second runs at each step of the
// first. Both open the layout, and a tag that was written stays.
func TestTwoProcessesMakeOneLayout(t *testing.T) {
	data, desc := blobOf(1, 100)
	ref := reference.MustParse("busybox:1.36")
	for k, met := 0, true; met; k++ {
		mem, n, opening, tagged := disktest.New(), 0, true, false
		l, err := layout.OpenDisk("mem", disktest.Before(mem.Process(), func(string, string) error {
			n++
			if !opening || n-1 != k || mem.Locked(indexLock) {
				return nil
			}
			tagged = true
			other := must(layout.OpenDisk("mem", mem.Process(), layout.Config{}))
			store(t, other, desc, data)
			require.NoError(t, other.Tag(t.Context(), ref, desc))
			return other.Close()
		}),

			layout.Config{})
		require.NoError(t, err, "operation %d", k)
		opening, met = false, n > k
		if _, err := l.Lookup(t.Context(), ref); tagged {
			require.NoError(t, err, "operation %d", k)
		}
		require.NoError(t, l.Close())
	}
}

// requireTidy checks that the layout has no files of its own except locks.
func requireTidy(t *testing.T, l *layout.Layout) {
	t.Helper()
	assert.Subset(t, []string{"lock", "removals"}, stateNames(t, l), "left behind")
}

// stateNames are the names of all files in the state directory.
func stateNames(t *testing.T, l *layout.Layout) (names []string) {
	t.Helper()
	for _, dir := range []string{stateDir, ingestDir} {
		entries, err := os.ReadDir(filepath.Join(l.Dir(), dir))
		require.NoError(t, err)
		for _, e := range entries {
			if name := dir + "/" + e.Name(); name != ingestDir && name != usedDir {
				names = append(names, e.Name())
			}
		}
	}
	return names
}

func jsonOf(t testing.TB, v any) []byte {
	data, err := json.Marshal(v)
	require.NoError(t, err)
	return data
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func hexOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// The reader of a blob can seek, and gives package net the file, so that the system can send
// it.
func TestTheReaderOfABlobIsTheFile(t *testing.T) {
	l := openTest(t, t.TempDir())
	data := []byte("0123456789")
	desc := descOf("application/octet-stream", data)
	store(t, l, desc, data)
	r, err := l.Open(t.Context(), desc)
	require.NoError(t, err)
	at, err := r.(io.Seeker).Seek(4, io.SeekStart)
	require.NoError(t, err)
	assert.EqualValues(t, 4, at)
	rest, err := io.ReadAll(r)
	require.NoError(t, err)
	assert.Equal(t, "456789", string(rest))
	raw, err := r.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	assert.NotNil(t, raw)
	require.NoError(t, r.Close())
	_, err = r.(io.Seeker).Seek(0, io.SeekStart)
	assert.ErrorIs(t, err, content.ErrStore)
}
