// Package regular reads a file only if it is a regular file. Another program may replace a
// configuration file. A named pipe in its place would block the reader until a program
// writes to the pipe, and opening a device can have effects.
package regular

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// The errors of ReadFile and ReadIn. They also return errors of the system.
var (
	ErrNotRegular = errors.New("is not a regular file")
	ErrTooLarge   = errors.New("is too large")
)

// ReadFile returns the content of the regular file name, which must have at most limit
// bytes, and the file's FileInfo. It follows links. If name is not a regular file, the
// error is ErrNotRegular; if the file is larger, the error is ErrTooLarge. ReadFile does
// not wait for a pipe, even if a pipe replaces the file during the call. A file system that
// does not answer blocks ReadFile, so a caller with a deadline calls it in another
// goroutine.
func ReadFile(name string, limit int64) ([]byte, fs.FileInfo, error) {
	return read(name, limit, os.Stat, os.OpenFile)
}

// ReadIn is ReadFile for a file below root.
func ReadIn(root *os.Root, name string, limit int64) ([]byte, fs.FileInfo, error) {
	return read(name, limit, root.Stat, root.OpenFile)
}

func read(name string, limit int64, stat func(string) (fs.FileInfo, error), open func(string, int, fs.FileMode) (*os.File, error)) ([]byte, fs.FileInfo, error) {
	// The check comes before the open, because opening a device can have effects.
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
