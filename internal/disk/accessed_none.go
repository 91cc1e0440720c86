//go:build !unix && !windows

package disk

import (
	"io/fs"
	"time"
)

// accessed returns the zero time, because these systems do not report the time of last
// access.
func accessed(fs.FileInfo) time.Time { return time.Time{} }
