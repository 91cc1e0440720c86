package disktest

import (
	"errors"
	"io/fs"
	"time"

	"github.com/pullkit/pullkit/internal/disk"
)

// A Hook is an FS that calls a function before each operation of another FS. If the
// function returns an error, the Hook does not perform the operation and returns that
// error. A write is an exception: the Hook writes half of the bytes, unless the error is
// ErrDead.
type Hook struct {
	disk.FS
	// Before is that function. It gets the operation (lstat, open, readdir, mkdir,
	// rename, remove, chtimes, syncdir, syncfs, lock, free, read, write, stat or sync)
	// and the name of its file. For a rename the name is the new one. For a lock it is
	// the key.
	Before func(op, name string) error
}

// Before returns a Hook of fs that calls before.
func Before(fs disk.FS, before func(op, name string) error) *Hook { return &Hook{fs, before} }

// ErrDead is an error for the function of a Hook. It means that the process has died, or
// that its machine is off.
var ErrDead = errors.New("the machine is off")

func (h *Hook) Lstat(name string) (fs.FileInfo, error) {
	if err := h.Before("lstat", name); err != nil {
		return nil, err
	}
	return h.FS.Lstat(name)
}

func (h *Hook) OpenFile(name string, flag int) (disk.File, error) {
	if err := h.Before("open", name); err != nil {
		return nil, err
	}
	f, err := h.FS.OpenFile(name, flag)
	if err != nil {
		return nil, err
	}
	return &hookFile{f, h, name}, nil
}

func (h *Hook) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := h.Before("readdir", name); err != nil {
		return nil, err
	}
	return h.FS.ReadDir(name)
}

func (h *Hook) Mkdir(name string) error {
	if err := h.Before("mkdir", name); err != nil {
		return err
	}
	return h.FS.Mkdir(name)
}

func (h *Hook) CheckDir(name string) error {
	if err := h.Before("lstat", name); err != nil {
		return err
	}
	return h.FS.CheckDir(name)
}

func (h *Hook) Rename(from, to string) error {
	if err := h.Before("rename", to); err != nil {
		return err
	}
	return h.FS.Rename(from, to)
}

func (h *Hook) Remove(name string) error {
	if err := h.Before("remove", name); err != nil {
		return err
	}
	return h.FS.Remove(name)
}

func (h *Hook) Chtimes(name string, now, mtime time.Time) error {
	if err := h.Before("chtimes", name); err != nil {
		return err
	}
	return h.FS.Chtimes(name, now, mtime)
}

func (h *Hook) SyncDir(name string) error {
	if err := h.Before("syncdir", name); err != nil {
		return err
	}
	return h.FS.SyncDir(name)
}

func (h *Hook) SyncFS() error {
	if err := h.Before("syncfs", ""); err != nil {
		return err
	}
	return h.FS.SyncFS()
}

func (h *Hook) TryLock(file, key string) (func() error, error) {
	if err := h.Before("lock", key); err != nil {
		return nil, err
	}
	return h.FS.TryLock(file, key)
}

func (h *Hook) Free() (int64, error) {
	if err := h.Before("free", ""); err != nil {
		return 0, err
	}
	return h.FS.Free()
}

type hookFile struct {
	disk.File
	h    *Hook
	name string
}

func (f *hookFile) Read(p []byte) (int, error) {
	if err := f.h.Before("read", f.name); err != nil {
		return 0, err
	}
	return f.File.Read(p)
}

func (f *hookFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.h.Before("read", f.name); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *hookFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.h.Before("write", f.name); err != nil {
		if errors.Is(err, ErrDead) {
			return 0, err
		}
		n, werr := f.File.WriteAt(p[:len(p)/2], off)
		return n, errors.Join(err, werr)
	}
	return f.File.WriteAt(p, off)
}

func (f *hookFile) Stat() (fs.FileInfo, error) {
	if err := f.h.Before("stat", f.name); err != nil {
		return nil, err
	}
	return f.File.Stat()
}

// Sync fails as on Linux file systems if the function of the Hook returns an error: the
// written bytes stay in the cache, marked as if they were on disk, and never get there.
func (f *hookFile) Sync() error {
	if err := f.h.Before("sync", f.name); err != nil {
		if m, ok := f.File.(*file); ok && !errors.Is(err, ErrDead) {
			m.p.d.mu.Lock()
			m.ino.forgotten = true
			m.p.d.mu.Unlock()
		}
		return err
	}
	return f.File.Sync()
}
