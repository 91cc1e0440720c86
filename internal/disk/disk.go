// Package disk contains the file system that package layout uses: the files and
// directories within one directory, and locks between processes.
//
// [Open] returns the file system of a real directory. Package disktest has a file system
// in memory, which loses what was not synced, and a wrapper that makes operations fail.
package disk

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"time"
)

// An FS performs all operations on the files of one directory. Names are relative to that
// directory, and their elements are separated by slashes. No operation leaves the
// directory. No operation follows a symbolic link at the last element of a name.
//
// An FS may keep subdirectories open. An operation on a name in a subdirectory then goes
// to the directory that had the subdirectory's name at its first use; see CheckDir.
//
// The methods may be called concurrently. Errors wrap those of package io/fs, such as
// fs.ErrNotExist and fs.ErrExist.
type FS interface {
	// Lstat describes the file, directory or link of that name.
	Lstat(name string) (fs.FileInfo, error)
	// OpenFile opens a regular file with the flags of package os. The error wraps
	// ErrNotRegular if the name is not that of a regular file. It also wraps
	// ErrNotRegular if the file is opened for writing and has a second name (a hard
	// link), because a write would also change the file of that name.
	OpenFile(name string, flag int) (File, error)
	// ReadDir returns all entries of a directory, in any order.
	ReadDir(name string) ([]fs.DirEntry, error)
	// Mkdir makes a directory. The error wraps fs.ErrExist if the name is taken.
	Mkdir(name string) error
	// CheckDir returns an error unless name is a directory. A link to a directory does
	// not count. The error wraps ErrReplaced if another directory had this name when the
	// FS first used it. Later operations then go to the directory that has the name now.
	CheckDir(name string) error
	// Rename gives the file from the name to. It replaces a file of that name.
	Rename(from, to string) error
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// Chtimes sets the times of last access and of last modification.
	Chtimes(name string, accessed, modified time.Time) error
	// SyncDir makes the names in a directory durable: they survive a loss of power. For
	// ".", this includes the name of the FS's directory.
	SyncDir(name string) error
	// SyncFS makes all files and names on the file system durable. The error wraps
	// errors.ErrUnsupported on a system without such a call.
	SyncFS() error
	// TryLock takes the lock of key, or returns ErrLocked at once if another process, or
	// another FS of this process, has it. Unlock releases the lock, and so does the end
	// of the process. The locks are kept in the file of that name, or next to it; see
	// LockSuffix.
	TryLock(file, key string) (unlock func() error, err error)
	// SameFile reports whether a and b describe the same file. Both come from this FS.
	SameFile(a, b fs.FileInfo) bool
	// Accessed returns the time of last access, or the zero time if the system does not
	// report it.
	Accessed(fi fs.FileInfo) time.Time
	// Free returns how many bytes this process can still write. It returns math.MaxInt64
	// if the system does not report this.
	Free() (int64, error)
	// Close closes what the FS holds open.
	Close() error
}

// A File is an open regular file. Its methods may be called concurrently, except Read and
// Close.
type File interface {
	io.Reader
	io.Seeker
	io.ReaderAt
	io.WriterAt
	io.Closer
	Stat() (fs.FileInfo, error)
	// Sync makes the file's bytes and times durable. The file's name is not included; see
	// FS.SyncDir.
	Sync() error
	// WriteBack asks the system to start to write to disk the bytes that were written to
	// the file. It is only a hint: it does not wait, and Sync reports a failure.
	WriteBack()
	// Reserve asks the system for room for n bytes at an offset. The length of the file
	// stays as it is. The error wraps errors.ErrUnsupported on a system without such a
	// call.
	Reserve(off, n int64) error
}

// NewFile has the flags with which OpenFile makes a new file. The error wraps fs.ErrExist
// if the name is taken.
const NewFile = os.O_RDWR | os.O_CREATE | os.O_EXCL

// LockSuffix is the end of the name of a lock file. A system without locks of byte ranges
// that belong to an open file has one lock file for each lock. Such a file is in the
// directory of TryLock's file and has a name made from the key.
const LockSuffix = ".lock"

// Errors of an FS.
var (
	// ErrLocked says that another process, or another FS of this process, has the lock.
	ErrLocked = errors.New("locked by another process")
	// ErrNotRegular says that a name is not that of a regular file which the FS opens.
	ErrNotRegular = errors.New("not a regular file")
	// ErrReplaced says that another directory now has the name of a subdirectory.
	ErrReplaced = errors.New("not the directory that it was")

	// ErrBusy says that another program has the file open, on a system where an open file
	// excludes other programs. A later try may succeed.
	ErrBusy = errors.New("another program has the file open")
	// ErrReadOnly says that the file or the file system cannot be written to.
	ErrReadOnly = errors.New("read-only")
	// ErrNeedsWriting says that a file was not synced because it was opened only for
	// reading.
	ErrNeedsWriting = errors.New("the file was not opened for writing")
)
