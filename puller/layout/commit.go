package layout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/pullkit/pullkit/internal/ocilayout"
)

const (
	// syncFSFrom is how many blobs are worth one SyncFS.
	syncFSFrom = 3
	// A SyncFS that took longer than syncFSSlow a blob, as others write a lot to
	// the same file system, is left out for the next syncFSPause batches.
	syncFSSlow  = 20 * time.Millisecond
	syncFSPause = 64
	// writeBackFrom is the size from which a blob is worth a WriteBack of its own.
	writeBackFrom = 128 << 10
)

type commitItem struct {
	in     *ingest
	synced bool
}

// Commit makes the blob visible, durably: its bytes are on disk before it has
// its name, and its name is when Commit returns. Blobs that are committed at
// the same time are synced together. After an error the ingest is over; what
// was written is kept, unless it could not be synced.
func (in *ingest) Commit(ctx context.Context) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.ended {
		return in.l.fail(fs.ErrClosed, "store blob %s", in.desc.Digest)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if !in.done.Whole(in.desc.Size) {
		return in.l.fail(fmt.Errorf("only %v of its %d bytes were written", in.done, in.desc.Size), "store blob %s", in.desc.Digest)
	}
	in.arrive()
	err := in.commit(ctx)
	if err != nil {
		// After a failed sync the system takes the bytes for written: another
		// sync would succeed and they still might not be on disk.
		lost := errors.Is(err, errSync)
		if !lost {
			in.flushList()
		}
		in.end(lost)
		if cerr := ctx.Err(); cerr != nil && errors.Is(err, cerr) {
			return err
		}
		return in.l.fail(err, "store blob %s", in.desc.Digest)
	}
	if in.list != nil {
		if err := in.removeList(); err != nil {
			in.l.log.Warn("the list of a stored blob stays behind", "digest", in.desc.Digest, "error", err)
		}
	}
	in.end(false)
	return nil
}

func (in *ingest) commit(ctx context.Context) error {
	if err := in.stamp(); err != nil {
		return err
	}
	item := &commitItem{in: in}
	if in.desc.Size >= writeBackFrom {
		in.f.WriteBack() // so that the sync, which may have to wait for its turn, has little left
	}
	if in.desc.Size > in.l.tune.smallBlob {
		if err := in.sync(); err != nil {
			return err
		}
		item.synced = true
	}
	return in.l.commits.do(ctx, item, in.l.commitAll)
}

// stamp gives the partial the times of a blob that was verified.
func (in *ingest) stamp() error {
	now := in.l.cfg.Now()
	in.stamped = now
	return in.l.fs.Chtimes(partName(in.desc.Digest), now, stamp)
}

var errSync = errors.New("sync")

func (in *ingest) sync() error {
	if err := in.f.Sync(); err != nil {
		return fmt.Errorf("%w: %w", errSync, err)
	}
	return nil
}

// commitAll syncs what is not, names all, and syncs the names.
func (l *Layout) commitAll(_ context.Context, take func() []*job[*commitItem]) error {
	jobs := take()
	l.syncAll(jobs)
	dirs := make(map[string][]*job[*commitItem])
	for _, j := range jobs {
		if j.err == nil {
			dir := algorithmDir(j.item.in.desc.Digest)
			dirs[dir] = append(dirs[dir], j)
		}
	}
	for dir, synced := range dirs {
		l.publishIn(dir, synced)
	}
	return nil
}

// publishIn gives the jobs' blobs their names in dir, durably.
func (l *Layout) publishIn(dir string, jobs []*job[*commitItem]) {
	var named []*job[*commitItem]
	for _, j := range jobs {
		if j.err = j.item.in.publish(); j.err == nil {
			named = append(named, j)
		} else if err := l.checkOpenDirs(dir); err != nil {
			j.err = err // which says more
		}
	}
	if len(named) == 0 {
		return
	}
	err := l.settlePublished(dir)
	if err != nil {
		l.found.Store(true) // the blobs may be seen
	}
	for _, j := range named {
		if j.err = err; err == nil {
			j.err = j.item.in.checkPublished()
		}
	}
}

// settlePublished makes the names in dir durable, unless another program has removed
// the directory or put another one in its place.
func (l *Layout) settlePublished(dir string) error {
	if err := l.checkOpenDirs(dir); err != nil {
		return err
	}
	return l.syncDir(dir)
}

// checkOpenDirs is an error unless the directory of blobs that was written to still
// has its name.
func (l *Layout) checkOpenDirs(dir string) error {
	if err := l.fs.CheckDir(blobsDir); err != nil {
		return err
	}
	return l.fs.CheckDir(dir)
}

// syncAll makes the bytes and times of all jobs' files durable.
func (l *Layout) syncAll(jobs []*job[*commitItem]) {
	var rest []*job[*commitItem]
	for _, j := range jobs {
		if !j.item.synced {
			rest = append(rest, j)
		}
	}
	if len(rest) >= syncFSFrom && l.syncTogether(len(rest)) {
		return
	}
	for _, j := range rest {
		j.err = j.item.in.sync()
	}
}

// syncTogether reports whether one SyncFS has done it.
func (l *Layout) syncTogether(n int) bool {
	if l.skipSync.Load() > 0 {
		l.skipSync.Add(-1)
		return false
	}
	start := time.Now()
	err := l.fs.SyncFS()
	if errors.Is(err, errors.ErrUnsupported) {
		l.skipSync.Store(1 << 62)
		return false
	}
	if time.Since(start) > time.Duration(n)*syncFSSlow {
		l.skipSync.Store(syncFSPause)
	}
	// An error may be of somebody else's file: each file is then asked for its own.
	return err == nil
}

// publish gives the partial its name, if it is still the file that was written to:
// another program may have removed the state directory, and another process may have
// begun the blob again.
func (in *ingest) publish() error {
	mine, err := in.f.Stat()
	if err != nil {
		return err
	}
	part := partName(in.desc.Digest)
	if mine.Size() != in.desc.Size {
		return fmt.Errorf("%q has %d bytes: %w", part, mine.Size(), errOtherFile)
	}
	if err := in.l.requireFile(part, mine); err != nil {
		return err
	}
	if err := in.l.rename(part, ocilayout.BlobName(in.desc.Digest)); err != nil {
		return err
	}
	in.published = mine
	in.l.noteUse(in.desc.Digest, mine, in.stamped)
	return nil
}

// checkPublished finds the blob under its name: the directory that it went to may
// have been put aside just before.
func (in *ingest) checkPublished() error {
	return in.l.requireFile(ocilayout.BlobName(in.desc.Digest), in.published)
}

// requireFile is an error unless the file that want describes has the name.
func (l *Layout) requireFile(name string, want fs.FileInfo) error {
	got, err := l.fs.Lstat(name)
	if err == nil && !l.fs.SameFile(want, got) {
		err = fmt.Errorf("%q: %w", name, errOtherFile)
	}
	return err
}
