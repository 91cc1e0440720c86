package layout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// askFreeFrom is the size from which the free space is asked for first.
const askFreeFrom = 1 << 20

func partName(d digest.Digest) string {
	return stateDir + "/" + strings.ReplaceAll(string(d), ":", "-") + partSuffix
}

func listName(d digest.Digest) string {
	return stateDir + "/" + strings.ReplaceAll(string(d), ":", "-") + listSuffix
}

// open makes a new partial, or opens the one there is with what its side list
// tells of it.
func (in *ingest) open() error {
	fsys, part := in.l.fs, partName(in.desc.Digest)
	f, err := fsys.OpenFile(part, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if errors.Is(err, fs.ErrExist) {
		if ok, err := in.reopen(part); ok || err != nil {
			return err
		}
		f, err = in.l.createFresh(part)
	}
	if err != nil {
		return err
	}
	in.f = f
	// A list without its partial would tell of bytes that are not there. That of
	// a blob too small to have one is not worth looking for: the hash tells.
	if in.desc.Size >= in.l.tune.listEvery {
		if err := in.removeList(); err != nil {
			f.Close()
			return err
		}
	}
	return nil
}

// reopen opens the partial there is; ok is false if it is of no use: a planted
// link, or longer than the blob, as one is that another descriptor lied about.
func (in *ingest) reopen(part string) (ok bool, err error) {
	f, err := in.l.fs.OpenFile(part, os.O_RDWR)
	if errors.Is(err, errNotRegular) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	fi, err := f.Stat()
	if err == nil && fi.Size() <= in.desc.Size {
		in.f = f
		if err = in.loadList(fi); err == nil {
			return true, nil
		}
	}
	f.Close()
	return false, err
}

// loadList believes of the side list what lies within the partial. Without one,
// or a record in it, the partial was written from its beginning on.
func (in *ingest) loadList(fi fs.FileInfo) error {
	list, err := in.l.fs.OpenFile(listName(in.desc.Digest), os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		in.keep(in.done.add(0, fi.Size()))
		return nil
	}
	if errors.Is(err, errNotRegular) {
		return in.removeList()
	}
	if err != nil {
		return err
	}
	data, err := readAll(list, listName(in.desc.Digest), maxListSize)
	if err != nil {
		list.Close()
		in.l.log.Warn("the list of a partial blob is not used", "digest", in.desc.Digest, "error", err)
		return in.removeList()
	}
	done, n := parseRecords(data, fi.Size())
	if n == 0 {
		list.Close()
		in.keep(done.add(0, fi.Size()))
		return in.removeList()
	}
	in.keep(done)
	in.list, in.listEnd = list, n
	return nil
}

func (in *ingest) keep(s spans) { in.done, in.kept = s, slices.Clone(s) }

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
	if err := checkDesc(desc); err != nil {
		return 0, err
	}
	n, err := l.keptBytes(desc)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotRegular) {
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
	data, err := l.read(listName(desc.Digest), maxListSize)
	if errors.Is(err, fs.ErrNotExist) {
		return fi.Size(), nil
	}
	if err != nil {
		return 0, err
	}
	done, n := parseRecords(data, fi.Size())
	if n == 0 {
		return fi.Size(), nil
	}
	return done.total(), nil
}

// checkSpace is an error that wraps ENOSPC if what is missing cannot fit.
func (in *ingest) checkSpace() error {
	missing := in.desc.Size - spans(in.kept).total()
	if missing < askFreeFrom {
		return nil
	}
	free, err := in.l.fs.Free()
	if err != nil {
		in.l.log.Debug("the free space is not known", "error", err)
		return nil
	}
	if free < missing {
		return fmt.Errorf("%d bytes are missing and %d are free: %w", missing, free, syscall.ENOSPC)
	}
	return nil
}
