//go:build linux || openbsd || dragonfly || solaris || aix

package disk

import (
	"io/fs"
	"syscall"
	"time"
)

func accessed(fi fs.FileInfo) time.Time {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return time.Unix(int64(st.Atim.Sec), int64(st.Atim.Nsec))
	}
	return time.Time{}
}
