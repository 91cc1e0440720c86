package layout

import (
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

// A Config says how a layout is kept. The zero Config is good.
type Config struct {
	// PartialAge is how long a blob that did not arrive as a whole is kept after its
	// last write, if no process works on it. Zero means 24 hours, negative for ever.
	PartialAge time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Logger gets what went wrong without harm; nil means that it is not logged.
	Logger *slog.Logger
}

// A Layout is an OCI image layout directory that is a content.Store. Its
// methods may be called concurrently, and several processes, and several
// Layouts of one process, may use one directory.
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
	_ content.Lister          = (*Layout)(nil)
)

// Open opens the OCI image layout in dir. An empty or missing directory becomes one. A
// directory that holds other things is refused. Open writes nothing to a layout that is
// whole, so that a read-only one can be read. An error is of kind content.ErrStore.
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
	t := &tree{dir: dir, fs: fsys, log: cfg.Logger, now: cfg.Now}
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

// Close releases what the layout holds open. No method may be called after it.
func (l *Layout) Close() error {
	var err error
	l.closeOnce.Do(func() {
		l.names.close()
		err = l.fail(l.fs.Close(), "close")
	})
	return err
}

// Dir is the directory, absolute.
func (l *Layout) Dir() string { return l.dir }

// Free is how many bytes this process can still write to the layout's file system;
// math.MaxInt64 where the system cannot be asked, as on NetBSD and Solaris.
func (l *Layout) Free(context.Context) (int64, error) {
	n, err := l.fs.Free()
	return n, l.fail(err, "ask for free space")
}

// Has reports whether desc's content is stored. A blob of another size is not;
// one whose modification time is not that of a blob stored here is hashed
// first. That the bits on disk are still good is for Verify to find out.
func (l *Layout) Has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if err := ocilayout.CheckDescriptor(desc); err != nil {
		return false, err
	}
	ok, err := l.find(ctx, desc)
	return ok, l.failOrCtx(ctx, err, "look for blob %s", desc.Digest)
}

// Open reads stored content; it checks what Has does. The reader is an
// io.ReaderAt too. The error wraps fs.ErrNotExist if there is none.
func (l *Layout) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if err := ocilayout.CheckDescriptor(desc); err != nil {
		return nil, err
	}
	return l.openBlob(ctx, desc)
}

// FS is the stored blobs as a read-only file system. Their names are
// algorithm/encoded, such as sha256/e3b0c442...: a digest with a slash. A blob
// that was put there or changed by another program is hashed when it is opened,
// and is not there if it is wrong. The files are io.ReaderAt and io.Seeker.
func (l *Layout) FS() fs.FS { return blobFS{l.blobs} }

// Ingest begins to store desc's content, or goes on with what an earlier one
// left. It waits, as long as ctx lets it, while another goroutine or process
// ingests the same digest. The error wraps fs.ErrExist if the content is
// stored, also if it came while waiting, and is of kind content.ErrStore if the
// directory cannot be written to or has not the space.
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

// Kept is how many bytes of desc's content an earlier ingest left, as its
// partial or, if it has one, its side list says. It takes no lock.
func (l *Layout) Kept(_ context.Context, desc ocispec.Descriptor) (int64, error) {
	if err := ocilayout.CheckDescriptor(desc); err != nil {
		return 0, err
	}
	n, err := l.keptBytes(desc)
	return n, l.fail(err, "look for what has arrived of blob %s", desc.Digest)
}

// Lookup returns what ref was tagged with: an index, where that is what the
// name points to, though only one of its manifests may be stored. An entry that
// another tool wrote counts if its ref.name annotation has a registry and means
// ref, or is ref's tag beside an io.containerd.image.name that means ref.
//
// A ref with a digest is also found if another name of the same repository was
// tagged with that digest, or with an index that lists it, itself or through indexes
// within it, and it is stored: one digest in one repository is one image, whatever
// its tag. At most five levels and 64 indexes of an image are looked through.
//
// The error wraps fs.ErrNotExist if there is no such image.
func (l *Layout) Lookup(ctx context.Context, ref reference.Reference) (ocispec.Descriptor, error) {
	return l.lookup(ctx, ref)
}

// Tag makes ref name desc in index.json and returns when that is durable. Tags
// that wait for the same lock are written together.
//
// The entry's annotations org.opencontainers.image.ref.name and
// io.containerd.image.name both hold the whole canonical name. If desc is an
// index of which only one image is stored, the entry is that image's manifest,
// because tools such as umoci read no index, and skopeo no index that has absent
// parts when it is to copy all of it; a third annotation keeps desc for Lookup.
//
// The error wraps fs.ErrNotExist if desc, or after a Remove or Prune anything
// that desc needs, is not stored. It is of kind content.ErrStore and wraps
// content.ErrTooLarge if index.json would become larger than 128 MiB, the most
// that is read; the file stays as it was.
func (l *Layout) Tag(ctx context.Context, ref reference.Reference, desc ocispec.Descriptor) error {
	return l.tag(ctx, ref, desc)
}

// List returns the entries of index.json in their order, those of other tools
// among them. The error is of kind content.ErrStore.
func (l *Layout) List(ctx context.Context) ([]content.Entry, error) { return l.list(ctx) }

// prepare makes what a layout must have. The file oci-layout comes last, so
// that a directory that has it is whole.
func (t *tree) prepare() error {
	for _, name := range []string{blobsDir, stateDir} {
		if err := t.checkDir(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	fi, err := t.fs.Lstat(layoutName)
	switch {
	case err == nil && !fi.Mode().IsRegular():
		return fmt.Errorf("%q: %w", layoutName, disk.ErrNotRegular)
	case err == nil:
		return t.checkVersion()
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := t.refuseStrange(); err != nil {
		return err
	}
	if err := t.mkdirs(blobsDir, stateDir, ingestDir); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), openWait)
	defer cancel()
	unlock, err := t.lock(ctx, indexLock)
	if err != nil {
		return fmt.Errorf("another process that makes it a layout has the lock: %w", err)
	}
	defer unlock()
	if _, err := t.fs.Lstat(layoutName); err == nil {
		return t.checkVersion()
	}
	if _, err := t.fs.Lstat(indexName); errors.Is(err, fs.ErrNotExist) {
		if err := t.replace(indexName, emptyIndex().Encode()); err != nil {
			return err
		}
	}
	return t.replace(layoutName, []byte(ocilayout.Layout))
}

// openWait is how long Open waits for another process that makes the same
// directory a layout.
const openWait = time.Minute

// checkVersion refuses a layout of another major version.
func (t *tree) checkVersion() error {
	data, err := t.read(layoutName, 1<<16)
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
func (t *tree) refuseStrange() error {
	entries, err := t.fs.ReadDir(".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch e.Name() {
		case blobsDir, stateDir, indexName, "lost+found":
		case layoutName: // another process made it one just now
		default:
			return fmt.Errorf("it is not an OCI image layout: it has no file %q and holds %.80q; give an empty directory or a layout", layoutName, e.Name())
		}
	}
	return nil
}
