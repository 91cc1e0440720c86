package layout

import (
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/internal/disk"
)

// When a blob was last used is its time of access, which a layout sets. Where the
// system or the file system does not keep that time, the layout keeps a note: an
// empty file in usedDir that is named after the blob and has that time as its time of
// modification.

const usedDir = stateDir + "/used"

// keptWithin is how far a time of access may be from the one that was set: some file
// systems count in steps of two seconds.
const keptWithin = 2 * time.Second

func noteName(d digest.Digest) string {
	return usedDir + "/" + strings.ReplaceAll(string(d), ":", "-")
}

// noteUse makes a note of a use of a blob at that time, unless fi, of the blob after its
// times were set, shows that the time of access was kept.
func (l *Layout) noteUse(d digest.Digest, fi fs.FileInfo, at time.Time) {
	if l.fs.Accessed(fi).Sub(at).Abs() <= keptWithin {
		return
	}
	if err := l.writeNote(d, at); err != nil {
		l.log.Debug("the use of a blob was not noted", "digest", d, "error", err)
	}
}

func (l *Layout) writeNote(d digest.Digest, at time.Time) error {
	if err := l.mkdirs(stateDir, usedDir); err != nil {
		return err
	}
	f, err := l.fs.OpenFile(noteName(d), disk.NewFile)
	if err == nil {
		err = f.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return l.fs.Chtimes(noteName(d), at, at)
}

// lastUse is when a blob was last used, as far as its times and its note tell, and
// the zero time if they do not. A blob that another program wrote was used then.
func (l *Layout) lastUse(d digest.Digest, fi fs.FileInfo) time.Time {
	at := l.fs.Accessed(fi)
	if written := fi.ModTime(); !written.Equal(stamp) && written.After(at) {
		at = written
	}
	if note, err := l.fs.Lstat(noteName(d)); err == nil && note.ModTime().After(at) {
		at = note.ModTime()
	}
	return at
}
