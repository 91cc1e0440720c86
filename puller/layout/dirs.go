package layout

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/opencontainers/go-digest"
)

// seen reports whether ready need not look: it did, when one of the blobs began that
// come now. What changes meanwhile commitAll finds out.
func (l *Layout) seen(d digest.Digest) bool {
	_, seen := l.dirs.Load(algorithmDir(d))
	return seen && l.open.Load() > 0
}

// ready makes the directories that a blob needs, and checks that no link stands
// for one of them.
func (l *Layout) ready(d digest.Digest) error {
	if err := l.mkdirs(stateDir, ingestDir, blobsDir, algorithmDir(d)); err != nil {
		return err
	}
	if _, seen := l.dirs.Load(algorithmDir(d)); !seen {
		// Whoever made it may have died before its name was durable.
		if err := l.settle(blobsDir); err != nil {
			return err
		}
	}
	l.dirs.Store(algorithmDir(d), struct{}{})
	return nil
}

// mkdirs checks that the directories are there and are no links, and makes, durably,
// those that are missing.
func (l *Layout) mkdirs(names ...string) error {
	for _, name := range names {
		err := l.fs.CheckDir(name)
		if errors.Is(err, fs.ErrNotExist) {
			err = l.mkdir(name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mkdir makes a directory, durably, or checks that it is one.
func (l *Layout) mkdir(name string) error {
	err := l.fs.Mkdir(name)
	if err == nil || errors.Is(err, fs.ErrExist) {
		if cerr := l.fs.CheckDir(name); cerr != nil || err != nil {
			return cerr
		}
	}
	if err != nil {
		return err
	}
	parent := "."
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		parent = name[:i]
	}
	return l.syncDir(parent)
}
