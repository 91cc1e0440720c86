package layout

import (
	"errors"
	"io/fs"
	"time"
)

// A hookFS asks before every operation, and counts them. A write that is
// refused has written half.
type hookFS struct {
	fsys
	before func(op, name string) error
}

var errDead = errors.New("the machine is off")

func (h *hookFS) Lstat(name string) (fs.FileInfo, error) {
	if err := h.before("lstat", name); err != nil {
		return nil, err
	}
	return h.fsys.Lstat(name)
}

func (h *hookFS) OpenFile(name string, flag int) (file, error) {
	if err := h.before("open", name); err != nil {
		return nil, err
	}
	f, err := h.fsys.OpenFile(name, flag)
	if err != nil {
		return nil, err
	}
	return &hookFile{f, h, name}, nil
}

func (h *hookFS) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := h.before("readdir", name); err != nil {
		return nil, err
	}
	return h.fsys.ReadDir(name)
}

func (h *hookFS) Mkdir(name string) error {
	if err := h.before("mkdir", name); err != nil {
		return err
	}
	return h.fsys.Mkdir(name)
}

func (h *hookFS) CheckDir(name string) error {
	if err := h.before("lstat", name); err != nil {
		return err
	}
	return h.fsys.CheckDir(name)
}

func (h *hookFS) Rename(from, to string) error {
	if err := h.before("rename", to); err != nil {
		return err
	}
	return h.fsys.Rename(from, to)
}

func (h *hookFS) Remove(name string) error {
	if err := h.before("remove", name); err != nil {
		return err
	}
	return h.fsys.Remove(name)
}

func (h *hookFS) Chtimes(name string, now, mtime time.Time) error {
	if err := h.before("chtimes", name); err != nil {
		return err
	}
	return h.fsys.Chtimes(name, now, mtime)
}

func (h *hookFS) SyncDir(name string) error {
	if err := h.before("syncdir", name); err != nil {
		return err
	}
	return h.fsys.SyncDir(name)
}

func (h *hookFS) SyncFS() error {
	if err := h.before("syncfs", ""); err != nil {
		return err
	}
	return h.fsys.SyncFS()
}

func (h *hookFS) TryLock(key string) (func() error, error) {
	if err := h.before("lock", key); err != nil {
		return nil, err
	}
	return h.fsys.TryLock(key)
}

func (h *hookFS) Free() (int64, error) {
	if err := h.before("free", ""); err != nil {
		return 0, err
	}
	return h.fsys.Free()
}

type hookFile struct {
	file
	h    *hookFS
	name string
}

func (f *hookFile) Read(p []byte) (int, error) {
	if err := f.h.before("read", f.name); err != nil {
		return 0, err
	}
	return f.file.Read(p)
}

func (f *hookFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.h.before("read", f.name); err != nil {
		return 0, err
	}
	return f.file.ReadAt(p, off)
}

func (f *hookFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.h.before("write", f.name); err != nil {
		if errors.Is(err, errDead) {
			return 0, err
		}
		n, werr := f.file.WriteAt(p[:len(p)/2], off)
		return n, errors.Join(err, werr)
	}
	return f.file.WriteAt(p, off)
}

func (f *hookFile) Stat() (fs.FileInfo, error) {
	if err := f.h.before("stat", f.name); err != nil {
		return nil, err
	}
	return f.file.Stat()
}

// Sync that fails leaves what was written in the cache, marked as if it were on
// disk: so do Linux file systems.
func (f *hookFile) Sync() error {
	if err := f.h.before("sync", f.name); err != nil {
		if m, ok := f.file.(*memFile); ok && !errors.Is(err, errDead) {
			m.m.d.mu.Lock()
			m.ino.forgotten = true
			m.m.d.mu.Unlock()
		}
		return err
	}
	return f.file.Sync()
}
