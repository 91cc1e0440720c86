//go:build !unix && !windows

package layout

import (
	"io/fs"
	"os"
)

// links does not know of other names.
func links(*os.File, fs.FileInfo) (uint64, error) { return 1, nil }
