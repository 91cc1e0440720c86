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
// leaves its directory by no link. The roots of subdirectories are held open, so that
// an operation is one system call and not one for each element of the name.
type OS struct {
	top   *dir
	locks locker
	mu    sync.Mutex
	dirs  map[string]*dir // by name; never "."

	// naming is held while names change. Linux lets one thread at a time change a
	// directory, and the threads that wait for it spin; goroutines that wait for this
	// mutex do not.
	naming sync.Mutex
}

var _ FS = (*OS)(nil)

// A dir is an open directory.
type dir struct {
	root *os.Root
	f    *os.File // for syncs and renames
	info fs.FileInfo
}

// Open opens a directory. If it is missing, Open makes it and its parents, durably.
func Open(name string) (*OS, error) {
	if err := mkdirDurable(name); err != nil {
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
	return &OS{top: top, dirs: make(map[string]*dir)}, nil
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

// mkdirDurable makes a directory and its parents, and syncs each directory that has a
// new name in it.
func mkdirDurable(name string) error {
	fi, err := os.Stat(name)
	if err == nil {
		if !fi.IsDir() {
			return fmt.Errorf("%q is not a directory", name)
		}
		return nil
	}
	if !os.IsNotExist(err) {
		return err
	}
	parent := filepath.Dir(name)
	if parent == name {
		return err
	}
	if err := mkdirDurable(parent); err != nil {
		return err
	}
	if err := os.Mkdir(name, 0o755); err != nil && !os.IsExist(err) {
		return err
	}
	d, err := os.Open(parent)
	if err != nil {
		return nil // a directory that may be passed but not read cannot be synced
	}
	defer d.Close()
	return syncDir(d)
}

// syncDir does nothing on Windows, which has no such operation: its file system keeps
// a journal of names.
func syncDir(d *os.File) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	return d.Sync()
}

// split returns the open directory of a name, and the last element.
func (o *OS) split(name string) (*dir, string, error) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return o.top, name, nil
	}
	d, err := o.dir(name[:i])
	return d, name[i+1:], err
}

// root is split for operations that need only the os.Root.
func (o *OS) root(name string) (*os.Root, string, error) {
	d, base, err := o.split(name)
	if err != nil {
		return nil, "", err
	}
	return d.root, base, nil
}

// dir returns the open directory of that name, or opens it. A link is refused.
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

// CheckDir forgets the open directory if another one has its name now. An operation
// that still uses it is not disturbed: the garbage collector closes it.
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

func (o *OS) Lstat(name string) (fs.FileInfo, error) {
	root, base, err := o.root(name)
	if err != nil {
		return nil, err
	}
	return root.Lstat(base)
}

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

func (o *OS) Mkdir(name string) error {
	root, base, err := o.root(name)
	if err != nil {
		return err
	}
	return root.Mkdir(base, 0o755)
}

// OpenFile looks at the name before it opens the file, and compares the two, so that
// it opens nothing else that has the name for a moment. A named pipe does not hold it up.
func (o *OS) OpenFile(name string, flag int) (File, error) {
	d, base, err := o.split(name)
	if err != nil {
		return nil, err
	}
	if flag&os.O_EXCL != 0 {
		o.naming.Lock()
		defer o.naming.Unlock()
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
	return nil, fmt.Errorf("%q changes whenever it is opened: %w", name, ErrNotRegular)
}

// openTries is how often a file is opened again that another process replaced just
// then, as a layout does with index.json.
const openTries = 100

// openRegular returns nil, and no error, if another file got the name meanwhile.
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
			err = fmt.Errorf("%q has other names, which writing would change: %w", name, ErrNotRegular)
		}
	}
	f.Close()
	return nil, err
}

func (o *OS) Rename(from, to string) error {
	fromDir, fromBase, err := o.split(from)
	if err != nil {
		return err
	}
	toDir, toBase, err := o.split(to)
	if err != nil {
		return err
	}
	o.naming.Lock()
	defer o.naming.Unlock()
	err = renameAt(fromDir.f, fromBase, toDir.f, toBase)
	if errors.Is(err, errors.ErrUnsupported) {
		err = o.renameByPath(fromDir, toDir, from, to)
	}
	return mark(err, busy)
}

// renameByPath renames through the top, on systems for which package syscall cannot
// rename between two open directories. A path may lead to another directory by then,
// so the open directories are compared before, and the file is looked for in the open
// one after.
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
		return fmt.Errorf("%q is not where it was renamed to: its directory was replaced meanwhile", to)
	}
	return nil
}

// checkParents is an error unless the directories that lead to name are the open ones.
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

func (o *OS) Remove(name string) error {
	root, base, err := o.root(name)
	if err != nil {
		return err
	}
	o.naming.Lock()
	defer o.naming.Unlock()
	return root.Remove(base)
}

func (o *OS) Chtimes(name string, accessed, modified time.Time) error {
	root, base, err := o.root(name)
	if err != nil {
		return err
	}
	return mark(root.Chtimes(base, accessed, modified), readOnly)
}

func (o *OS) SyncDir(name string) error {
	d, err := o.dir(name)
	if err != nil {
		return err
	}
	return syncDir(d.f)
}

func (o *OS) SyncFS() error { return syncFS(o.top.f) }

func (o *OS) TryLock(file, key string) (func() error, error) {
	root, base, err := o.root(file)
	if err != nil {
		return nil, err
	}
	unlock, err := o.locks.tryLock(root, base, key)
	return unlock, mark(err, busy)
}

func (o *OS) SameFile(a, b fs.FileInfo) bool    { return os.SameFile(a, b) }
func (o *OS) Accessed(fi fs.FileInfo) time.Time { return accessed(fi) }
func (o *OS) Free() (int64, error)              { return freeBytes(o.top.f) }

func (o *OS) Close() error {
	err := o.locks.close()
	o.naming.Lock() // a rename under way must not meet another file under a closed one's number
	defer o.naming.Unlock()
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
