// Package disk is the file system as package layout uses it: files and directories
// within one directory, with locks between processes.
//
// [Open] returns the real one. Package disktest has one in memory, which loses what was
// not synced, and a wrapper that makes operations fail.
package disk

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"time"
)

// A FS does all operations on the files of one directory. Names are separated by
// slashes and relative to that directory. No operation leaves the directory, and none
// follows a symbolic link at the last element of a name.
//
// Operations on names in a subdirectory go to the one that had its name when it was
// first used; see CheckDir.
type FS interface {
	Lstat(name string) (fs.FileInfo, error)
	// OpenFile opens a regular file with the flags of package os. An error wraps
	// ErrNotRegular for anything else, and for a file to be written to that has
	// other names.
	OpenFile(name string, flag int) (File, error)
	ReadDir(name string) ([]fs.DirEntry, error)
	Mkdir(name string) error
	// CheckDir is an error unless name is a directory, which a link to one is not. The
	// error wraps ErrReplaced if operations went to another directory until now; from
	// then on they go to the one that has the name.
	CheckDir(name string) error
	Rename(from, to string) error
	Remove(name string) error
	// Chtimes sets the times of last access and of modification.
	Chtimes(name string, accessed, modified time.Time) error
	// SyncDir makes the names in a directory durable.
	SyncDir(name string) error
	// SyncFS makes everything on the file system durable. The error wraps
	// errors.ErrUnsupported where the system has no such call.
	SyncFS() error
	// TryLock takes the lock of that key, which other processes and other FS of
	// this process respect, or returns ErrLocked at once. The lock ends with the
	// process. The file is where locks are kept, see LockSuffix.
	TryLock(file, key string) (unlock func() error, err error)
	// SameFile reports whether both describe one file.
	SameFile(a, b fs.FileInfo) bool
	// Accessed is the time of last access; zero if the system does not say.
	Accessed(fi fs.FileInfo) time.Time
	// Free is the number of bytes that can still be written.
	Free() (int64, error)
	Close() error
}

// A File is an open regular file.
type File interface {
	io.Reader
	io.ReaderAt
	io.WriterAt
	io.Closer
	Stat() (fs.FileInfo, error)
	Sync() error
	// WriteBack asks the system to begin writing to disk what was written so far.
	WriteBack()
}

// NewFile are the flags that make a file of a name that is not taken.
const NewFile = os.O_RDWR | os.O_CREATE | os.O_EXCL

// LockSuffix ends the names of lock files. A system that has no locks of byte ranges
// has a file for each lock, in the directory of TryLock's file and named after the key.
const LockSuffix = ".lock"

// Errors of a FS.
var (
	ErrLocked     = errors.New("locked by another process")
	ErrNotRegular = errors.New("not a regular file")
	ErrReplaced   = errors.New("not the directory it was")

	// ErrBusy says that another program has the file open just now, on systems where
	// an open file excludes others. The operation may work a little later.
	ErrBusy = errors.New("another program has the file open")
	// ErrReadOnly says that the file or the file system cannot be written to.
	ErrReadOnly = errors.New("read-only")
	// ErrNeedsWriting says that a file was not synced because it was opened for
	// reading alone.
	ErrNeedsWriting = errors.New("the file was not opened for writing")
)
