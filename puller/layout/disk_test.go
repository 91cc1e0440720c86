package layout_test

import (
	"errors"
	"io/fs"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/disk/disktest"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/stretchr/testify/require"
)

// The names and the stamp of a layout on disk. Layouts of former versions have them, and
// later versions must find them.
const (
	layoutName = ocilayout.LayoutFile
	indexName  = ocilayout.IndexFile
	blobsDir   = ocilayout.BlobsDir
	stateDir   = ".pullkit"
	ingestDir  = stateDir + "/ingest"
	usedDir    = stateDir + "/used"
	lockName   = stateDir + "/lock"
	epochName  = stateDir + "/removals"
	tempPrefix = ingestDir + "/tmp-"
	partSuffix = ".part"
	indexLock  = "index"   // key of the lock on index.json
	recordSize = 20        // bytes of a record of a side list
	maxIndex   = 128 << 20 // bytes of index.json
)

// stamp is the modification time of every stored blob.
var stamp = time.Date(2001, time.February, 3, 4, 5, 6, 0, time.UTC)

// algorithms are the names of the directories of blobs.
var algorithms = []string{"sha256", "sha384", "sha512"}

func partName(d digest.Digest) string {
	return ingestDir + "/" + d.Algorithm().String() + "-" + d.Encoded() + partSuffix
}

func listName(d digest.Digest) string {
	return ingestDir + "/" + d.Algorithm().String() + "-" + d.Encoded() + ".list"
}

// A switchDisk is a disk whose operations a test can refuse. The test may change its mind
// while a layout uses the disk.
type switchDisk struct {
	*disktest.Hook
	before atomic.Pointer[func(op, name string) error]
}

func newSwitchDisk(fsys disk.FS) *switchDisk {
	s := &switchDisk{}
	s.Hook = disktest.Before(fsys, func(op, name string) error {
		if before := s.before.Load(); before != nil {
			return (*before)(op, name)
		}
		return nil
	})
	return s
}

// set makes the disk call before ahead of each operation; nil means that it calls nothing.
func (s *switchDisk) set(before func(op, name string) error) {
	if before == nil {
		s.before.Store(nil)
		return
	}
	s.before.Store(&before)
}

// openSwitch opens a layout in a directory of the system, over a switchDisk.
func openSwitch(t testing.TB, dir string) (*layout.Layout, *switchDisk) {
	t.Helper()
	real, err := disk.Open(dir)
	require.NoError(t, err)
	d := newSwitchDisk(real)
	l, err := layout.OpenDisk(dir, d, layout.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l, d
}

// small are limits by which a layout treats blobs of some KiB like large ones.
var small = layout.Limits{ListEvery: 4 << 10, WriteBackEvery: 16 << 10, SmallBlob: 20 << 10}

// openMem opens a layout with those limits.
func openMem(fsys disk.FS) (*layout.Layout, error) {
	l, err := layout.OpenDisk("mem", fsys, layout.Config{})
	if err == nil {
		l.SetLimits(small)
	}
	return l, err
}

// putFile writes a file as another program does. It syncs nothing.
func putFile(t testing.TB, fsys disk.FS, name string, data []byte) {
	t.Helper()
	f, err := fsys.OpenFile(name, disk.NewFile)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.WriteAt(data, 0)
	require.NoError(t, err)
}

// putBlob writes a blob as another program does. It syncs nothing.
func putBlob(t testing.TB, fsys disk.FS, d digest.Digest, data []byte) {
	t.Helper()
	if err := fsys.Mkdir(blobsDir + "/" + d.Algorithm().String()); !errors.Is(err, fs.ErrExist) {
		require.NoError(t, err)
	}
	putFile(t, fsys, ocilayout.BlobName(d), data)
}
