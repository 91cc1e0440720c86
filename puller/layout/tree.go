package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/content"
)

// Names within a layout.
const (
	layoutName = ocilayout.LayoutFile
	indexName  = ocilayout.IndexFile
	blobsDir   = ocilayout.BlobsDir
	stateDir   = ".pullkit"             // locks and all that is below; never read by other tools
	ingestDir  = stateDir + "/ingest"   // partials and temporaries
	usedDir    = stateDir + "/used"     // when blobs were last used; see lastUse
	lockName   = stateDir + "/lock"     // see disk.FS.TryLock
	epochName  = stateDir + "/removals" // see beginRemoval

	tempBase   = "tmp-"
	tempPrefix = ingestDir + "/" + tempBase
	partSuffix = ".part" // what has arrived of a blob
	listSuffix = ".list" // which ranges of it were written, if not only its beginning
	newSuffix  = ".new"  // what index.json or oci-layout will be

	indexLock = "index" // key of the lock on index.json and on removals
)

// A tree is the directory of a layout: its files, its subdirectories, and the locks
// between goroutines and processes.
type tree struct {
	dir  string // absolute; for errors
	fs   disk.FS
	log  *slog.Logger
	now  func() time.Time
	keys keyLocks

	// settled has the time of modification that a directory had when this process last
	// made the names in it durable.
	settled sync.Map
}

// fail returns an error of kind content.ErrStore that says what was being done. An error
// that has a kind already is returned as it is.
func (t *tree) fail(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	if kind := content.ReasonOf(err); kind != "" {
		return err
	}
	return &content.Error{Reason: content.ErrStore, Err: fmt.Errorf("layout %q: %s: %w", t.dir, fmt.Sprintf(format, args...), opaque(err))}
}

// failOrCtx is fail, except for the error of a ctx that ended.
func (t *tree) failOrCtx(ctx context.Context, err error, format string, args ...any) error {
	if cerr := ctx.Err(); cerr != nil && errors.Is(err, cerr) {
		return err
	}
	return t.fail(err, format, args...)
}

// opaque hides that a file was there or was missing. To a caller fs.ErrExist and
// fs.ErrNotExist say that content or a name is there or missing, and such an error of a
// file means neither.
func opaque(err error) error {
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return errors.New(err.Error())
	}
	return err
}

func (t *tree) notFound(format string, args ...any) error {
	return &content.Error{Reason: content.ErrNotFound, Err: fmt.Errorf("layout %q: %s", t.dir, fmt.Sprintf(format, args...))}
}

// errOtherFile says that another file has the name of one that was written or read.
var errOtherFile = errors.New("not the file that it was")

// requireFile is an error unless the file that want describes has the name.
func (t *tree) requireFile(name string, want fs.FileInfo) error {
	got, err := t.fs.Lstat(name)
	if err == nil && !t.fs.SameFile(want, got) {
		err = fmt.Errorf("%q: %w", name, errOtherFile)
	}
	return err
}

// createFresh makes an empty file. What had the name before, such as a link or a
// left-over, is removed.
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

// read reads a small file, which is not a link.
func (t *tree) read(name string, limit int64) ([]byte, error) {
	f, err := t.fs.OpenFile(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, name, limit)
}

// readAll reads a file of at most limit bytes.
func readAll(f disk.File, name string, limit int64) ([]byte, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if fi.Size() > limit {
		return nil, fmt.Errorf("%q has %d bytes, more than %d", name, fi.Size(), limit)
	}
	data := make([]byte, fi.Size())
	n, err := f.ReadAt(data, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return data[:n], nil
}

// replace writes a file as a whole and durably: a reader sees the former content or
// this one. The caller holds indexLock.
func (t *tree) replace(name string, data []byte) error {
	temp := tempName(name)
	f, _, err := t.writeFile(temp, data)
	if err != nil {
		return err
	}
	err = f.Close()
	if err == nil {
		err = t.rename(temp, name)
	}
	if err != nil {
		t.fs.Remove(temp)
		return err
	}
	return t.fs.SyncDir(".")
}

// tempName is what a file is called until it is renamed to name.
func tempName(name string) string { return ingestDir + "/" + name + newSuffix }

// writeFile makes a file with that content, synced, and leaves it open. Its name is not
// synced. After an error the file is removed.
func (t *tree) writeFile(name string, data []byte) (f disk.File, info fs.FileInfo, err error) {
	f, err = t.createFresh(name)
	if err != nil {
		return nil, nil, err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
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

// rename renames a file. It tries again for a while if the file, or the one in its place,
// is busy.
func (t *tree) rename(from, to string) error {
	return disk.WhileBusy(func() error { return t.fs.Rename(from, to) })
}

// mkdirs checks that directories are there and are not links. It makes those that are
// missing, durably.
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

// mkdir makes a directory, durably. Another process may make it first.
func (t *tree) mkdir(name string) error {
	err := t.fs.Mkdir(name)
	if err == nil || errors.Is(err, fs.ErrExist) {
		if cerr := t.checkDir(name); cerr != nil || err != nil {
			return cerr
		}
	}
	if err != nil {
		return err
	}
	parent := "."
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		parent = name[:i]
	}
	return t.syncDir(parent)
}

// checkDir is an error unless name is a directory, which a link to one is not.
// Operations on names in it go to the directory that has the name now.
func (t *tree) checkDir(name string) error {
	err := t.fs.CheckDir(name)
	if errors.Is(err, disk.ErrReplaced) {
		err = t.fs.CheckDir(name)
	}
	return err
}

// syncDir makes the names in a directory durable, and remembers when they had last
// changed.
func (t *tree) syncDir(name string) error {
	fi, err := t.fs.Lstat(name)
	if err != nil {
		return err
	}
	if err := t.fs.SyncDir(name); err != nil {
		return err
	}
	t.settled.Store(name, fi.ModTime())
	return nil
}

// settle is syncDir, unless the names have not changed since this process last made
// them durable. A directory that is missing has no names.
func (t *tree) settle(name string) error {
	fi, err := t.fs.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if last, ok := t.settled.Load(name); ok && fi.ModTime().Equal(last.(time.Time)) {
		return nil
	}
	return t.syncDir(name)
}
