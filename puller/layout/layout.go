package layout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
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
	stateDir   = ".pullkit"           // locks and what follows; never read by other tools
	ingestDir  = stateDir + "/ingest" // partials and temporaries

	lockName    = stateDir + "/lock"
	removalName = stateDir + "/removals"
	tempBase    = "tmp-"
	tempPrefix  = ingestDir + "/" + tempBase
	partSuffix  = ".part" // what there is of a blob
	listSuffix  = ".list" // which ranges of it were written, if not its beginning alone
	newSuffix   = ".new"  // what index.json or oci-layout will be

	indexLock = "index" // key of the lock on index.json and on removals
)

// A Config says how a layout is kept. The zero Config is good.
type Config struct {
	// PartialAge is how long what there is of a blob is kept after it was last
	// written to, if nobody is at it. Zero means 24 hours, negative for ever.
	PartialAge time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Logger is told what went wrong without harm; nil means silence.
	Logger *slog.Logger
}

// A Layout is an OCI image layout directory that is a content.Store. Its
// methods may be called concurrently, and several processes, and several
// Layouts of one process, may use one directory.
type Layout struct {
	dir string
	cfg Config
	log *slog.Logger
	fs  disk.FS

	tune tuning

	keys    keyLocks
	open    atomic.Int64 // ingests whose last byte has not come
	commits *batch[*commitItem]
	tags    *batch[edit]

	index   atomic.Pointer[indexFile] // as last read or written
	reading sync.Mutex                // one reader parses, the others wait for it

	removals  fs.FileInfo // of removalName when the layout was opened; nil if it was not there
	nextSweep atomic.Int64
	durable   sync.Map     // directory of blobs -> struct{}: its name is, see ready
	found     atomic.Bool  // blobs were found whose names may not be durable; see settleNames
	settled   sync.Map     // directory of blobs -> time.Time: of its names when they were last made durable
	skipSync  atomic.Int64 // how many batches do without SyncFS, which was slow
	closeOnce sync.Once
	closing   sync.WaitGroup // indexes that are let go
}

var (
	_ content.Store  = (*Layout)(nil)
	_ content.Spacer = (*Layout)(nil)
)

// tuning is in bytes. Tests set it lower.
type tuning struct {
	listEvery      int64 // written before the side list tells of it: what a killed process must fetch again
	writeBackEvery int64 // written before the disk is asked to begin, so that the sync at the end has little left
	smallBlob      int64 // up to which size blobs are synced together
	indexSize      int   // the most that index.json may have, read or written
}

func defaultTuning() tuning {
	return tuning{listEvery: 128 << 10, writeBackEvery: 4 << 20, smallBlob: 4 << 20, indexSize: maxIndexSize}
}

// Open is OpenConfig with the zero Config.
func Open(dir string) (*Layout, error) { return OpenConfig(dir, Config{}) }

// OpenConfig opens the OCI image layout in dir. An empty or absent directory
// becomes one; a directory that holds other things is refused. Nothing is
// written to a layout that is whole, so that a read-only one can be read.
// An error is of kind content.ErrStore.
func OpenConfig(dir string, cfg Config) (*Layout, error) {
	abs, err := filepath.Abs(dir)
	if err == nil {
		dir = abs
	}
	fsys, err := disk.Open(dir)
	if err != nil {
		return nil, (&Layout{dir: dir}).fail(err, "open")
	}
	return openFS(dir, fsys, cfg)
}

func openFS(dir string, fsys disk.FS, cfg Config) (*Layout, error) {
	l := &Layout{dir: dir, cfg: cfg, log: cfg.Logger, fs: fsys, tune: defaultTuning()}
	more := func() bool { return l.open.Load() > 0 }
	l.commits, l.tags = newBatch[*commitItem](more), newBatch[edit](more)
	if l.cfg.PartialAge == 0 {
		l.cfg.PartialAge = 24 * time.Hour
	}
	if l.cfg.Now == nil {
		l.cfg.Now = time.Now
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if err := l.prepare(); err != nil {
		fsys.Close()
		return nil, l.fail(err, "open")
	}
	l.removals, _ = l.fs.Lstat(removalName)
	l.found.Store(true)
	l.sweep()
	return l, nil
}

// Close gives back what the layout holds open. Nothing may be called after it.
func (l *Layout) Close() error {
	var err error
	l.closeOnce.Do(func() {
		if ix := l.index.Swap(nil); ix != nil {
			ix.close()
		}
		l.closing.Wait()
		err = l.fail(l.fs.Close(), "close")
	})
	return err
}

// Dir is the directory, absolute.
func (l *Layout) Dir() string { return l.dir }

// Free is how many bytes the layout's file system still takes from this
// process; math.MaxInt64 where the system cannot be asked, as on NetBSD and Solaris.
func (l *Layout) Free(context.Context) (int64, error) {
	n, err := l.fs.Free()
	return n, l.fail(err, "ask for free space")
}

// prepare makes what a layout must have. The file oci-layout comes last, so
// that a directory that has it is whole.
func (l *Layout) prepare() error {
	for _, name := range []string{blobsDir, stateDir} {
		if err := l.checkDir(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	fi, err := l.fs.Lstat(layoutName)
	switch {
	case err == nil && !fi.Mode().IsRegular():
		return fmt.Errorf("%q: %w", layoutName, disk.ErrNotRegular)
	case err == nil:
		return l.checkVersion()
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := l.refuseStrange(); err != nil {
		return err
	}
	if err := l.mkdirs(blobsDir, stateDir, ingestDir); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), openWait)
	defer cancel()
	unlock, err := l.lock(ctx, indexLock)
	if err != nil {
		return fmt.Errorf("another process that makes it a layout has the lock: %w", err)
	}
	defer unlock()
	if _, err := l.fs.Lstat(layoutName); err == nil {
		return l.checkVersion()
	}
	if _, err := l.fs.Lstat(indexName); errors.Is(err, fs.ErrNotExist) {
		if err := l.replace(indexName, emptyIndex().Encode()); err != nil {
			return err
		}
	}
	return l.replace(layoutName, []byte(ocilayout.Layout))
}

// openWait is how long Open waits for another process that makes the same
// directory a layout.
const openWait = time.Minute

// checkVersion refuses a layout of another major version.
func (l *Layout) checkVersion() error {
	data, err := l.read(layoutName, 1<<16)
	if err != nil {
		return err
	}
	version, err := ocilayout.ParseVersion(data)
	if err != nil {
		return fmt.Errorf("%s: %w", layoutName, err)
	}
	if !strings.HasPrefix(version, "1.") {
		return fmt.Errorf("%s: version %.40q is not known here, only 1.x", layoutName, version)
	}
	return nil
}

// refuseStrange keeps a wrong path from becoming a layout.
func (l *Layout) refuseStrange() error {
	entries, err := l.fs.ReadDir(".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch e.Name() {
		case blobsDir, stateDir, indexName, "lost+found":
		case layoutName: // another process made it one just now
		default:
			return fmt.Errorf("it is no OCI image layout: it has no file %q and holds %.80q; give an empty directory or a layout", layoutName, e.Name())
		}
	}
	return nil
}
