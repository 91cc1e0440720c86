package layout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"
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
	err := in.f.Chtimes(now, stamp)
	if errors.Is(err, errors.ErrUnsupported) {
		return in.l.fs.Chtimes(partName(in.desc.Digest), now, stamp)
	}
	return err
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
		gone := l.publishIn(dir, synced)
		if len(gone) == 0 {
			continue
		}
		if err := l.ready(gone[0].item.in.desc.Digest); err != nil {
			for _, j := range gone {
				j.err = err
			}
			continue
		}
		l.publishIn(dir, gone)
	}
	return nil
}

// publishIn gives the jobs' blobs their names in dir, durably. It returns the jobs
// for which a directory was not there, or the partial.
func (l *Layout) publishIn(dir string, jobs []*job[*commitItem]) (gone []*job[*commitItem]) {
	at, err := l.fs.Dir(dir)
	var named []*job[*commitItem]
	for _, j := range jobs {
		if j.err = err; err == nil {
			j.err = j.item.in.publish()
		}
		if j.err == nil {
			named = append(named, j)
			continue
		}
		l.dirs.Clear()
		if errors.Is(j.err, fs.ErrNotExist) {
			gone = append(gone, j)
		}
	}
	if len(named) == 0 {
		return gone
	}
	if err := l.settleIn(dir, at); err != nil {
		l.dirs.Clear()
		l.found.Store(true) // they may be in sight
		for _, j := range named {
			j.err = err
		}
	}
	return gone
}

// settleIn makes the names in dir durable, to which blobs were given, if it is still
// the layout's, and not one that another program has removed or put aside.
func (l *Layout) settleIn(dir string, was fs.FileInfo) error {
	if err := l.fs.CheckDir(blobsDir); err != nil {
		return err
	}
	at, err := l.fs.Lstat(dir)
	if err == nil && l.fs.SameFile(was, at) {
		return l.syncKnown(dir, at)
	}
	if cerr := l.fs.CheckDir(dir); err == nil { // and what comes goes to the one that is there
		err = cerr
	}
	if err == nil {
		err = fmt.Errorf("%q is not the directory it was", dir)
	}
	return err
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
// another program may have removed the state directory and another process begun
// anew.
func (in *ingest) publish() error {
	mine, err := in.f.Stat()
	if err != nil {
		return err
	}
	part := partName(in.desc.Digest)
	if mine.Size() != in.desc.Size {
		return fmt.Errorf("%q has %d bytes: %w", part, mine.Size(), errOtherFile)
	}
	err = in.l.whileBusy(func() error { return in.l.fs.RenameFile(mine, part, blobName(in.desc.Digest)) })
	if err == nil {
		in.l.noteUse(in.desc.Digest, mine, in.stamped)
	}
	return err
}
