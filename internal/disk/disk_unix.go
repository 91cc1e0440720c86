//go:build unix

package disk

import (
	"io/fs"
	"os"
	"syscall"
)

// links returns how many names the open file has that fi describes.
func links(_ *os.File, fi fs.FileInfo) (uint64, error) {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Nlink), nil
	}
	return 1, nil
}

// HasOtherName reports whether the file that fi describes has another name (a hard link).
// It returns false if fi does not say so.
func HasOtherName(fi fs.FileInfo) bool {
	n, _ := links(nil, fi)
	return n > 1
}
