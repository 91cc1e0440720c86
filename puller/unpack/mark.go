package unpack

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/internal/newdir"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/internal/regular"
	"github.com/pullkit/pullkit/internal/verify"
)

// A key says what a directory was made of. Equal keys give equal directories.
type key struct {
	Manifest digest.Digest `json:"manifest"`
	SubPath  string        `json:"subPath,omitempty"`
}

// A mark is the content of the file .pullkit. It says that Files has made the directory,
// and what is in it.
type mark struct {
	Version int `json:"version"`
	key
	Entries []entry `json:"entries"`
}

const (
	markVersion = 1
	maxMark     = 256 << 20 // bytes of the file
)

// writeMark writes the mark into the tree.
func writeMark(root *os.Root, m mark, before func(op, name string) error) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(data) > maxMark {
		return bad(ErrTooLarge, "the list of its files has %d bytes, more than %d", len(data), maxMark)
	}
	return newdir.WriteFile(root, markName, data, false, before) // Publish syncs the whole tree
}

// check checks the directory that an earlier call has made, and returns what is in it. It does
// not change the directory.
func (u *unpacker) check(ctx context.Context, name string, dir fs.FileInfo) ([]entry, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if at, err := root.Stat("."); err != nil || !os.SameFile(at, dir) {
		return nil, bad(ErrTaken, "it changes while it is read")
	}
	data, _, err := regular.ReadIn(root, markName, maxMark)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, regular.ErrNotRegular) || errors.Is(err, regular.ErrTooLarge) {
		return nil, bad(ErrTaken, "it does not have the file %s", markName)
	}
	if err != nil {
		return nil, err
	}
	var m mark
	if json.Unmarshal(data, &m) != nil || m.Version != markVersion {
		return nil, bad(ErrTaken, "its file %s cannot be read", markName)
	}
	if m.key != u.key {
		return nil, bad(ErrTaken, "it was made of manifest %s, SubPath %s", quote(string(m.Manifest)), quote(m.SubPath))
	}
	for i := range m.Entries {
		e := &m.Entries[i]
		if err := u.checkEntry(ctx, root, e); err != nil {
			return nil, &Error{Layer: e.Layer, File: e.Name, Err: err}
		}
	}
	return m.Entries, compareNames(root, m.Entries, markName)
}

// checkEntry checks one file of a directory that an earlier call has made.
func (u *unpacker) checkEntry(ctx context.Context, root *os.Root, e *entry) error {
	if clean, err := cleanName(e.Name); err != nil || clean != e.Name {
		return bad(ErrTaken, "its file %s lists a name that is not allowed", markName)
	}
	info, err := root.Lstat(e.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return bad(ErrChanged, "it is missing")
	}
	if err != nil {
		return err
	}
	if !e.isKind(info.Mode()) {
		return bad(ErrChanged, "it is of another type")
	}
	switch e.Kind {
	case kindSymlink:
		target, err := root.Readlink(e.Name)
		if err != nil {
			return err
		}
		if target != e.Link {
			return bad(ErrChanged, "it leads to another file")
		}
	case kindFile:
		if info.Size() != e.Size {
			return bad(ErrChanged, "it has %d bytes, not %d", info.Size(), e.Size)
		}
		if u.cfg.Verify || info.ModTime().UnixNano() != e.Time {
			return u.hashEntry(ctx, root, e)
		}
	}
	return nil
}

// hashEntry returns an error unless a file has the content that it was made with.
func (u *unpacker) hashEntry(ctx context.Context, root *os.Root, e *entry) error {
	h, err := verify.New(e.Digest)
	if err != nil {
		return bad(ErrTaken, "its file %s lists an invalid digest", markName)
	}
	f, err := root.OpenFile(e.Name, os.O_RDONLY|regular.NonBlocking, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(h, ocilayout.ContextReader{Ctx: ctx, R: io.LimitReader(f, e.Size+1)}); err != nil {
		return err
	}
	if verify.Sum(e.Digest, h) != e.Digest {
		return bad(ErrChanged, "it has other content")
	}
	return nil
}
