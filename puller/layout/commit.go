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
	// syncFSFrom is the least number of blobs for which one SyncFS is cheaper than a sync
	// of each blob.
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
		in.f.WriteBack() // the sync may have to wait for its turn, and then has little left to do
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

// errSync says that a partial could not be synced.
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
