package layout

import (
	"errors"
	"testing"

	"github.com/pullkit/pullkit/internal/spans"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A reserveFS notes what is reserved, and refuses it when told to.
type reserveFS struct {
	fsys
	asked []spans.Span
	err   error
}

type reserveFile struct {
	file
	fs *reserveFS
}

func (r *reserveFS) OpenFile(name string, flag int) (file, error) {
	f, err := r.fsys.OpenFile(name, flag)
	return reserveFile{f, r}, err
}

func (f reserveFile) Reserve(off, n int64) error {
	f.fs.asked = append(f.fs.asked, span(off, off+n))
	return f.fs.err
}

// Room is reserved ahead of the writes of a large blob, as long as they have no
// hole, never beyond its size, and is counted as free.
func TestReserve(t *testing.T) {
	const mib = 1 << 20
	disk := &reserveFS{fsys: &memFS{newMemDisk()}}
	l, err := openFS("mem", disk, Config{})
	require.NoError(t, err)
	defer l.Close()
	free := func() int64 {
		n, err := l.Free(t.Context())
		require.NoError(t, err)
		return n
	}
	before := free()
	data, desc := blobOf(1, 20*mib)
	in, err := l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	write := func(off, end int64) {
		_, err := in.WriteAt(data[off:end], off)
		require.NoError(t, err)
	}
	write(0, 1*mib)
	assert.Equal(t, before+7*mib, free(), "the disk in memory does not know of reservations")
	for off := int64(1 * mib); off < 9*mib; off += mib {
		write(off, off+mib)
	}
	require.NoError(t, in.Close())
	assert.Equal(t, before, free())
	assert.Equal(t, []spans.Span{span(0, 8*mib), span(8*mib, 16*mib)}, disk.asked)

	disk.asked = nil
	in, err = l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	write(9*mib, 10*mib)
	write(18*mib, 20*mib) // a hole
	write(10*mib, 18*mib)
	require.NoError(t, in.Commit(t.Context()))
	assert.Equal(t, []spans.Span{span(9*mib, 17*mib)}, disk.asked)
	assert.Equal(t, before, free())

	disk.asked, disk.err = nil, errors.ErrUnsupported
	data, desc = blobOf(2, 20*mib)
	store(t, l, desc, data)
	assert.Len(t, disk.asked, 1, "a file system that cannot is asked once a blob")
	disk.asked = nil
	data, desc = blobOf(3, reserveFrom-1)
	store(t, l, desc, data)
	assert.Empty(t, disk.asked)
	assert.Equal(t, before, free())
}
