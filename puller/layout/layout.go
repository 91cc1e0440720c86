package layout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// A Config holds the settings of a Layout. The zero Config is ready to use.
type Config struct {
	// PartialAge is how long the layout keeps an incomplete blob after the last write to
	// it. Open and Ingest remove older ones on which no process works, Ingest at most
	// once an hour. Zero means 24 hours. A negative value means that incomplete blobs are
	// kept for ever.
	PartialAge time.Duration
	// Volatile leaves out all syncs. Blobs and names appear as soon as they are written, so a
	// pull does not wait for the disk. They survive the end of the process. After a loss of
	// power a blob can have wrong bytes under its name, which only Verify and Repair find. It
	// is for a layout that is removed after it was used, such as the blobs of an image whose
	// root file system is made. Do not set it for a layout that others use too.
	Volatile bool
	// Now returns the present time. nil means time.Now.
	Now func() time.Time
	// Logger receives failures that do not fail a call, and the removal of old files. nil
	// means that nothing is logged.
	Logger *slog.Logger
}

// A Layout is a directory that is an OCI image layout. It implements content.Store. Its
// methods may be called concurrently. Several processes, and several Layouts of one
// process, may use one directory. Open returns a Layout; the zero Layout is not usable.
type Layout struct {
	*names
	partialAge time.Duration
	nextSweep  atomic.Int64
	closeOnce  sync.Once
}

var (
	_ content.Store           = (*Layout)(nil)
	_ content.SpaceReporter   = (*Layout)(nil)
	_ content.PartialReporter = (*Layout)(nil)
	_ content.Remover         = (*Layout)(nil)
)

// Open opens the OCI image layout in the directory dir. If dir is missing or empty, Open
// makes a layout there. If dir holds other files, Open refuses it with an error. Open
// changes nothing in a complete layout except that it removes old files of its own. It
// also opens a read-only layout. The error is of kind content.ErrStore.
func Open(dir string, cfg Config) (*Layout, error) {
	abs, err := filepath.Abs(dir)
	if err == nil {
		dir = abs
	}
	fsys, err := disk.Open(dir)
	if err != nil {
		return nil, (&tree{dir: dir}).fail(err, "open")
	}
	return openFS(dir, fsys, cfg)
}

func openFS(dir string, fsys disk.FS, cfg Config) (*Layout, error) {
	if cfg.Volatile {
		fsys = disk.Volatile(fsys)
	}
	t := &tree{dir: dir, fs: fsys, log: cfg.Logger, now: cfg.Now}
	t.note(".", blobsDir, layoutName)
	if t.now == nil {
		t.now = time.Now
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	l := &Layout{names: newNames(newBlobs(t)), partialAge: cfg.PartialAge}
	if l.partialAge == 0 {
		l.partialAge = 24 * time.Hour
	}
	if err := t.prepare(); err != nil {
		fsys.Close()
		return nil, t.fail(err, "open")
	}
	l.epoch, _ = t.fs.Lstat(epochName)
	l.sweep()
	return l, nil
}

// Close closes the files that the layout holds open. No other method may be called after
// Close. A second Close does nothing.
func (l *Layout) Close() error {
	var err error
	l.closeOnce.Do(func() {
		l.names.close()
		err = l.fail(l.fs.Close(), "close")
	})
	return err
}

// Dir returns the absolute path of the layout's directory.
func (l *Layout) Dir() string { return l.dir }

// Free returns how many bytes this process can still write to the layout's file system.
// It returns math.MaxInt64 on a system that does not report this, such as NetBSD and
// Solaris.
func (l *Layout) Free(context.Context) (int64, error) {
	n, err := l.free()
	return n, l.fail(err, "ask for free space")
}

// Has reports whether desc's content is stored. A blob of another size counts as missing.
// Has first hashes a blob whose modification time is not the one that this package sets,
// because another program changed or wrote that blob. Has does not look for changes that
// a fault of the disk made; Verify does.
func (l *Layout) Has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if err := ocilayout.CheckDescriptor(desc); err != nil {
		return false, err
	}
	ok, err := l.hasToTag(ctx, desc)
	return ok, l.failOrCtx(ctx, err, "look for blob %s", desc.Digest)
}

// Open opens desc's content for reading, after the checks that Has makes. The reader also
// implements io.ReaderAt and io.Seeker, and syscall.Conn, so that io.Copy to a connection of
// package net lets the system copy the bytes. The error wraps fs.ErrNotExist if the content is not stored.
func (l *Layout) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if err := ocilayout.CheckDescriptor(desc); err != nil {
		return nil, err
	}
	return l.openBlob(ctx, desc)
}

// FS returns the stored blobs as a read-only file system. Their names are
// algorithm/encoded, such as sha256/e3b0c442...: a digest with a slash in place of the
// colon. The file system hashes a blob that another program changed or wrote when the
// blob is opened. If the content is wrong, the error wraps fs.ErrNotExist. The files
// implement io.ReaderAt and io.Seeker.
func (l *Layout) FS() fs.FS { return blobFS{l.blobs} }

// Ingest starts to store desc's content, or continues with the bytes that an earlier
// Ingest left. While another goroutine or process ingests the same digest, Ingest waits
// until ctx ends. The error wraps fs.ErrExist if the content is stored, whether it was
// stored before the call or arrived during the wait. The error is of kind
// content.ErrStore if the directory cannot be written to. It also wraps
// content.ErrNoSpace if the file system does not have the space.
func (l *Layout) Ingest(ctx context.Context, desc ocispec.Descriptor) (content.Ingest, error) {
	if err := ocilayout.CheckDescriptor(desc); err != nil {
		return nil, err
	}
	l.sweepNow()
	in, err := l.ingest(ctx, desc)
	if err != nil {
		return nil, err
	}
	return in, nil
}

// Kept returns how many bytes of desc's content an earlier Ingest left. It takes no lock,
// so the number may change at once.
func (l *Layout) Kept(_ context.Context, desc ocispec.Descriptor) (int64, error) {
	if err := ocilayout.CheckDescriptor(desc); err != nil {
		return 0, err
	}
	n, err := l.keptBytes(desc)
	return n, l.fail(err, "look for what has arrived of blob %s", desc.Digest)
}

// Lookup returns the descriptor that ref was tagged with. If ref names an index, Lookup
// returns the index, even if only one of its manifests is stored.
//
// Lookup also finds an entry that another tool wrote, in two cases. In the first, the
// entry's ref.name annotation is a name with a registry and means ref. In the second,
// ref.name is only ref's tag and the annotation io.containerd.image.name means ref.
//
// Lookup also finds a ref with a digest under another name of the same repository. That
// name must be tagged with the digest, or with an index that lists the digest, directly
// or through indexes within it. The content with the digest must be stored. The reason is
// that one digest in one repository is one image under every tag. Lookup reads at most
// five levels and 64 indexes of an image.
//
// The error wraps fs.ErrNotExist if ref names no image of the layout.
func (l *Layout) Lookup(ctx context.Context, ref reference.Reference) (ocispec.Descriptor, error) {
	return l.lookup(ctx, ref)
}

// Tag makes ref the name of desc in index.json. The name is on disk when Tag returns.
// Tags that wait for the lock are written together.
//
// The entry's annotations org.opencontainers.image.ref.name and io.containerd.image.name
// both hold the whole canonical name. If desc is an index of which only one image is
// stored, the entry is that image's manifest. The reason is that tools such as umoci do
// not read an index, and that skopeo refuses to copy a whole index with missing parts. A
// third annotation keeps desc for Lookup.
//
// The error wraps fs.ErrNotExist if desc is not stored. After a Remove or Prune it also
// wraps fs.ErrNotExist if any content that desc needs is not stored. The error is of kind
// content.ErrStore and wraps content.ErrTooLarge if index.json would become larger than
// 128 MiB, the most that this package reads. The file then stays as it was.
func (l *Layout) Tag(ctx context.Context, ref reference.Reference, desc ocispec.Descriptor) error {
	return l.tag(ctx, ref, desc)
}

// List returns the entries of index.json in the order of the file, including those of
// other tools. The error is of kind content.ErrStore.
func (l *Layout) List(ctx context.Context) ([]content.Entry, error) { return l.list(ctx) }

// prepare makes the directories and files that a layout must have. It makes the file
// oci-layout last, so that a directory with this file is complete.
func (t *tree) prepare() error {
	for _, name := range []string{blobsDir, stateDir} {
		if err := t.checkDir(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if ok, err := t.isLayout(); ok || err != nil {
		return err
	}
	if _, err := t.fs.Lstat(layoutName); err != nil {
		if err := t.refuseStrange(); err != nil {
			return err
		}
	}
	if err := t.mkdirs(blobsDir, stateDir, ingestDir); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), openWait)
	defer cancel()
	unlock, err := t.lock(ctx, indexLock)
	if err != nil {
		return fmt.Errorf("another process that makes the directory a layout has the lock: %w", err)
	}
	defer unlock()
	if ok, err := t.isLayout(); ok || err != nil {
		return err
	}
	if _, err := t.fs.Lstat(indexName); errors.Is(err, fs.ErrNotExist) {
		if err := t.create(indexName, emptyIndex().Encode(), true); err != nil {
			return err
		}
	}
	return t.create(layoutName, []byte(ocilayout.Layout), false)
}

// isLayout reports whether the directory has the file oci-layout. The content of a new
// oci-layout is durable after the first Commit or Tag. A loss of power before that can
// leave a file that is empty or has zeros, which counts as missing.
func (t *tree) isLayout() (bool, error) {
	data, err := t.read(layoutName, 1<<16)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || len(bytes.Trim(data, "\x00")) == 0 {
		return false, err
	}
	return true, checkVersion(data)
}

// create makes index.json or oci-layout. Its name is durable after the first Commit or
// Tag; openFS has noted it. If sync is true, its content is on disk before it gets the name.
func (t *tree) create(name string, content []byte, sync bool) error {
	temp := tempName(name)
	f, _, err := t.writeFile(temp, content, sync)
	if err != nil {
		return err
	}
	err = f.Close()
	if err == nil {
		err = t.rename(temp, name)
	}
	if err != nil {
		t.fs.Remove(temp)
	}
	return err
}

// openWait is how long Open waits for another process that makes the same directory a
// layout.
const openWait = time.Minute

// checkVersion returns an error if data, the content of oci-layout, has another major
// version than 1.
func checkVersion(data []byte) error {
	version, err := ocilayout.ParseVersion(data)
	if err != nil {
		return fmt.Errorf("%s: %w", layoutName, err)
	}
	if !strings.HasPrefix(version, "1.") {
		return fmt.Errorf("%s: version %.40q is not supported, only 1.x", layoutName, version)
	}
	return nil
}

// refuseStrange returns an error if the directory holds files that are not a layout's. A
// wrong path must not become a layout.
func (t *tree) refuseStrange() error {
	entries, err := t.fs.ReadDir(".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch e.Name() {
		case blobsDir, stateDir, indexName, "lost+found":
		case layoutName: // another process has just made the directory a layout
		default:
			return fmt.Errorf("the directory is not an OCI image layout: it does not have the file %q, and it holds %.80q: use an empty directory or a layout", layoutName, e.Name())
		}
	}
	return nil
}
