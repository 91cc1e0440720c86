package layout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/pullkit/pullkit/internal/ocilayout"
)

const (
	// syncFSFrom is how many blobs are worth one SyncFS.
	syncFSFrom = 3
	// A SyncFS that took longer than syncFSSlow for each blob, because other programs
	// write a lot to the same file system, is left out for the next syncFSPause batches.
	syncFSSlow  = 20 * time.Millisecond
	syncFSPause = 64
	// writeBackFrom is the size from which a blob is worth a WriteBack of its own.
	writeBackFrom = 128 << 10
)

// Commit makes the blob visible, durably: its bytes are on disk before it has its name,
// and its name is on disk when Commit returns. Blobs that are committed at the same time
// are synced together. After an error the ingest is over; what was written is kept,
// unless it could not be synced.
func (in *ingest) Commit(ctx context.Context) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.ended {
		return in.b.fail(fs.ErrClosed, "store blob %s", in.desc.Digest)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if !in.done.Whole(in.desc.Size) {
		return in.b.fail(fmt.Errorf("only %v of its %d bytes were written", in.done, in.desc.Size), "store blob %s", in.desc.Digest)
	}
	in.arrive()
	if err := in.commit(ctx); err != nil {
		// After a failed sync the system takes the bytes for written: another sync would
		// succeed, and they still might not be on disk.
		lost := errors.Is(err, errSync)
		if !lost {
			in.flushList()
		}
		in.end(lost)
		return in.b.failOrCtx(ctx, err, "store blob %s", in.desc.Digest)
	}
	if in.list != nil {
		if err := in.removeList(); err != nil {
			in.b.log.Warn("the list of a stored blob stays behind", "digest", in.desc.Digest, "error", err)
		}
	}
	in.end(false)
	return nil
}

func (in *ingest) commit(ctx context.Context) error {
	if err := in.stamp(); err != nil {
		return err
	}
	if in.desc.Size >= writeBackFrom {
		in.f.WriteBack() // so that the sync, which may have to wait for its turn, has little left
	}
	if in.desc.Size > in.b.tune.smallBlob {
		if err := in.sync(); err != nil {
			return err
		}
		in.synced = true
	}
	return in.b.commits.do(ctx, in, in.b.commitAll)
}

// stamp gives the partial the times of a blob that was verified.
func (in *ingest) stamp() error {
	in.stamped = in.b.now()
	return in.b.fs.Chtimes(partName(in.desc.Digest), in.stamped, stamp)
}

var errSync = errors.New("sync")

func (in *ingest) sync() error {
	if err := in.f.Sync(); err != nil {
		return fmt.Errorf("%w: %w", errSync, err)
	}
	return nil
}

// commitAll does the commits that wait: it syncs all files, renames them, and syncs the
// directories.
func (b *blobs) commitAll(_ context.Context, take func() []*job[*ingest]) error {
	jobs := take()
	b.syncAll(jobs)
	dirs := make(map[string][]*job[*ingest])
	for _, j := range jobs {
		if j.err == nil {
			dir := algorithmDir(j.item.desc.Digest)
			dirs[dir] = append(dirs[dir], j)
		}
	}
	for dir, synced := range dirs {
		b.publishAll(dir, synced)
	}
	return nil
}

// syncAll makes the bytes and times of all files durable.
func (b *blobs) syncAll(jobs []*job[*ingest]) {
	var rest []*job[*ingest]
	for _, j := range jobs {
		if !j.item.synced {
			rest = append(rest, j)
		}
	}
	if len(rest) >= syncFSFrom && b.syncTogether(len(rest)) {
		return
	}
	for _, j := range rest {
		j.err = j.item.sync()
	}
}

// syncTogether reports whether one SyncFS has synced all files.
func (b *blobs) syncTogether(n int) bool {
	if b.skipSync.Load() > 0 {
		b.skipSync.Add(-1)
		return false
	}
	start := time.Now()
	err := b.fs.SyncFS()
	if errors.Is(err, errors.ErrUnsupported) {
		b.skipSync.Store(1 << 62)
		return false
	}
	if time.Since(start) > time.Duration(n)*syncFSSlow {
		b.skipSync.Store(syncFSPause)
	}
	// The error may be about another program's file, so each file is then synced alone.
	return err == nil
}

// publishAll gives blobs their names in dir, durably.
func (b *blobs) publishAll(dir string, jobs []*job[*ingest]) {
	var named []*job[*ingest]
	for _, j := range jobs {
		if j.err = j.item.publish(); j.err == nil {
			named = append(named, j)
		} else if err := b.checkBlobDirs(dir); err != nil {
			j.err = err // which says more
		}
	}
	if len(named) == 0 {
		return
	}
	err := b.checkBlobDirs(dir)
	if err == nil {
		err = b.syncDir(dir)
	}
	if err != nil {
		b.found.Store(true) // other processes may see the blobs
	}
	for _, j := range named {
		if j.err = err; err == nil {
			j.err = j.item.checkPublished()
		}
	}
}

// checkBlobDirs is an error unless the directory of blobs that was renamed into still has
// its name.
func (b *blobs) checkBlobDirs(dir string) error {
	if err := b.fs.CheckDir(blobsDir); err != nil {
		return err
	}
	return b.fs.CheckDir(dir)
}

// publish renames the partial to the blob, if it is still the file that was written to:
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
	if err := in.b.requireFile(part, mine); err != nil {
		return err
	}
	if err := in.b.rename(part, ocilayout.BlobName(in.desc.Digest)); err != nil {
		return err
	}
	in.published = mine
	in.b.noteUse(in.desc.Digest, mine, in.stamped)
	return nil
}

// checkPublished looks for the blob under its name: the directory that it went to may
// have been put aside just before.
func (in *ingest) checkPublished() error {
	return in.b.requireFile(ocilayout.BlobName(in.desc.Digest), in.published)
}

// A batch is a group commit: one caller, which has the turn, does the work that all
// callers wait for. The zero value is not usable; see newBatch.
type batch[T any] struct {
	turn chan struct{} // holds one value while a caller works
	more func() bool   // reports whether other callers are on their way
	last int           // how many jobs the last turn did; guarded by turn
	over time.Time     // when the last turn ended; guarded by turn
	mu   sync.Mutex
	wait []*job[T]
}

// linger is how long after a turn that did several jobs the next one begins at the
// soonest, while more callers are on their way. Each turn costs syncs, whose price
// hardly depends on how much there is to be synced.
const linger = 4 * time.Millisecond

// A job is what one caller waits for.
type job[T any] struct {
	item T
	err  error
	done chan struct{}
}

func newBatch[T any](more func() bool) *batch[T] {
	return &batch[T]{turn: make(chan struct{}, 1), more: more}
}

// do has item worked on, by this goroutine or another, and returns its error.
//
// work calls take to get all jobs that wait, this caller's among them unless another
// caller did it, and sets the error of each. If work returns an error before it called
// take, only this caller gets that error. ctx ends the wait for the turn; work gets ctx
// too and may heed it until it calls take.
func (b *batch[T]) do(ctx context.Context, item T, work func(ctx context.Context, take func() []*job[T]) error) error {
	j := &job[T]{item: item, done: make(chan struct{})}
	b.mu.Lock()
	b.wait = append(b.wait, j)
	b.mu.Unlock()
	select {
	case <-j.done:
		return j.err
	case b.turn <- struct{}{}:
	case <-ctx.Done():
		return b.leave(j, ctx.Err())
	}
	var taken []*job[T]
	over := false
	defer func() {
		if !over {
			b.abandon(j, taken)
		}
		<-b.turn
	}()
	select {
	case <-j.done: // by the caller that had the turn before
		over = true
		return j.err
	default:
	}
	if b.last > 1 && b.more() {
		time.Sleep(linger - time.Since(b.over))
	}
	err := work(ctx, func() []*job[T] {
		b.mu.Lock()
		defer b.mu.Unlock()
		taken, b.wait = b.wait, nil
		return taken
	})
	over = true
	b.last, b.over = len(taken), time.Now()
	for _, t := range taken {
		close(t.done)
	}
	if err != nil {
		return b.leave(j, err)
	}
	return j.err
}

var errAbandoned = errors.New("the goroutine that did this for several callers panicked")

// abandon ends the turn of a work that panicked: its jobs are not done, and their callers
// do not wait any longer.
func (b *batch[T]) abandon(j *job[T], taken []*job[T]) {
	b.mu.Lock()
	b.wait = slices.DeleteFunc(b.wait, func(x *job[T]) bool { return x == j })
	b.mu.Unlock()
	for _, t := range taken {
		if t.err == nil {
			t.err = errAbandoned
		}
		close(t.done)
	}
}

// leave removes j from the jobs that wait. If another caller works on j already, the
// outcome of that counts.
func (b *batch[T]) leave(j *job[T], err error) error {
	b.mu.Lock()
	i := slices.Index(b.wait, j)
	if i >= 0 {
		b.wait = slices.Delete(b.wait, i, i+1)
	}
	b.mu.Unlock()
	if i >= 0 {
		return err
	}
	<-j.done
	return j.err
}
