package layout

import (
	"errors"
	"io"
	"io/fs"
	"time"
)

// A fsys does every operation on files of a layout, so that a test can fail
// the k-th one, or lose what was not synced. Names are slash-separated and
// relative to the layout's directory. No operation leaves that directory, and
// none follows a symbolic link at the name's last element.
type fsys interface {
	Lstat(name string) (fs.FileInfo, error)
	// OpenFile opens a regular file; an error wraps errNotRegular for anything
	// else, and for a file to be written to that has other names.
	OpenFile(name string, flag int) (file, error)
	ReadDir(name string) ([]fs.DirEntry, error)
	Mkdir(name string) error
	// CheckDir is an error unless name is a directory, which a link to one is not.
	// Operations on names in a directory go to the one that had its name when it was
	// first used. If another one has the name now, the error wraps errReplacedDir, and
	// operations go to that one from then on.
	CheckDir(name string) error
	Rename(from, to string) error
	Remove(name string) error
	// Chtimes sets the time of last access to now, that of modification to mtime.
	Chtimes(name string, now, mtime time.Time) error
	// SyncDir makes the names in a directory durable.
	SyncDir(name string) error
	// SyncFS makes all of the file system durable; the error wraps
	// errors.ErrUnsupported where the system has no such call.
	SyncFS() error
	// TryLock takes the lock of that key, which other processes and other
	// layouts of this one respect, or gives errLocked at once. It ends with the
	// process.
	TryLock(key string) (unlock func() error, err error)
	// Busy reports whether an operation failed because another program has the file
	// open just now, as systems have it where an open file excludes others.
	Busy(err error) bool
	// NeedsWriting reports whether a sync failed because the file was opened for
	// reading alone.
	NeedsWriting(err error) bool
	// SameFile reports whether both are of one file.
	SameFile(a, b fs.FileInfo) bool
	// Accessed is the time of last access, and zero if the system does not tell.
	Accessed(fi fs.FileInfo) time.Time
	// Free is the number of bytes that can still be written.
	Free() (int64, error)
	Close() error
}

// A file is an open regular file.
type file interface {
	io.Reader
	io.ReaderAt
	io.WriterAt
	io.Closer
	Stat() (fs.FileInfo, error)
	Sync() error
	// WriteBack asks the system to begin writing to disk what was written so far.
	WriteBack()
}

var (
	errLocked     = errors.New("locked by another")
	errNotRegular = errors.New("not a regular file")
	errOtherFile  = errors.New("not the file that was written")

	errReplacedDir = errors.New("not the directory it was")
)
