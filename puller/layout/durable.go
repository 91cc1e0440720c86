package layout

import (
	"errors"
	"io/fs"
	"time"
)

// A blob that is found in sight was renamed by somebody who may have died, or had
// an error, before the directory was synced: its bytes are on disk, its name may
// not be. Names that this Layout gave are synced before Commit returns; before it
// tags what it found, those of others are synced too.

// syncDir makes the names in a directory durable, and takes note of when they
// last changed.
func (l *Layout) syncDir(name string) error {
	fi, err := l.fs.Lstat(name)
	if err != nil {
		return err
	}
	return l.syncKnown(name, fi)
}

// syncKnown is syncDir for one who knows what the directory is as of now.
func (l *Layout) syncKnown(name string, fi fs.FileInfo) error {
	if err := l.fs.SyncDir(name); err != nil {
		return err
	}
	l.settled.Store(name, fi.ModTime())
	return nil
}

// settleNames makes the names of found blobs durable.
func (l *Layout) settleNames() error {
	if !l.found.Swap(false) {
		return nil
	}
	names := []string{blobsDir}
	for _, a := range algorithms {
		names = append(names, blobsDir+"/"+a)
	}
	for _, name := range names {
		if err := l.settle(name); err != nil {
			l.found.Store(true)
			return err
		}
	}
	return nil
}

// settle syncs a directory whose names changed since this Layout last did.
func (l *Layout) settle(name string) error {
	fi, err := l.fs.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if last, ok := l.settled.Load(name); ok && fi.ModTime().Equal(last.(time.Time)) {
		return nil
	}
	return l.syncDir(name)
}

// settleIndex makes index.json durable as it is, if this Layout did not write it.
func (l *Layout) settleIndex(ix *indexFile) error {
	if ix.durable || ix.info == nil {
		return nil
	}
	if ix.f != nil {
		if err := ix.f.Sync(); err != nil {
			return err
		}
	}
	if err := l.fs.SyncDir("."); err != nil {
		return err
	}
	ix.durable = true
	return nil
}
