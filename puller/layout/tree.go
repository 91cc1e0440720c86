package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/keylock"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/content"
)

// Names of files and directories within a layout.
const (
	layoutName = ocilayout.LayoutFile
	indexName  = ocilayout.IndexFile
	blobsDir   = ocilayout.BlobsDir
	stateDir   = ".pullkit"             // this package's own files, which other tools do not read
	ingestDir  = stateDir + "/ingest"   // partials, side lists and temporary files
	usedDir    = stateDir + "/used"     // notes of the last use of blobs; see lastUse
	lockName   = stateDir + "/lock"     // file of the locks; see disk.FS.TryLock
	epochName  = stateDir + "/removals" // file that each removal replaces; see beginRemoval

	tempBase   = "tmp-"  // how the names of former versions' temporary files begin
	partSuffix = ".part" // a partial: the bytes of a blob that have arrived
	listSuffix = ".list" // the side list of a partial: which ranges were written
	newSuffix  = ".new"  // the next content of index.json or oci-layout

	indexLock = "index" // key of the lock on index.json and on removals
)

// A tree is the directory of a layout. It performs operations on files and
// subdirectories, and has the locks between goroutines and between processes.
type tree struct {
	dir  string // absolute; for errors
	fs   disk.FS
	log  *slog.Logger
	now  func() time.Time
	keys keylock.Locks // between the goroutines of this process

	mu sync.Mutex
	// unsynced holds the directories in which names may not be durable, and oci-layout
	// while its content may not be. This process changed some of them. In others it found
	// names of another process, which may have died before they were durable. The value
	// is the number of the last note.
	unsynced map[string]int
	notes    int
}

// fail returns an error of kind content.ErrStore that names the layout and the operation.
// An error that already has a kind is returned unchanged.
func (t *tree) fail(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	if kind := content.ReasonOf(err); kind != "" {
		return err
	}
	return &content.Error{Reason: content.ErrStore, Err: fmt.Errorf("layout %q: %s: %w", t.dir, fmt.Sprintf(format, args...), opaque(err))}
}

// failOrCtx is fail, but it returns the error of a ctx that ended as it is.
func (t *tree) failOrCtx(ctx context.Context, err error, format string, args ...any) error {
	if cerr := ctx.Err(); cerr != nil && errors.Is(err, cerr) {
		return err
	}
	return t.fail(err, format, args...)
}

// opaque returns err without fs.ErrExist and fs.ErrNotExist in its chain. For a caller
// these two say that content or a name exists or is missing. The error of an operation on
// a file says neither.
func opaque(err error) error {
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return errors.New(err.Error())
	}
	return err
}

// notFound returns an error of kind content.ErrNotFound that names the layout.
func (t *tree) notFound(format string, args ...any) error {
	return &content.Error{Reason: content.ErrNotFound, Err: fmt.Errorf("layout %q: %s", t.dir, fmt.Sprintf(format, args...))}
}

// errOtherFile says that the name of a file that was written or read is now that of
// another file.
var errOtherFile = errors.New("another file has this name now")

// requireFile returns an error unless the file that want describes has the name.
func (t *tree) requireFile(name string, want fs.FileInfo) error {
	got, err := t.fs.Lstat(name)
	if err == nil && !t.fs.SameFile(want, got) {
		err = fmt.Errorf("%q: %w", name, errOtherFile)
	}
	return err
}

// createFresh makes an empty file. It first removes a file or link that has the name.
func (t *tree) createFresh(name string) (disk.File, error) {
	f, err := t.fs.OpenFile(name, disk.NewFile)
	if errors.Is(err, fs.ErrExist) {
		if err := t.fs.Remove(name); err != nil {
			return nil, err
		}
		f, err = t.fs.OpenFile(name, disk.NewFile)
	}
	return f, err
}

// read returns the content of a file of at most limit bytes. It does not follow a link.
func (t *tree) read(name string, limit int64) ([]byte, error) {
	f, err := t.fs.OpenFile(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, name, limit)
}

// readAll returns the content of an open file of at most limit bytes.
func readAll(f disk.File, name string, limit int64) ([]byte, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if fi.Size() > limit {
		return nil, fmt.Errorf("%q has %d bytes, more than the limit of %d", name, fi.Size(), limit)
	}
	data := make([]byte, fi.Size())
	n, err := f.ReadAt(data, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return data[:n], nil
}

// tempName returns the name that a file has until it is complete and is renamed to name.
func tempName(name string) string { return ingestDir + "/" + name + newSuffix }

// writeFile makes a file with that content, syncs it if sync is true, and leaves it open.
// It does not sync the file's name. On an error it removes the file.
func (t *tree) writeFile(name string, data []byte, sync bool) (f disk.File, info fs.FileInfo, err error) {
	f, err = t.createFresh(name)
	if err != nil {
		return nil, nil, err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil && sync {
		err = f.Sync()
	}
	if err == nil {
		info, err = f.Stat()
	}
	if err != nil {
		f.Close()
		t.fs.Remove(name)
		return nil, nil, err
	}
	return f, info, nil
}

// rename renames a file. If another program has one of the two files open, rename tries
// again for a while; see disk.WhileBusy.
func (t *tree) rename(from, to string) error {
	return disk.WhileBusy(func() error { return t.fs.Rename(from, to) })
}

// mkdirs makes the directories that are missing. It returns an error if one of the names
// is not that of a directory, or is that of a link.
func (t *tree) mkdirs(names ...string) error {
	for _, name := range names {
		err := t.checkDir(name)
		if errors.Is(err, fs.ErrNotExist) {
			err = t.mkdir(name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mkdir makes a directory. Another process may make it at the same time.
func (t *tree) mkdir(name string) error {
	if err := t.fs.Mkdir(name); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	t.note(path.Dir(name))
	return t.checkDir(name)
}

// checkDir returns an error unless name is a directory. A link to a directory does not
// count. Later operations on names in it go to the directory that has the name now.
func (t *tree) checkDir(name string) error {
	err := t.fs.CheckDir(name)
	if errors.Is(err, disk.ErrReplaced) {
		err = t.fs.CheckDir(name)
	}
	return err
}

// note notes that names in these directories, or the content of oci-layout, may not be
// durable; see syncNoted. The caller has already made its changes, because a sync of
// another goroutine that started before a change may miss that change.
func (t *tree) note(names ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.unsynced == nil {
		t.unsynced = make(map[string]int)
	}
	for _, name := range names {
		t.notes++
		t.unsynced[name] = t.notes
	}
}

// syncNoted makes durable what was noted before the call. Each directory or file has a
// sync of its own.
func (t *tree) syncNoted() error {
	noted := t.noted()
	for _, name := range slices.Sorted(maps.Keys(noted)) {
		sync := t.fs.SyncDir
		if name == layoutName {
			sync = t.syncFile
		}
		if err := sync(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		t.synced(map[string]int{name: noted[name]})
	}
	return nil
}

// syncFile makes the content of a file durable. It does nothing if the file cannot be
// synced, because it is read-only or not a regular file.
func (t *tree) syncFile(name string) error {
	f, err := t.fs.OpenFile(name, os.O_RDONLY)
	if err == nil {
		defer f.Close()
		err = t.syncFound(name, f)
	}
	if errors.Is(err, errUnsynced) || errors.Is(err, disk.ErrNotRegular) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}

// syncFS makes all files and names durable, including those that other programs wrote.
func (t *tree) syncFS() error {
	noted := t.noted()
	if err := t.fs.SyncFS(); err != nil {
		return err
	}
	t.synced(noted)
	return nil
}

// noted returns a copy of unsynced.
func (t *tree) noted() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.unsynced)
}

// synced removes noted from unsynced, except what was noted again in the meantime.
func (t *tree) synced(noted map[string]int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, note := range noted {
		if t.unsynced[name] == note {
			delete(t.unsynced, name)
		}
	}
}
