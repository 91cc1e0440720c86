package layout

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
)

// osFS is the fsys of a real directory. os.Root keeps every operation inside
// it. Its directories are held open, so that an operation is one system call
// and not one for each part of the name.
type osFS struct {
	top   *osDir
	locks locker
	mu    sync.Mutex
	dirs  map[string]*osDir // by path; never "."

	// The system lets one thread at a time change a directory, and those that
	// wait burn processor time. Goroutines wait here without.
	naming sync.Mutex
}

type osDir struct {
	root *os.Root
	f    *os.File // for syncs and renames
	info fs.FileInfo
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
	top, err := newOSDir(root)
	if err != nil {
		return nil, err
	}
	return &osFS{top: top, dirs: make(map[string]*osDir)}, nil
}

func newOSDir(root *os.Root) (*osDir, error) {
	d := &osDir{root: root}
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

// syncDir does nothing on Windows, which has no such operation: names are
// journalled there.
func syncDir(d *os.File) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	return d.Sync()
}

// split gives the directory of a name, open, and the rest of the name.
func (f *osFS) split(name string) (*osDir, string, error) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return f.top, name, nil
	}
	d, err := f.dir(name[:i])
	return d, name[i+1:], err
}

// in is split for those who need the directory's root alone.
func (f *osFS) in(name string) (*os.Root, string, error) {
	d, base, err := f.split(name)
	if err != nil {
		return nil, "", err
	}
	return d.root, base, nil
}

// dir opens a directory that is no link, or gives the open one.
func (f *osFS) dir(name string) (*osDir, error) {
	if name == "." {
		return f.top, nil
	}
	f.mu.Lock()
	d := f.dirs[name]
	f.mu.Unlock()
	if d != nil {
		return d, nil
	}
	parent, base, err := f.in(name)
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
	d, err = newOSDir(root)
	if err != nil {
		return nil, err
	}
	if !os.SameFile(info, d.info) {
		d.close()
		return nil, fmt.Errorf("%q changed while it was opened", name)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if other := f.dirs[name]; other != nil {
		d.close()
		return other, nil
	}
	f.dirs[name] = d
	return d, nil
}

func (d *osDir) close() {
	d.root.Close()
	if d.f != nil {
		d.f.Close()
	}
}

// CheckDir forgets the open directory if another one has its name now. An operation
// that still uses it is not disturbed: the garbage collector closes it.
func (f *osFS) CheckDir(name string) error {
	parent, base, err := f.in(name)
	if err != nil {
		return err
	}
	info, err := parent.Lstat(base)
	if err == nil && !info.IsDir() {
		err = notDirectory(name)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if d := f.dirs[name]; d != nil && (err != nil || !os.SameFile(info, d.info)) {
		delete(f.dirs, name)
		if err == nil {
			err = fmt.Errorf("%q is %w", name, errReplacedDir)
		}
	}
	return err
}

func (f *osFS) Lstat(name string) (fs.FileInfo, error) {
	root, base, err := f.in(name)
	if err != nil {
		return nil, err
	}
	return root.Lstat(base)
}

func (f *osFS) ReadDir(name string) ([]fs.DirEntry, error) {
	d, err := f.dir(name)
	if err != nil {
		return nil, err
	}
	h, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer h.Close()
	return h.ReadDir(-1)
}

func (f *osFS) Mkdir(name string) error {
	root, base, err := f.in(name)
	if err != nil {
		return err
	}
	return root.Mkdir(base, 0o755)
}

func (f *osFS) Rename(from, to string) error {
	fromDir, fromBase, err := f.split(from)
	if err != nil {
		return err
	}
	return f.renameIn(fromDir, fromBase, from, to)
}

// renameIn renames from, which is fromBase in fromDir.
func (f *osFS) renameIn(fromDir *osDir, fromBase, from, to string) error {
	toDir, toBase, err := f.split(to)
	if err != nil {
		return err
	}
	f.naming.Lock()
	defer f.naming.Unlock()
	err = renameAt(fromDir.f, fromBase, toDir.f, toBase)
	if errors.Is(err, errors.ErrUnsupported) {
		return f.renameByPath(fromDir, toDir, from, to)
	}
	return err
}

// renameByPath renames through the top, for systems on which no call of package
// syscall renames between two open directories. A path may lead to another directory
// by then, so the open ones are looked for before, and the file is looked for in the
// open one after.
func (f *osFS) renameByPath(fromDir, toDir *osDir, from, to string) error {
	for _, name := range []string{from, to} {
		if err := f.checkParents(name); err != nil {
			return err
		}
	}
	info, err := fromDir.root.Lstat(path.Base(from))
	if err != nil {
		return err
	}
	if err := f.top.root.Rename(from, to); err != nil {
		return err
	}
	at, err := toDir.root.Lstat(path.Base(to))
	if err != nil || !os.SameFile(info, at) {
		return fmt.Errorf("%q is not where it was renamed to: its directory was replaced meanwhile", to)
	}
	return nil
}

// checkParents is an error unless the directories that lead to name are the open ones.
func (f *osFS) checkParents(name string) error {
	for i, c := range name {
		if c != '/' {
			continue
		}
		d, err := f.dir(name[:i])
		if err != nil {
			return err
		}
		parent, base, err := f.in(name[:i])
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
			return fmt.Errorf("%q is not the directory it was", name[:i])
		}
	}
	return nil
}

func notDirectory(name string) error {
	return fmt.Errorf("%q is not a directory (symbolic links are not followed)", name)
}

func (f *osFS) Remove(name string) error {
	root, base, err := f.in(name)
	if err != nil {
		return err
	}
	f.naming.Lock()
	defer f.naming.Unlock()
	return root.Remove(base)
}

func (f *osFS) Chtimes(name string, now, mtime time.Time) error {
	root, base, err := f.in(name)
	if err != nil {
		return err
	}
	return root.Chtimes(base, now, mtime)
}

func (f *osFS) SyncDir(name string) error {
	d, err := f.dir(name)
	if err != nil {
		return err
	}
	return syncDir(d.f)
}

func (f *osFS) SyncFS() error {
	d, err := f.dir(stateDir)
	if err != nil {
		return err
	}
	return syncFS(d.f)
}

func (f *osFS) TryLock(key string) (func() error, error) {
	root, base, err := f.in(lockName)
	if err != nil {
		return nil, err
	}
	return f.locks.tryLock(root, base, key)
}

func (f *osFS) Busy(err error) bool               { return busy(err) }
func (f *osFS) NeedsWriting(err error) bool       { return needsWriting(err) }
func (f *osFS) SameFile(a, b fs.FileInfo) bool    { return os.SameFile(a, b) }
func (f *osFS) Accessed(fi fs.FileInfo) time.Time { return accessed(fi) }

func (f *osFS) Free() (int64, error) { return freeBytes(f.top.f) }

func (f *osFS) Close() error {
	err := f.locks.close()
	f.naming.Lock() // a rename under way must not meet another file under a closed one's number
	defer f.naming.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range f.dirs {
		d.close()
	}
	f.top.close()
	return err
}

type osFile struct{ *os.File }

func (f osFile) WriteBack() { startWriteBack(f.File) }
