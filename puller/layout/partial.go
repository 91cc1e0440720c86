package layout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/internal/spans"
	"github.com/pullkit/pullkit/puller/content"
)

// askFreeFrom is the size from which the free space is asked for first.
const askFreeFrom = 1 << 20

func partName(d digest.Digest) string {
	return ingestDir + "/" + strings.ReplaceAll(string(d), ":", "-") + partSuffix
}

func listName(d digest.Digest) string {
	return ingestDir + "/" + strings.ReplaceAll(string(d), ":", "-") + listSuffix
}

// open makes a new partial, or opens the one there is with what its side list
// tells of it.
func (in *ingest) open() error {
	part := partName(in.desc.Digest)
	f, err := in.l.fs.OpenFile(part, disk.NewFile)
	if errors.Is(err, fs.ErrExist) {
		if ok, err := in.reopen(part); ok || err != nil {
			return err
		}
		if err := in.removeFiles(); err != nil {
			return err
		}
		f, err = in.l.fs.OpenFile(part, disk.NewFile)
	}
	if err != nil {
		return err
	}
	in.f = f
	// A list without its partial would tell of less than there will be. That of
	// a blob too small to have one is not worth looking for.
	if in.desc.Size >= in.l.tune.listEvery {
		if err := in.removeList(); err != nil {
			f.Close()
			return err
		}
	}
	return nil
}

// reopen opens the partial there is; ok is false if it is of no use: a planted
// link, or longer than the blob, as one is that another descriptor lied about, or
// with a list that tells nothing.
func (in *ingest) reopen(part string) (ok bool, err error) {
	f, err := in.l.fs.OpenFile(part, os.O_RDWR)
	if errors.Is(err, disk.ErrNotRegular) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	fi, err := f.Stat()
	if err == nil && fi.Size() <= in.desc.Size {
		in.f = f
		if ok, err = in.loadList(fi); ok {
			return true, nil
		}
	}
	f.Close()
	return false, err
}

// loadList believes of the side list what lies within the partial. Without one,
// or a record in it, the partial was written from its beginning on. With one that
// cannot be read nobody knows what was written.
func (in *ingest) loadList(fi fs.FileInfo) (ok bool, err error) {
	list, done, n, err := in.l.openList(in.desc.Digest, fi.Size(), os.O_RDWR)
	if err != nil {
		if errors.Is(err, errUselessList) {
			in.l.log.Warn("a partial blob is not used", "digest", in.desc.Digest, "error", err)
			return false, nil
		}
		return false, err
	}
	in.done, in.kept = done, slices.Clone(done)
	if n > 0 {
		in.list, in.listEnd = list, n
		return true, nil
	}
	if list != nil {
		list.Close()
		err = in.removeList()
	}
	return err == nil, err
}

var errUselessList = errors.New("its list cannot be read")

// openList tells which ranges of a partial of that size were written. The list is
// nil if there is none, and to be closed; n is the length of its good records.
func (l *Layout) openList(d digest.Digest, size int64, flag int) (list disk.File, done spans.Set, n int64, err error) {
	name := listName(d)
	list, err = l.fs.OpenFile(name, flag)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, done.Add(spans.Span{Off: 0, End: size}), 0, nil
	case errors.Is(err, disk.ErrNotRegular):
		return nil, nil, 0, fmt.Errorf("%w: %w", errUselessList, err)
	case err != nil:
		return nil, nil, 0, err
	}
	data, err := readAll(list, name, maxListSize)
	if err != nil {
		list.Close()
		return nil, nil, 0, fmt.Errorf("%w: %w", errUselessList, err)
	}
	if done, n = parseRecords(data, size); n == 0 {
		done = done.Add(spans.Span{Off: 0, End: size})
	}
	return list, done, n, nil
}

// removeFiles removes the partial and then its list: without one, what is left of
// a partial would be taken for written from its beginning on.
func (in *ingest) removeFiles() error {
	err := in.l.fs.Remove(partName(in.desc.Digest))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return in.removeList()
}

func (in *ingest) removeList() error {
	err := in.l.fs.Remove(listName(in.desc.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Kept is how many bytes of desc's content an earlier ingest left, as its
// partial or, if it has one, its side list tells. It takes no lock.
func (l *Layout) Kept(_ context.Context, desc ocispec.Descriptor) (int64, error) {
	if err := ocilayout.CheckDescriptor(desc); err != nil {
		return 0, err
	}
	n, err := l.keptBytes(desc)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, disk.ErrNotRegular) {
		return 0, nil
	}
	return n, l.fail(err, "look for what there is of blob %s", desc.Digest)
}

func (l *Layout) keptBytes(desc ocispec.Descriptor) (int64, error) {
	fi, err := l.fs.Lstat(partName(desc.Digest))
	if err != nil {
		return 0, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > desc.Size {
		return 0, nil
	}
	list, done, _, err := l.openList(desc.Digest, fi.Size(), os.O_RDONLY)
	if errors.Is(err, errUselessList) {
		return 0, nil
	}
	if list != nil {
		list.Close()
	}
	return done.Total(), err
}

// checkSpace is an error that wraps content.ErrNoSpace if so many bytes cannot fit.
func (l *Layout) checkSpace(missing int64) error {
	if missing < askFreeFrom {
		return nil
	}
	free, err := l.fs.Free()
	if err != nil {
		l.log.Debug("the free space is not known", "error", err)
		return nil
	}
	if free < missing {
		return fmt.Errorf("%d bytes are missing and %d are free: %w", missing, free, content.ErrNoSpace)
	}
	return nil
}
