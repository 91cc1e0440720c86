package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/pullkit/pullkit/internal/regular"
)

// An OS is the FS of a real directory. Each operation goes through an os.Root, which
// follows no link out of its directory. An OS holds the roots of subdirectories open, so
// that an operation is one system call and not one for each element of the name. Open
// returns an OS; the zero OS is not usable.
type OS struct {
	top   *dir
	locks locker
	mu    sync.Mutex
	dirs  map[string]*dir // by name; never "."

	own ownName
}

// An ownName is the name of an OS's directory in its parent. It may not be durable yet:
// Open has made the directory, or another process has, which may have died before it
// synced the name.
type ownName struct {
	mu      sync.Mutex // held during a sync, so that no other caller takes it for done
	durable bool
	made    bool // by Open
}

var _ FS = (*OS)(nil)

// A dir is an open directory.
type dir struct {
	root *os.Root
	f    *os.File // for syncs and renames
	info fs.FileInfo
}

// Open opens the directory of that path. If the directory is missing, Open makes it, and
// its missing parents durably. The name of the directory itself becomes durable by the
// first SyncDir(".") or SyncFS. Open follows symbolic links in the path.
func Open(name string) (*OS, error) {
	made, err := mkdir(name)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	top, err := newDir(root)
	if err != nil {
		return nil, err
	}
	return &OS{top: top, dirs: make(map[string]*dir), own: ownName{made: made}}, nil
}

func newDir(root *os.Root) (*dir, error) {
	d := &dir{root: root}
	var err error
	if d.f, err = root.Open("."); err == nil {
		d.info, err = d.f.Stat()
	}
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *dir) close() {
	d.root.Close()
	if d.f != nil {
		d.f.Close()
	}
}

// mkdir makes a directory, and its missing parents durably. It reports whether the
// directory was missing.
func mkdir(name string) (made bool, err error) {
	fi, err := os.Stat(name)
	if err == nil && !fi.IsDir() {
		err = fmt.Errorf("%q is not a directory", name)
	}
	parent := filepath.Dir(name)
	if !os.IsNotExist(err) || parent == name {
		return false, err
	}
	made, err = mkdir(parent)
	if err == nil && made {
		err = syncParent(parent)
	}
	if err != nil {
		return false, err
	}
	if err := os.Mkdir(name, 0o755); err != nil && !os.IsExist(err) {
		return false, err
	}
	return true, nil
}

// syncParent makes the name of a directory durable in its parent. It does nothing if the
// parent cannot be opened, because a directory without permission to read it cannot be
// synced.
func syncParent(name string) error {
	parent, err := os.Open(name + string(filepath.Separator) + "..") // also if name is a link
	if err != nil {
		return nil
	}
	defer parent.Close()
	return syncDir(parent)
}

// syncDir syncs an open directory. On Windows, which has no such operation, it does
// nothing: the file system of Windows keeps a journal of names.
func syncDir(d *os.File) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	return d.Sync()
}

// split returns the open directory that a name is in, and the last element of the name.
func (o *OS) split(name string) (*dir, string, error) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return o.top, name, nil
	}
	d, err := o.dir(name[:i])
	return d, name[i+1:], err
}

// root is like split, for operations that need only the os.Root of the directory.
func (o *OS) root(name string) (*os.Root, string, error) {
	d, base, err := o.split(name)
	if err != nil {
		return nil, "", err
	}
	return d.root, base, nil
}

// dir returns the open directory of that name. It opens the directory at its first use,
// and refuses a link.
func (o *OS) dir(name string) (*dir, error) {
	if name == "." {
		return o.top, nil
	}
	o.mu.Lock()
	d := o.dirs[name]
	o.mu.Unlock()
	if d != nil {
		return d, nil
	}
	parent, base, err := o.root(name)
	if err != nil {
		return nil, err
	}
	info, err := parent.Lstat(base)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, notDirectory(name)
	}
	root, err := parent.OpenRoot(base)
	if err != nil {
		return nil, err
	}
	d, err = newDir(root)
	if err != nil {
		return nil, err
	}
	if !os.SameFile(info, d.info) {
		d.close()
		return nil, fmt.Errorf("%q changed while it was opened", name)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if other := o.dirs[name]; other != nil {
		d.close()
		return other, nil
	}
	o.dirs[name] = d
	return d, nil
}

func notDirectory(name string) error {
	return fmt.Errorf("%q is not a directory (symbolic links are not followed)", name)
}

// CheckDir implements FS. It closes nothing: if another directory has the name now,
// operations that still use the former directory go on, and the garbage collector closes
// it later.
func (o *OS) CheckDir(name string) error {
	parent, base, err := o.root(name)
	if err != nil {
		return err
	}
	info, err := parent.Lstat(base)
	if err == nil && !info.IsDir() {
		err = notDirectory(name)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if d := o.dirs[name]; d != nil && (err != nil || !os.SameFile(info, d.info)) {
		delete(o.dirs, name)
		if err == nil {
			err = fmt.Errorf("%q is %w", name, ErrReplaced)
		}
	}
	return err
}

// Lstat implements FS.
func (o *OS) Lstat(name string) (fs.FileInfo, error) {
	root, base, err := o.root(name)
	if err != nil {
		return nil, err
	}
	return root.Lstat(base)
}

// ReadDir implements FS.
func (o *OS) ReadDir(name string) ([]fs.DirEntry, error) {
	d, err := o.dir(name)
	if err != nil {
		return nil, err
	}
	f, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.ReadDir(-1)
}

// Mkdir implements FS.
func (o *OS) Mkdir(name string) error {
	root, base, err := o.root(name)
	if err != nil {
		return err
	}
	return root.Mkdir(base, 0o755)
}

// OpenFile implements FS. It describes the file by its name before it opens the file, and
// compares the two. So it does not return another file that has the name only for a
// moment. It does not block on a named pipe.
func (o *OS) OpenFile(name string, flag int) (File, error) {
	d, base, err := o.split(name)
	if err != nil {
		return nil, err
	}
	if flag&os.O_EXCL != 0 {
		f, err := d.root.OpenFile(base, flag, 0o644)
		if err != nil {
			return nil, mark(err, readOnly)
		}
		return file{f}, nil
	}
	for range openTries {
		f, err := openRegular(d, name, base, flag)
		if f != nil || err != nil {
			return f, mark(err, readOnly)
		}
	}
	return nil, fmt.Errorf("%q was replaced by another file at each of %d tries to open it: %w", name, openTries, ErrNotRegular)
}

// openTries is how often OpenFile and TryLock try to open a file that other processes
// replace. A layout replaces index.json in this way.
const openTries = 100

// openRegular opens a regular file. It returns nil, and a nil error, if another file got
// the name while the file was opened.
func openRegular(d *dir, name, base string, flag int) (File, error) {
	before, err := d.root.Lstat(base)
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, fmt.Errorf("%q: %w", name, ErrNotRegular)
	}
	f, err := d.root.OpenFile(base, flag&^os.O_CREATE|regular.NonBlocking, 0)
	if err != nil {
		now, lerr := d.root.Lstat(base)
		if faultOf(err)&link != 0 || lerr == nil && !os.SameFile(before, now) {
			return nil, nil
		}
		return nil, err
	}
	after, err := f.Stat()
	if err == nil && os.SameFile(before, after) {
		names := uint64(1)
		if flag&os.O_RDWR != 0 {
			names, err = links(f, after)
		}
		if err == nil && names <= 1 {
			return file{f}, nil
		}
		if err == nil {
			err = fmt.Errorf("%q has another name (hard link), and a write would change that file too: %w", name, ErrNotRegular)
		}
	}
	f.Close()
	return nil, err
}

// Rename implements FS.
func (o *OS) Rename(from, to string) error {
	fromDir, fromBase, err := o.split(from)
	if err != nil {
		return err
	}
	toDir, toBase, err := o.split(to)
	if err != nil {
		return err
	}
	err = renameAt(fromDir.f, fromBase, toDir.f, toBase)
	if errors.Is(err, errors.ErrUnsupported) {
		err = o.renameByPath(fromDir, toDir, from, to)
	}
	return mark(err, busy)
}

// renameByPath renames through the top directory, on systems for which package syscall
// cannot rename between two open directories. A subdirectory may be replaced before the
// rename. So renameByPath first checks that the paths lead to the open directories, and
// then looks for the file in the open directory that it should be in.
func (o *OS) renameByPath(fromDir, toDir *dir, from, to string) error {
	for _, name := range []string{from, to} {
		if err := o.checkParents(name); err != nil {
			return err
		}
	}
	info, err := fromDir.root.Lstat(path.Base(from))
	if err != nil {
		return err
	}
	if err := o.top.root.Rename(from, to); err != nil {
		return err
	}
	at, err := toDir.root.Lstat(path.Base(to))
	if err != nil || !os.SameFile(info, at) {
		return fmt.Errorf("%q is missing after a rename: its directory was replaced at the same time", to)
	}
	return nil
}

// checkParents returns an error unless the directories that lead to name are the
// directories that o has open.
func (o *OS) checkParents(name string) error {
	for i, c := range name {
		if c != '/' {
			continue
		}
		d, err := o.dir(name[:i])
		if err != nil {
			return err
		}
		parent, base, err := o.root(name[:i])
		if err != nil {
			return err
		}
		at, err := parent.Lstat(base)
		if err != nil {
			return err
		}
		if !at.IsDir() {
			return notDirectory(name[:i])
		}
		if !os.SameFile(at, d.info) {
			return fmt.Errorf("%q is %w", name[:i], ErrReplaced)
		}
	}
	return nil
}

// Remove implements FS.
func (o *OS) Remove(name string) error {
	root, base, err := o.root(name)
	if err != nil {
		return err
	}
	return root.Remove(base)
}

// Chtimes implements FS.
func (o *OS) Chtimes(name string, accessed, modified time.Time) error {
	root, base, err := o.root(name)
	if err != nil {
		return err
	}
	return mark(root.Chtimes(base, accessed, modified), readOnly)
}

// SyncDir implements FS.
func (o *OS) SyncDir(name string) error {
	d, err := o.dir(name)
	if err != nil {
		return err
	}
	if name == "." {
		if err := o.syncOwnName(); err != nil {
			return err
		}
	}
	return syncDir(d.f)
}

// syncOwnName makes the name of the directory durable. If Open did not make the directory,
// an error does not count: the directory may be the root of a file system, in a directory
// of another one that cannot be synced and need not be.
func (o *OS) syncOwnName() error {
	own := &o.own
	own.mu.Lock()
	defer own.mu.Unlock()
	if own.durable {
		return nil
	}
	if err := syncParent(o.top.root.Name()); err != nil && own.made {
		return err
	}
	own.durable = true
	return nil
}

// SyncFS implements FS. The parent of a directory that was made is on the same file
// system.
func (o *OS) SyncFS() error {
	err := syncFS(o.top.f)
	if err == nil {
		o.own.mu.Lock()
		defer o.own.mu.Unlock()
		o.own.durable = true
	}
	return err
}

// TryLock implements FS.
func (o *OS) TryLock(file, key string) (func() error, error) {
	root, base, err := o.root(file)
	if err != nil {
		return nil, err
	}
	unlock, err := o.locks.tryLock(root, base, key)
	return unlock, mark(err, busy)
}

// SameFile implements FS.
func (o *OS) SameFile(a, b fs.FileInfo) bool { return os.SameFile(a, b) }

// Accessed implements FS.
func (o *OS) Accessed(fi fs.FileInfo) time.Time { return accessed(fi) }

// Free implements FS.
func (o *OS) Free() (int64, error) { return freeBytes(o.top.f) }

// Close implements FS. No operation may be started after it.
func (o *OS) Close() error {
	err := o.locks.close()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, d := range o.dirs {
		d.close()
	}
	o.top.close()
	return err
}

type file struct{ *os.File }

func (f file) Sync() error { return mark(f.File.Sync(), needsWriting|readOnly) }
func (f file) WriteBack()  { startWriteBack(f.File) }

func (f file) Reserve(off, n int64) error { return reserve(f.File, off, n) }
