package disk

import "errors"

// Volatile returns fsys without syncs: it makes nothing durable, and does not ask the system
// to begin to write. After a loss of power, files can have wrong bytes under their names.
func Volatile(fsys FS) FS { return volatileFS{fsys} }

type volatileFS struct{ FS }

func (v volatileFS) OpenFile(name string, flag int) (File, error) {
	f, err := v.FS.OpenFile(name, flag)
	if err != nil {
		return nil, err
	}
	return volatileFile{f}, nil
}

func (volatileFS) SyncDir(string) error { return nil }
func (volatileFS) SyncFS() error        { return nil }

type volatileFile struct{ File }

func (volatileFile) Sync() error { return nil }
func (volatileFile) WriteBack()  {}

// Reserve reserves nothing. A file that is removed soon then never gets room on the disk, and
// its room need not be freed.
func (volatileFile) Reserve(int64, int64) error { return errors.ErrUnsupported }
