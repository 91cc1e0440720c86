package unpack

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/regular"
)

// The directory DIR is filled as .DIR.pullkit/files next to it, and gets its name when it
// is whole.
const (
	workSuffix = ".pullkit"
	oldSuffix  = ".old" // of a work directory that is being removed
	filesName  = "files"
	keyName    = "key"  // what is being made
	lockName   = "lock" // the file of the lock
	lockKey    = "unpack"
)

// While another process has the lock, it is asked for again after a wait, which doubles.
const (
	lockPollMin = time.Millisecond
	lockPollMax = 50 * time.Millisecond
	maxLost     = 100 // how often the directory may be removed while it is opened
)

// errAppeared says that a directory got the name while it was made.
var errAppeared = errors.New("a directory of this name has appeared")

// A work is the directory next to DIR in which the files are made. While it has the lock,
// no other process works there.
type work struct {
	parent string // path
	base   string // name of DIR
	before func(op, name string) error
	noSync bool // for tests

	fs     *disk.OS // of the work directory; nil without the lock
	root   *os.Root // the same directory
	unlock func() error
}

// maxBase is the most bytes of the name of DIR, because most file systems allow 255 bytes
// for the names that are made of it.
const maxBase = 255 - len("."+workSuffix+oldSuffix)

// split returns the path of the directory that dir is in, and the name of dir in it.
func split(dir string) (parent, base string, err error) {
	if dir == "" {
		return "", "", errors.New("the path of the directory is empty")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", "", err
	}
	parent, base = filepath.Split(abs)
	lower := strings.ToLower(base) // some file systems do not tell capital letters from small ones
	switch {
	case base == "":
		return "", "", bad(ErrTaken, "it cannot be made")
	case strings.HasSuffix(lower, workSuffix), strings.HasSuffix(lower, workSuffix+oldSuffix):
		return "", "", bad(ErrTaken, "names that end in %s or %s are kept for directories in which files are made", workSuffix, workSuffix+oldSuffix)
	case len(base) > maxBase:
		return "", "", bad(ErrBadName, "the name of the directory has %d bytes, more than %d", len(base), maxBase)
	}
	return parent, base, nil
}

func newWork(dir string, before func(op, name string) error) (*work, error) {
	parent, base, err := split(dir)
	if err != nil {
		return nil, err
	}
	if before == nil {
		before = func(string, string) error { return nil }
	}
	return &work{parent: parent, base: base, before: before}, nil
}

func (w *work) path() string { return filepath.Join(w.parent, "."+w.base+workSuffix) }

// target returns the absolute path of DIR.
func (w *work) target() string { return filepath.Join(w.parent, w.base) }

// lock makes the work directory and takes its lock. It waits for another process until ctx
// ends.
func (w *work) lock(ctx context.Context) error {
	lost := 0
	for wait := lockPollMin; ; wait = min(2*wait, lockPollMax) {
		err := w.tryLock()
		if errors.Is(err, fs.ErrNotExist) && lost < maxLost {
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

// tryLock is lock without waiting. The error is disk.ErrLocked if another process has the
// lock.
func (w *work) tryLock() error {
	if err := w.before("mkdir", w.path()); err != nil {
		return err
	}
	if info, err := os.Lstat(w.path()); err == nil && !info.IsDir() {
		return bad(ErrTaken, "%q is not a directory, and files are made there", w.path())
	}
	var err error
	if w.fs, err = disk.Open(w.path()); err != nil {
		return err
	}
	// Before the lock is taken, which can make a file, the directory must be one of this
	// package. A process that has the lock changes files, so they are checked again with it.
	if w.root, err = os.OpenRoot(w.path()); err == nil {
		err = w.onlyOwn(false)
	}
	if err == nil {
		w.unlock, err = w.fs.TryLock(lockName, lockKey)
	}
	if err == nil && !w.current() {
		err = disk.ErrLocked // of a directory that another process has just removed
	}
	if err == nil {
		err = w.onlyOwn(true)
	}
	if err != nil {
		w.close()
	}
	return err
}

// ownNames are the names in a work directory, in the order in which they are removed. The
// key is the last one, because without it the other files are not known to be own files.
var ownNames = []string{filesName, lockName, lockKey + disk.LockSuffix, keyName}

// onlyOwn returns an error if the work directory has other files than those of this
// package. Without the lock, it does not read what a process with the lock may be changing.
func (w *work) onlyOwn(locked bool) error {
	name, err := foreign(w.root, locked)
	if err == nil && name != "" {
		err = bad(ErrTaken, "%q has the file %s, and files are made there", w.path(), quote(name))
	}
	return err
}

// foreign returns the name of a file that shows that the directory is not a work directory,
// or "". In a work directory the files of the locks are empty, the file key is empty or one
// that open has written, and there are files only next to such a key. If there may be
// another process that has the lock (locked is false), the key and the files are not read.
func foreign(root *os.Root, locked bool) (string, error) {
	names, err := readNames(root, ".", len(ownNames)+1)
	if err != nil {
		return "", err
	}
	busy := false
	for _, name := range names {
		if !slices.Contains(ownNames, name) {
			return name, nil
		}
		info, err := root.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // another process has removed it
		}
		if err != nil {
			return "", err
		}
		isLock := name != filesName && name != keyName
		if info.IsDir() != (name == filesName) || !info.IsDir() && !info.Mode().IsRegular() || isLock && info.Size() > 0 {
			return name, nil
		}
		busy = busy || isLock && !locked
	}
	if busy {
		return "", nil
	}
	// The key is read first, because the process that removes the directory removes it last.
	data, _, err := regular.ReadIn(root, keyName, maxKey)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && len(data) == 0:
	case errors.Is(err, regular.ErrTooLarge), err == nil && !isKey(data):
		return keyName, nil
	default:
		return "", err
	}
	inside, err := readNames(root, filesName, 1)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err == nil && len(inside) > 0 {
		return filesName, nil
	}
	return "", err
}

// maxKey is the most bytes of the file key.
const maxKey = maxName + 1024

// isKey reports whether data is a file key that this package has written.
func isKey(data []byte) bool {
	var k workKey
	return json.Unmarshal(data, &k) == nil && k.Version > 0 && k.Manifest.Validate() == nil && len(k.Plan) == sha256.Size
}

// current reports whether the open directory still is the work directory.
func (w *work) current() bool {
	at, err := os.Lstat(w.path())
	if err != nil {
		return false
	}
	a, err1 := w.fs.Lstat(".")
	b, err2 := w.root.Stat(".")
	return err1 == nil && err2 == nil && os.SameFile(at, a) && os.SameFile(at, b)
}

// A workKey says what is made in a work directory. A call goes on with what an earlier call
// with the same key has left.
type workKey struct {
	Version int
	key
	Link bool
	Plan []byte // the hash of what becomes of each layer
}

// open returns the tree that is to be filled.
func (w *work) open(k workKey) (*os.Root, error) {
	want, err := json.Marshal(k)
	if err != nil {
		return nil, err
	}
	have, _, err := regular.ReadIn(w.root, keyName, maxKey)
	if err != nil || string(have) != string(want) {
		if err := w.before("remove", filesName); err != nil {
			return nil, err
		}
		if err := w.root.RemoveAll(filesName); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		// After a loss of power there may be files only if the key is whole.
		if err := writeFile(w.root, keyName, want, !w.noSync, w.before); err != nil {
			return nil, err
		}
	}
	if err := w.before("mkdir", filesName); err != nil {
		return nil, err
	}
	if err := w.root.Mkdir(filesName, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if info, err := w.root.Lstat(filesName); err != nil || !info.IsDir() {
		return nil, bad(ErrTaken, "%q is not a directory, and files are made there", filepath.Join(w.path(), filesName))
	}
	return w.root.OpenRoot(filesName)
}

// publish makes the tree, which has so many names, durable and gives it the name DIR. The
// error is errAppeared if a file or directory of that name has appeared.
func (w *work) publish(ctx context.Context, tree *os.Root, names int) error {
	if err := w.before("sync", filesName); err != nil {
		return err
	}
	if err := w.sync(ctx, tree, names); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	tree.Close() // some systems do not rename a directory that is open
	if err := w.before("rename", w.base); err != nil {
		return err
	}
	err := renameNew(filepath.Join(w.path(), filesName), w.target())
	if errors.Is(err, fs.ErrExist) {
		return errAppeared
	}
	if err != nil {
		return err
	}
	if err := w.before("sync", w.parent); err != nil {
		return err
	}
	if w.noSync {
		return nil
	}
	return syncDir(w.parent)
}

// syncEach is the most names of a tree that are synced one by one. A sync of the whole file
// system costs the same for any number of names, and waits for what all other processes
// have written.
const syncEach = 64

// sync makes the tree durable.
func (w *work) sync(ctx context.Context, tree *os.Root, names int) error {
	if w.noSync {
		return nil
	}
	if names > syncEach {
		if err := w.fs.SyncFS(); !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	return syncTree(ctx, tree)
}

// renameAbsent is renameNew for systems that cannot rename without replacing. They replace
// an empty directory that gets the name after renameAbsent has looked.
func renameAbsent(from, to string) error {
	if _, err := os.Lstat(to); err == nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: fs.ErrExist}
	}
	return os.Rename(from, to)
}

// syncTree syncs all files and directories of a tree. Windows syncs no directories, and
// only files that are open for writing.
func syncTree(ctx context.Context, tree *os.Root) error {
	return fs.WalkDir(tree.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || d.Type()&fs.ModeSymlink != 0 || d.IsDir() && runtime.GOOS == "windows" {
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

// sweep removes what a call has left that was killed after DIR got its name.
func (w *work) sweep() {
	if w.fs != nil {
		return // the holder of the lock removes it
	}
	removeOld(w.path() + oldSuffix)
	if _, err := os.Lstat(w.path()); err == nil && w.tryLock() == nil {
		w.remove()
	}
}

// remove removes the work directory, and releases the lock. The directory gets another name
// first. So a process that waits for the lock finds that the directory is not the one that
// it has opened. A system that does not rename a directory while it is open leaves at least
// nothing in it.
func (w *work) remove() {
	defer w.close()
	if w.before("remove", w.path()) != nil {
		return
	}
	old := w.path() + oldSuffix
	removeOld(old)
	if renameNew(w.path(), old) == nil {
		if removeOwn(w.root) {
			os.Remove(old)
		}
		return
	}
	if w.root.RemoveAll(filesName) == nil {
		w.root.Remove(keyName)
	}
	w.close()
	os.Remove(w.path()) // not if another process has its lock file there
}

// removeOld removes a directory that was a work directory. It leaves everything else as it
// is.
func removeOld(name string) {
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
	if other, err := foreign(root, true); other != "" || err != nil {
		return
	}
	if removeOwn(root) {
		os.Remove(name)
	}
}

// removeOwn removes what a work directory has, and reports whether it did.
func removeOwn(root *os.Root) bool {
	for _, own := range ownNames {
		if err := root.RemoveAll(own); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	return true
}

// close releases the lock and closes the directory.
func (w *work) close() {
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
