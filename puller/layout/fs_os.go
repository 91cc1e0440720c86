package layout

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// osFS is the fsys of a real directory. os.Root keeps every operation inside it.
type osFS struct {
	root  *os.Root
	locks locker
}

// openOS opens dir, which is made if it is not there.
func openOS(dir string) (*osFS, error) {
	if err := mkdirDurable(dir); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &osFS{root: root}, nil
}

// mkdirDurable makes dir and its parents, and syncs the directories whose names are new.
func mkdirDurable(dir string) error {
	fi, err := os.Stat(dir)
	if err == nil {
		if !fi.IsDir() {
			return fmt.Errorf("%q is not a directory", dir)
		}
		return nil
	}
	if !os.IsNotExist(err) {
		return err
	}
	parent := filepath.Dir(dir)
	if parent == dir {
		return err
	}
	if err := mkdirDurable(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !os.IsExist(err) {
		return err
	}
	d, err := os.Open(parent)
	if err != nil {
		return nil // a directory that may be passed but not read cannot be synced
	}
	defer d.Close()
	return syncDir(d)
}

func (f *osFS) Lstat(name string) (fs.FileInfo, error) { return f.root.Lstat(name) }

// OpenFile looks at the name before it opens, so that no pipe blocks it, and
// compares afterwards, so that no link that came in between is followed.
func (f *osFS) OpenFile(name string, flag int) (file, error) {
	if flag&os.O_EXCL != 0 {
		h, err := f.root.OpenFile(name, flag, 0o644)
		if err != nil {
			return nil, err
		}
		return osFile{h}, nil
	}
	before, err := f.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, fmt.Errorf("%q: %w", name, errNotRegular)
	}
	h, err := f.root.OpenFile(name, flag&^os.O_CREATE, 0)
	if err != nil {
		return nil, err
	}
	after, err := h.Stat()
	if err == nil && !os.SameFile(before, after) {
		err = fmt.Errorf("%q changed while it was opened: %w", name, errNotRegular)
	}
	if err != nil {
		h.Close()
		return nil, err
	}
	return osFile{h}, nil
}

func (f *osFS) ReadDir(name string) ([]fs.DirEntry, error) {
	d, err := f.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.ReadDir(-1)
}

func (f *osFS) Mkdir(name string) error      { return f.root.Mkdir(name, 0o755) }
func (f *osFS) Rename(from, to string) error { return f.root.Rename(from, to) }
func (f *osFS) Remove(name string) error     { return f.root.Remove(name) }

func (f *osFS) Chtimes(name string, now, mtime time.Time) error {
	return f.root.Chtimes(name, now, mtime)
}

func (f *osFS) SyncDir(name string) error {
	d, err := f.root.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return syncDir(d)
}

func (f *osFS) SyncFS() error {
	d, err := f.root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	return syncFS(d)
}

func (f *osFS) TryLock(key string) (func() error, error) { return f.locks.tryLock(f.root, key) }
func (f *osFS) SameFile(a, b fs.FileInfo) bool           { return os.SameFile(a, b) }
func (f *osFS) Accessed(fi fs.FileInfo) time.Time        { return accessed(fi) }

func (f *osFS) Free() (int64, error) {
	d, err := f.root.Open(".")
	if err != nil {
		return 0, err
	}
	defer d.Close()
	return freeBytes(d)
}

func (f *osFS) Close() error {
	err := f.locks.close()
	if rerr := f.root.Close(); err == nil {
		err = rerr
	}
	return err
}

type osFile struct{ *os.File }

func (f osFile) WriteBack() { startWriteBack(f.File) }
