//go:build linux && (amd64 || arm64 || riscv64 || loong64 || s390x)

package disk

import (
	"os"
	"syscall"
)

// syncFileRangeWrite is SYNC_FILE_RANGE_WRITE of sync_file_range(2): begin to
// write all dirty pages, wait for none.
const syncFileRangeWrite = 2

// startWriteBack is a hint: a failure shows when the file is synced.
func startWriteBack(f *os.File) {
	syscall.SyncFileRange(int(f.Fd()), 0, 0, syncFileRangeWrite)
}
