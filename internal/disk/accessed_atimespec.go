//go:build darwin || freebsd || netbsd

package disk

import (
	"io/fs"
	"syscall"
	"time"
)

func accessed(fi fs.FileInfo) time.Time {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return time.Unix(st.Atimespec.Unix())
	}
	return time.Time{}
}
