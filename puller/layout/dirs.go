package layout

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/internal/disk"
)

// ready makes the directories that a blob needs, and checks that no link stands
// for one of them.
func (l *Layout) ready(d digest.Digest) error {
	if err := l.mkdirs(stateDir, ingestDir, blobsDir, algorithmDir(d)); err != nil {
		return err
	}
	if _, ok := l.durable.Load(algorithmDir(d)); ok {
		return nil
	}
	// The process that made it may have died before its name was durable.
	if err := l.syncDir(blobsDir); err != nil {
		return err
	}
	l.durable.Store(algorithmDir(d), struct{}{})
	return nil
}

// checkDir is an error unless name is a directory, which a link to one is not. What
// is done in it from now on is done in the directory that has the name now.
func (l *Layout) checkDir(name string) error {
	err := l.fs.CheckDir(name)
	if errors.Is(err, disk.ErrReplaced) {
		err = l.fs.CheckDir(name)
	}
	return err
}

// mkdirs checks that the directories are there and are no links, and makes, durably,
// those that are missing.
func (l *Layout) mkdirs(names ...string) error {
	for _, name := range names {
		err := l.checkDir(name)
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
		if cerr := l.checkDir(name); cerr != nil || err != nil {
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
