// Package newdir makes a directory that appears under its name only when it is whole. The
// directory is filled in a work directory next to its place, under a lock. Then it is synced
// once, and renamed without replacing anything. A later call can go on with the files that a
// killed call has left.
package newdir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/internal/regular"
)

// The directory DIR is filled as .DIR.pullkit/files next to its place, and gets its name when
// it is whole. The work directory is .DIR.pullkit.
const (
	Suffix    = ".pullkit"
	OldSuffix = ".old" // follows Suffix in the name of a work directory that is being removed
	FilesName = "files"
	KeyName   = "key"  // the file that says what is being made
	lockName  = "lock" // the file of the lock
	lockKey   = "unpack"
)

// While another process has the lock, Lock tries again after a wait, which doubles each time.
const (
	lockPollMin = time.Millisecond
	lockPollMax = 50 * time.Millisecond
	maxLost     = 100 // how often the directory may be removed while it is opened
)

// ErrAppeared says that a file or directory has got the name DIR while the work directory was
// filled.
var ErrAppeared = errors.New("a directory of this name has appeared")

// A Config says which directory is made, and how.
type Config struct {
	Dir  string      // path of the directory
	Mode fs.FileMode // of the directory
	// IsKey reports whether data is a key that a call of the same package has written.
	IsKey func(data []byte) bool
	// Errors wrap Taken if Dir or its work directory is in use for something else. They wrap
	// BadName if the name of Dir cannot be used.
	Taken, BadName error
	// Before is called before each operation that changes a file, if it is not nil. An error
	// of Before ends the call.
	Before func(op, name string) error
	// NoSync leaves out all syncs.
	NoSync bool
}

// A Work is the directory next to DIR in which the files are made. While it has the lock,
// no other process works there.
type Work struct {
	cfg    Config
	parent string // path
	base   string // name of DIR

	fs     *disk.OS // of the work directory; nil without the lock
	root   *os.Root // the same directory
	unlock func() error

	syncing sync.WaitGroup // of StartSync
	busy    atomic.Bool
}

// maxBase is the most bytes of the name of DIR, because most file systems allow 255 bytes
// for the names that are made of it.
const maxBase = 255 - len("."+Suffix+OldSuffix)

// split returns the path of the directory that dir is in, and the name of dir in it.
func (c *Config) split() (parent, base string, err error) {
	dir := c.Dir
	if dir == "" {
		return "", "", errors.New("the path of the directory is empty")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", "", err
	}
	parent, base = filepath.Split(abs)
	lower := strings.ToLower(base) // some file systems do not distinguish capital letters from small ones
	switch {
	case base == "":
		return "", "", bad(c.Taken, "it is the root directory, which cannot be made")
	case strings.HasSuffix(lower, Suffix), strings.HasSuffix(lower, Suffix+OldSuffix):
		return "", "", bad(c.Taken, "names that end in %s or %s are kept for directories in which files are made", Suffix, Suffix+OldSuffix)
	case len(base) > maxBase:
		return "", "", bad(c.BadName, "the name of the directory has %d bytes, more than %d", len(base), maxBase)
	}
	return parent, base, nil
}

// New returns a Work. It does no I/O.
func New(cfg Config) (*Work, error) {
	parent, base, err := cfg.split()
	if err != nil {
		return nil, err
	}
	if cfg.Before == nil {
		cfg.Before = func(string, string) error { return nil }
	}
	return &Work{cfg: cfg, parent: parent, base: base}, nil
}

func (w *Work) path() string { return filepath.Join(w.parent, "."+w.base+Suffix) }

// Target returns the absolute path of DIR.
func (w *Work) Target() string { return filepath.Join(w.parent, w.base) }

// Files returns the path of the tree that is being filled.
func (w *Work) Files() string { return filepath.Join(w.path(), FilesName) }

// Lock makes the work directory and takes its lock. While another process has the lock, Lock
// waits until ctx ends.
func (w *Work) Lock(ctx context.Context) error {
	lost := 0
	for wait := lockPollMin; ; wait = min(2*wait, lockPollMax) {
		err := w.tryLock()
		if errors.Is(err, fs.ErrNotExist) && lost < maxLost && w.hasParent() {
			lost++ // another process removed the directory while it was opened
		} else if err == nil || !errors.Is(err, disk.ErrLocked) && !errors.Is(err, disk.ErrBusy) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// hasParent reports whether the directory in which the work directory is made exists. It does
// not exist if its path has a symbolic link that leads to nothing.
func (w *Work) hasParent() bool {
	_, err := os.Stat(w.parent)
	return err == nil
}

// tryLock is Lock without waiting. The error is disk.ErrLocked if another process has the
// lock.
func (w *Work) tryLock() error {
	if err := w.cfg.Before("mkdir", w.path()); err != nil {
		return err
	}
	if info, err := os.Lstat(w.path()); err == nil && !info.IsDir() {
		return bad(w.cfg.Taken, "%q is not a directory, and the files have to be made there: move it away", w.path())
	}
	var err error
	if w.fs, err = disk.Open(w.path()); err != nil {
		return err
	}
	// The directory must be a work directory before the lock is taken, because taking the lock
	// can make a file. It is checked again with the lock, because a process that has the lock
	// changes files.
	if w.root, err = os.OpenRoot(w.path()); err == nil {
		err = w.onlyOwn(false)
	}
	if err == nil {
		w.unlock, err = w.fs.TryLock(lockName, lockKey)
	}
	if err == nil && !w.current() {
		err = disk.ErrLocked // the lock is that of a directory which another process has just removed
	}
	if err == nil {
		err = w.onlyOwn(true)
	}
	if err != nil {
		w.Close()
	}
	return err
}

// OwnNames are the names that a work directory may have, in the order in which they are
// removed. The key is removed last, because it shows that the other files are of this package.
var OwnNames = []string{FilesName, lockName, lockKey + disk.LockSuffix, KeyName}

// onlyOwn returns an error if the work directory has other files than those of this
// package. Without the lock, it does not read what a process with the lock may be changing.
func (w *Work) onlyOwn(locked bool) error {
	name, err := w.cfg.foreign(w.root, locked)
	if err == nil && name != "" && !locked {
		// Another process may have started to work here between the first and the last step
		// of foreign. A second look finds the lock of that process.
		name, err = w.cfg.foreign(w.root, locked)
	}
	if err == nil && name != "" {
		err = bad(w.cfg.Taken, "%q has the file %s, which this package has not made, and the files have to be made there: move it away", w.path(), redact.Quote(name, maxQuoted))
	}
	return err
}

// foreign returns the name of a file that shows that the directory is not a work directory,
// or "". In a work directory the files of the locks are empty, the file key is empty or
// written by Open, and the directory files has content only next to a key of Open. locked says
// that the caller has the lock. If it does not and a file of a lock exists, another process may
// be changing the key and the files, so foreign does not read them.
func (c *Config) foreign(root *os.Root, locked bool) (string, error) {
	names, err := ReadNames(root, ".", len(OwnNames)+1)
	if err != nil {
		return "", err
	}
	busy := false
	for _, name := range names {
		if !slices.Contains(OwnNames, name) {
			return name, nil
		}
		info, err := root.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // another process has removed it
		}
		if err != nil {
			return "", err
		}
		isLock := name != FilesName && name != KeyName
		if info.IsDir() != (name == FilesName) || !info.IsDir() && !info.Mode().IsRegular() || isLock && info.Size() > 0 {
			return name, nil
		}
		busy = busy || isLock && !locked
	}
	if busy {
		return "", nil
	}
	// The key is read first, because the process that removes the directory removes it last.
	data, _, err := regular.ReadIn(root, KeyName, MaxKey)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && len(data) == 0:
	case errors.Is(err, regular.ErrTooLarge), err == nil && !c.IsKey(data):
		return KeyName, nil
	default:
		return "", err
	}
	inside, err := ReadNames(root, FilesName, 1)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err == nil && len(inside) > 0 {
		return FilesName, nil
	}
	return "", err
}

// MaxKey is the most bytes of a key.
const MaxKey = 8 << 10

// current reports whether the directory that is open still has the name of the work directory.
func (w *Work) current() bool {
	at, err := os.Lstat(w.path())
	if err != nil {
		return false
	}
	a, err1 := w.fs.Lstat(".")
	b, err2 := w.root.Stat(".")
	return err1 == nil && err2 == nil && os.SameFile(at, a) && os.SameFile(at, b)
}

// Open returns the tree that is to be filled. key says what is made. The files of an earlier
// call stay if goOn is true and its key was the same. Otherwise Open removes them. The caller
// has the lock.
func (w *Work) Open(key []byte, goOn bool) (*os.Root, error) {
	have, _, err := regular.ReadIn(w.root, KeyName, MaxKey)
	if err != nil || !goOn || string(have) != string(key) {
		if err := w.cfg.Before("remove", FilesName); err != nil {
			return nil, err
		}
		if err := w.root.RemoveAll(FilesName); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		// The key is synced before files are made, because after a loss of power the work
		// directory must not have files without a whole key.
		if err := WriteFile(w.root, KeyName, key, !w.cfg.NoSync, w.cfg.Before); err != nil {
			return nil, err
		}
	}
	if err := w.cfg.Before("mkdir", FilesName); err != nil {
		return nil, err
	}
	if err := w.root.Mkdir(FilesName, w.cfg.Mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if info, err := w.root.Lstat(FilesName); err != nil || !info.IsDir() {
		return nil, bad(w.cfg.Taken, "%q is not a directory, and the files have to be made there: move it away", filepath.Join(w.path(), FilesName))
	}
	return w.root.OpenRoot(FilesName)
}

// Publish syncs the tree and gives it the name DIR. names is the number of names in the tree.
// The error is ErrAppeared if a file or directory has the name DIR now.
func (w *Work) Publish(ctx context.Context, tree *os.Root, names int) error {
	if err := w.cfg.Before("sync", FilesName); err != nil {
		return err
	}
	w.syncing.Wait()
	if err := w.sync(ctx, tree, names); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	tree.Close() // some systems do not rename a directory that is open
	if err := w.cfg.Before("rename", w.base); err != nil {
		return err
	}
	err := renameNew(filepath.Join(w.path(), FilesName), w.Target())
	if errors.Is(err, fs.ErrExist) {
		return ErrAppeared
	}
	if err != nil {
		return err
	}
	if err := w.cfg.Before("sync", w.parent); err != nil {
		return err
	}
	if w.cfg.NoSync {
		return nil
	}
	return syncDir(w.parent)
}

// SyncEach is the most names of a tree that are synced one by one. For more names, the whole
// file system is synced, which costs the same for any number of names, but waits for what all
// other processes have written too.
const SyncEach = 64

// sync makes the tree durable.
func (w *Work) sync(ctx context.Context, tree *os.Root, names int) error {
	if w.cfg.NoSync {
		return nil
	}
	if names > SyncEach {
		if err := w.fs.SyncFS(); !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	return syncTree(ctx, tree)
}

// StartSync asks the system to make durable what has been written so far, and does not wait
// for it, so that Publish has less to do. It does nothing while an earlier StartSync goes on.
func (w *Work) StartSync() {
	if w.cfg.NoSync || !w.busy.CompareAndSwap(false, true) {
		return
	}
	w.syncing.Go(func() {
		w.fs.SyncFS() // the error is left to Publish, which syncs again
		w.busy.Store(false)
	})
}

// renameAbsent is renameNew for systems that cannot rename without replacing. They replace
// an empty directory that gets the name after renameAbsent has looked.
func renameAbsent(from, to string) error {
	if _, err := os.Lstat(to); err == nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: fs.ErrExist}
	}
	return os.Rename(from, to)
}

// syncTree syncs all regular files and directories of a tree. Windows syncs no directories, and
// only files that are open for writing.
func syncTree(ctx context.Context, tree *os.Root) error {
	return fs.WalkDir(tree.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		// Pipes and devices must not be opened.
		if err != nil || !d.IsDir() && !d.Type().IsRegular() || d.IsDir() && runtime.GOOS == "windows" {
			return err
		}
		f, err := tree.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			f, err = tree.Open(name)
		}
		if err != nil {
			return err
		}
		err = f.Sync()
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		return err
	})
}

func syncDir(name string) error {
	parent, err := disk.Open(name)
	if err != nil {
		return err
	}
	defer parent.Close()
	return parent.SyncDir(".")
}

// Sweep removes the work directory of a call that was killed after DIR got its name.
func (w *Work) Sweep() {
	if w.fs != nil {
		return // the holder of the lock removes it
	}
	w.cfg.removeOld(w.path() + OldSuffix)
	if _, err := os.Lstat(w.path()); err == nil && w.tryLock() == nil {
		w.Remove()
	}
}

// Remove removes the work directory, and releases the lock. It gives the directory another
// name first, so that a process that waits for the lock finds that the directory which it has
// opened is not the work directory any more. On a system that cannot rename an open directory,
// Remove removes the files and the key, and tries to remove the directory without a new name.
func (w *Work) Remove() {
	defer w.Close()
	if w.cfg.Before("remove", w.path()) != nil {
		return
	}
	old := w.path() + OldSuffix
	w.cfg.removeOld(old)
	if renameNew(w.path(), old) == nil {
		if removeOwn(w.root) {
			os.Remove(old)
		}
		return
	}
	if w.root.RemoveAll(FilesName) == nil {
		w.root.Remove(KeyName)
	}
	w.Close()
	os.Remove(w.path()) // fails if another process has a lock file there
}

// removeOld removes a directory that was a work directory. It leaves everything else as it
// is.
func (c *Config) removeOld(name string) {
	info, err := os.Lstat(name)
	if err != nil || !info.IsDir() {
		return
	}
	root, err := os.OpenRoot(name)
	if err != nil {
		return
	}
	defer root.Close()
	if at, err := root.Stat("."); err != nil || !os.SameFile(at, info) {
		return
	}
	if other, err := c.foreign(root, true); other != "" || err != nil {
		return
	}
	if removeOwn(root) {
		os.Remove(name)
	}
}

// removeOwn removes the files of a work directory, and reports whether all are gone.
func removeOwn(root *os.Root) bool {
	for _, own := range OwnNames {
		if err := root.RemoveAll(own); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	return true
}

// Close releases the lock and closes the directory.
func (w *Work) Close() {
	w.syncing.Wait()
	if w.unlock != nil {
		w.unlock()
	}
	if w.fs != nil {
		w.fs.Close()
	}
	if w.root != nil {
		w.root.Close()
	}
	w.fs, w.root, w.unlock = nil, nil, nil
}

// maxQuoted is the most bytes of a name that an error quotes.
const maxQuoted = 200

// bad returns an error that wraps reason. The details follow it.
func bad(reason error, format string, args ...any) error {
	return fmt.Errorf("%w: %s", reason, fmt.Sprintf(format, args...))
}

// WriteFile writes a small file, and replaces what has its name. With sync, the file is on disk
// when WriteFile returns. before is called as Config.Before.
func WriteFile(root *os.Root, name string, data []byte, sync bool, before func(op, name string) error) error {
	if before != nil {
		if err := before("write", path.Base(name)); err != nil {
			return err
		}
	}
	if err := root.RemoveAll(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil && sync {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// ReadNames returns at most limit names in a directory, in no order.
func ReadNames(root *os.Root, dir string, limit int) ([]string, error) {
	d, err := root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(limit)
	if err == io.EOF {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("read directory %s: %w", redact.Quote(dir, maxQuoted), err)
	}
	return names, nil
}
