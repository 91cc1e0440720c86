package layout

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/spans"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestIngestRefuses(t *testing.T) {
	l := openTest(t, t.TempDir())
	_, good := blobOf(1, 100)
	for name, desc := range map[string]ocispec.Descriptor{
		"no digest":    {Size: 1},
		"path":         {Digest: "sha256:../../../etc/passwd", Size: 1},
		"md5":          {Digest: "md5:d41d8cd98f00b204e9800998ecf8427e"},
		"upper case":   {Digest: "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"},
		"size below 0": {Digest: good.Digest, Size: -1},
	} {
		_, err := l.Ingest(t.Context(), desc)
		assert.Contains(t, []content.Kind{content.ErrBadDigest, content.ErrSizeMismatch}, content.KindOf(err), name)
		_, err = l.Has(t.Context(), desc)
		assert.Error(t, err, name)
		_, err = l.Open(t.Context(), desc)
		assert.Error(t, err, name)
		_, err = l.Kept(t.Context(), desc)
		assert.Error(t, err, name)
	}
}

func TestIngestOfWrongSize(t *testing.T) {
	l := openTest(t, t.TempDir())
	data, desc := blobOf(1, 1<<20)
	in, err := l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	_, err = in.WriteAt(data, 1)
	assert.ErrorIs(t, err, content.ErrSizeMismatch, "beyond the end")
	_, err = in.WriteAt(data[:1], -1)
	assert.ErrorIs(t, err, content.ErrSizeMismatch)
	_, err = in.WriteAt(data[:1<<19], 0)
	require.NoError(t, err)
	_, err = in.WriteAt(data[len(data)-1:], desc.Size-1)
	require.NoError(t, err)
	assert.Error(t, in.Commit(t.Context()), "a hole in it")
	require.NoError(t, in.Close())
	kept, err := l.Kept(t.Context(), desc)
	require.NoError(t, err)
	assert.Equal(t, int64(1<<19+1), kept)

	// Somebody says that the blob is smaller, and leaves a partial; who knows
	// its size is not held up.
	lie := desc
	lie.Size = 2 << 20
	in, err = l.Ingest(t.Context(), lie)
	require.NoError(t, err)
	_, err = in.WriteAt(make([]byte, 1<<20), 1<<20)
	require.NoError(t, err)
	require.NoError(t, in.Close())
	p := &testPuller{l: l}
	require.NoError(t, p.blob(t.Context(), desc, data))
	ok, err := l.Has(t.Context(), desc)
	require.NoError(t, err)
	assert.True(t, ok)
	requireTidy(t, l)
}

// What is written from the beginning on needs no list: the partial's length
// tells, also after the process died.
func TestNoListWithoutAHole(t *testing.T) {
	l := openTest(t, t.TempDir())
	data, desc := blobOf(1, 1<<20)
	list := filepath.Join(l.Dir(), filepath.FromSlash(listName(desc.Digest)))
	ingestOf := func(want ...spans.Span) content.Ingest {
		in, err := l.Ingest(t.Context(), desc)
		require.NoError(t, err)
		var have []spans.Span
		total := int64(0)
		for off, n := range in.Have() {
			have = append(have, span(off, off+n))
			total += n
		}
		assert.Equal(t, want, have)
		kept, err := l.Kept(t.Context(), desc)
		require.NoError(t, err)
		assert.Equal(t, total, kept)
		return in
	}
	write := func(in content.Ingest, s spans.Span) {
		_, err := in.WriteAt(data[s.Off:s.End], s.Off)
		require.NoError(t, err)
	}
	in := ingestOf()
	write(in, span(0, 200_000))
	write(in, span(200_000, 500_000))
	assert.NoFileExists(t, list)
	in.(*ingest).unlock() // as the process died
	in = ingestOf(span(0, 500_000))
	write(in, span(500_000, 600_000))
	assert.NoFileExists(t, list)
	write(in, span(900_000, 1_000_000))
	assert.FileExists(t, list)
	require.NoError(t, in.Close())
	in = ingestOf(span(0, 600_000), span(900_000, 1_000_000))
	require.NoError(t, in.Close())
	// A process that died between the list and its first record had written no
	// hole yet.
	require.NoError(t, os.Truncate(list, recordSize-1))
	in = ingestOf(span(0, 1_000_000))
	assert.NoFileExists(t, list)
	write(in, span(1_000_000, desc.Size))
	require.NoError(t, in.Commit(t.Context()))
	requireTidy(t, l)
}

// A list that tells of more than there is, as after a loss of power.
func TestListOfLostBytes(t *testing.T) {
	l := openTest(t, t.TempDir())
	data, desc := blobOf(1, 1<<20)
	in, err := l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	for _, off := range []int64{600_000, 0} { // a list, for the hole that there was
		_, err = in.WriteAt(data[off:off+(1<<20-600_000)], off)
		require.NoError(t, err)
	}
	_, err = in.WriteAt(data[1<<20-600_000:600_000], 1<<20-600_000)
	require.NoError(t, err)
	require.NoError(t, in.Close())
	part := filepath.Join(l.Dir(), filepath.FromSlash(partName(desc.Digest)))
	require.NoError(t, os.Truncate(part, 300_000))
	in, err = l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	for off, n := range in.Have() {
		assert.Zero(t, off)
		assert.Equal(t, int64(300_000), n)
	}
	assert.Error(t, in.Commit(t.Context()), "what was listed and is lost does not count")
	require.NoError(t, in.Close())
	require.NoError(t, os.Remove(part))
	in, err = l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	for range in.Have() {
		t.Error("a list without its partial tells nothing")
	}
	// Nor does it when the new partial has grown and its process died.
	_, err = in.WriteAt(data[1<<20-10:], 1<<20-10)
	require.NoError(t, err)
	in.(*ingest).unlock()
	in, err = l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	for off, n := range in.Have() {
		t.Errorf("%d bytes at %d are not the new partial's", n, off)
	}
	require.NoError(t, in.Close())
}

// Another program removes the state directory while a blob is written: what was
// begun anew there is not taken for it.
func TestStateDirectoryRemoved(t *testing.T) {
	l := openTest(t, t.TempDir())
	other := openTest(t, l.Dir())
	data, desc := blobOf(1, 1000)
	in, err := l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	_, err = in.WriteAt(data, 0)
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(filepath.Join(l.Dir(), stateDir)))
	half, err := other.Ingest(t.Context(), desc)
	require.NoError(t, err)
	_, err = half.WriteAt(make([]byte, 1000), 0)
	require.NoError(t, err)
	err = in.Commit(t.Context())
	assert.Equal(t, content.ErrStore, content.KindOf(err), "%v", err)
	requireSound(t, l.fs, "after a commit without its partial")
	require.NoError(t, half.Discard())
	store(t, l, desc, data)
}

func TestIngestAfterItsEnd(t *testing.T) {
	l := openTest(t, t.TempDir())
	data, desc := blobOf(1, 10)
	in, err := l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	require.NoError(t, in.Close())
	require.NoError(t, in.Close())
	_, err = in.WriteAt(data, 0)
	assert.Error(t, err)
	assert.Error(t, in.Commit(t.Context()))
	assert.Error(t, in.Discard())
	requireTidy(t, l)
}

// Many goroutines and layouts want the same few blobs: each is written once.
func TestManyWantTheSame(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	var mu sync.Mutex
	written := make(map[int]int)
	for range 4 {
		l := openTest(t, dir)
		for range 4 {
			wg.Go(func() {
				for seed := range 10 {
					data, desc := blobOf(seed, 1000*seed)
					in, err := l.Ingest(t.Context(), desc)
					if errors.Is(err, fs.ErrExist) {
						continue
					}
					if !assert.NoError(t, err) {
						return
					}
					in.WriteAt(data, 0)
					mu.Lock()
					written[seed]++
					mu.Unlock()
					assert.NoError(t, in.Commit(t.Context()))
				}
			})
		}
	}
	wg.Wait()
	for seed := range 10 {
		assert.Equal(t, 1, written[seed])
	}
}
