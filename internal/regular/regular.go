// Package regular reads files that others can replace. A named pipe in the place of a
// configuration file would hold its reader until a writer comes, and a device may do
// whatever it does when it is opened.
package regular

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// Errors of ReadFile.
var (
	ErrNotRegular = errors.New("is no regular file")
	ErrTooLarge   = errors.New("is too large")
)

// ReadFile returns the content of a regular file that has at most limit bytes, and what
// the system says of the file. Links are followed. Nothing but a regular file is read,
// and the open itself does not wait: not even if the file is replaced by a pipe in
// between. A file system that does not answer does hold it, so a caller that has a
// deadline calls it in a goroutine of its own.
func ReadFile(name string, limit int64) ([]byte, fs.FileInfo, error) {
	return read(name, limit, os.Stat, os.OpenFile)
}

// ReadIn is ReadFile for a file below root.
func ReadIn(root *os.Root, name string, limit int64) ([]byte, fs.FileInfo, error) {
	return read(name, limit, root.Stat, root.OpenFile)
}

func read(name string, limit int64, stat func(string) (fs.FileInfo, error), open func(string, int, fs.FileMode) (*os.File, error)) ([]byte, fs.FileInfo, error) {
	// Before the open, because to open a device can have effects.
	if info, err := stat(name); err != nil {
		return nil, nil, err
	} else if !info.Mode().IsRegular() {
		return nil, nil, ErrNotRegular
	}
	f, err := open(name, os.O_RDONLY|NonBlocking, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, ErrNotRegular
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, nil, err
	}
	if int64(len(data)) > limit {
		return nil, nil, ErrTooLarge
	}
	return data, info, nil
}
