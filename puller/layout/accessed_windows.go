package layout

import (
	"io/fs"
	"syscall"
	"time"
)

func accessed(fi fs.FileInfo) time.Time {
	if st, ok := fi.Sys().(*syscall.Win32FileAttributeData); ok {
		return time.Unix(0, st.LastAccessTime.Nanoseconds())
	}
	return time.Time{}
}
