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
	// syncFSFrom is the number of blobs from which one SyncFS is cheaper than a sync of
	// each.
	syncFSFrom = 3
	// A SyncFS is slow while other programs write much to the same file system. If one
	// takes longer than syncFSSlow for each blob, the next syncFSPause batches sync each
	// blob instead.
	syncFSSlow  = 20 * time.Millisecond
	syncFSPause = 64
	// writeBackFrom is the size from which a blob gets its own WriteBack before the sync.
	writeBackFrom = 128 << 10
)

// Commit gives the blob its name, durably. The blob's bytes are on disk before it gets
// the name, and the name is on disk when Commit returns. Blobs that are committed at the
// same time are synced together. After an error the ingest has ended. The written bytes
// are kept, unless the sync of the file failed.
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
		return in.b.fail(fmt.Errorf("only the ranges %v of its %d bytes were written", in.done, in.desc.Size), "store blob %s", in.desc.Digest)
	}
	if err := in.commit(ctx); err != nil {
		// After a failed sync the system marks the bytes as written. Another sync would
		// then succeed, although the bytes may not be on disk.
		lost := errors.Is(err, errSync)
		if !lost {
			in.flushList()
		}
		in.end(lost)
		return in.b.failOrCtx(ctx, err, "store blob %s", in.desc.Digest)
	}
	if in.list != nil {
		if err := in.removeList(); err != nil {
			in.b.log.Warn("the side list of a stored blob could not be removed", "digest", in.desc.Digest, "error", err)
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
		in.f.WriteBack() // so that the sync, which may have to wait for its turn, has little left to do
	}
	if in.desc.Size > in.b.tune.smallBlob {
		in.arrive() // other commits do not wait for this sync
		if err := in.sync(); err != nil {
			return err
		}
		in.synced = true
	}
	j := in.b.commits.add(in)
	in.arrive() // not before add, so that a turn that waits for this ingest does its commit
	return in.b.commits.do(ctx, j, in.b.commitAll)
}

// stamp gives the partial the times of a verified blob.
func (in *ingest) stamp() error {
	in.stamped = in.b.now()
	return in.b.fs.Chtimes(partName(in.desc.Digest), in.stamped, stamp)
}

// errSync says that the sync of a partial failed.
var errSync = errors.New("sync")

func (in *ingest) sync() error {
	if err := in.f.Sync(); err != nil {
		return fmt.Errorf("%w: %w", errSync, err)
	}
	return nil
}

// commitAll performs all commits that wait. It syncs their files, renames them, and syncs
// the directories.
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

// syncTogether syncs n files with one SyncFS. It reports whether that worked.
func (b *blobs) syncTogether(n int) bool {
	if b.skipSync.Load() > 0 {
		b.skipSync.Add(-1)
		return false
	}
	start := time.Now()
	err := b.syncFS()
	if errors.Is(err, errors.ErrUnsupported) {
		b.skipSync.Store(1 << 62)
		return false
	}
	if time.Since(start) > time.Duration(n)*syncFSSlow {
		b.skipSync.Store(syncFSPause)
	}
	// The error may be that of another program's file. In this case the caller syncs each
	// file.
	return err == nil
}

// publishAll gives blobs their names in the directory dir, durably.
func (b *blobs) publishAll(dir string, jobs []*job[*ingest]) {
	var named []*job[*ingest]
	for _, j := range jobs {
		if j.err = j.item.publish(); j.err == nil {
			named = append(named, j)
		} else if err := b.checkBlobDirs(dir); err != nil {
			j.err = err // this error is more exact
		}
	}
	if len(named) == 0 {
		return
	}
	b.note(dir)
	err := b.checkBlobDirs(dir)
	if err == nil {
		err = b.syncNoted()
	}
	for _, j := range named {
		if j.err = err; err == nil {
			j.err = j.item.checkPublished()
		}
	}
}

// checkBlobDirs returns an error unless the directory into which blobs were renamed still
// has its name.
func (b *blobs) checkBlobDirs(dir string) error {
	if err := b.fs.CheckDir(blobsDir); err != nil {
		return err
	}
	return b.fs.CheckDir(dir)
}

// publish renames the partial to the name of the blob, if the partial is still the file
// to which this ingest wrote. Another program may have removed the state directory, and
// another process may then have started to ingest the blob again.
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

// checkPublished returns an error unless the blob has its name. The directory into which
// it was renamed may have been moved away just before.
func (in *ingest) checkPublished() error {
	return in.b.requireFile(ocilayout.BlobName(in.desc.Digest), in.published)
}

// A batch is a group commit: one caller at a time has the turn, and does the work for all
// callers that wait. newBatch returns a batch; the zero batch is not usable.
type batch[T any] struct {
	turn chan struct{}          // holds one value while a caller has the turn
	over func() <-chan struct{} // see arrivals.over
	last int                    // number of jobs of the last turn; guarded by turn
	mu   sync.Mutex
	wait []*job[T]
}

// linger is how long a turn waits at most for other callers that are expected soon, unless
// the last turn had only one job. Each turn costs several syncs, and a sync costs about the
// same for few bytes as for many. The first turn waits longer, up to firstLinger, because
// it often has the blobs of the first image, which come over new connections.
const (
	linger      = 4 * time.Millisecond
	firstLinger = 5 * linger
)

// An arrivals value counts ingests whose bytes have not all arrived. Their callers are
// expected to commit them soon.
type arrivals struct {
	mu   sync.Mutex
	n    int
	none chan struct{} // closed when n becomes 0; nil while n is 0
}

func (a *arrivals) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.n == 0 {
		a.none = make(chan struct{})
	}
	a.n++
}

func (a *arrivals) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.n--; a.n == 0 {
		close(a.none)
		a.none = nil
	}
}

// over returns a channel that is closed when no ingest is counted any more, or nil if none
// is counted now.
func (a *arrivals) over() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.none
}

// A job is the work for one caller.
type job[T any] struct {
	item T
	err  error
	done chan struct{}
}

func newBatch[T any](over func() <-chan struct{}) *batch[T] {
	return &batch[T]{turn: make(chan struct{}, 1), over: over}
}

// add adds a job to those that wait. The caller then calls do.
func (b *batch[T]) add(item T) *job[T] {
	j := &job[T]{item: item, done: make(chan struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wait = append(b.wait, j)
	return j
}

// do returns when this caller or another has done the job that add returned. It returns
// the job's error.
//
// The caller that has the turn calls work. work calls take, which returns all jobs that
// wait, and sets the error of each. If another caller has done this caller's job already,
// take does not return that job. If work returns an error before it calls take, only this
// caller gets that error. If ctx ends before the caller has the turn, do returns. work
// gets ctx too, and may use it until it calls take.
func (b *batch[T]) do(ctx context.Context, j *job[T], work func(ctx context.Context, take func() []*job[T]) error) error {
	select {
	case <-j.done:
		return j.err
	case b.turn <- struct{}{}:
	case <-ctx.Done():
		return b.leave(j, ctx.Err())
	}
	var taken []*job[T]
	done := false
	defer func() {
		if !done {
			b.abandon(j, taken)
		}
		<-b.turn
	}()
	select {
	case <-j.done: // the caller that had the turn before did the work
		done = true
		return j.err
	default:
	}
	if over := b.over(); over != nil && b.last != 1 {
		wait := linger
		if b.last == 0 {
			wait = firstLinger
		}
		timer := time.NewTimer(wait)
		select {
		case <-over:
		case <-timer.C:
		}
		timer.Stop()
	}
	err := work(ctx, func() []*job[T] {
		b.mu.Lock()
		defer b.mu.Unlock()
		taken, b.wait = b.wait, nil
		return taken
	})
	done = true
	b.last = len(taken)
	for _, t := range taken {
		close(t.done)
	}
	if err != nil {
		return b.leave(j, err)
	}
	return j.err
}

// errAbandoned is the error of jobs whose work panicked.
var errAbandoned = errors.New("the goroutine that did the work for several callers panicked")

// abandon ends the turn of a work that panicked. Its jobs get errAbandoned, so that their
// callers do not wait for ever.
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

// leave removes j from the jobs that wait and returns err. If another caller works on j
// already, leave waits for it and returns the error of j.
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
