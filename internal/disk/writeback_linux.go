//go:build linux && (amd64 || arm64 || riscv64 || loong64 || s390x)

package disk

import (
	"os"
	"syscall"
)

// syncFileRangeWrite is SYNC_FILE_RANGE_WRITE of sync_file_range(2): start to write all
// dirty pages, and wait for none of them.
const syncFileRangeWrite = 2

// startWriteBack asks the system to start to write the file to disk; see File.WriteBack.
// It ignores a failure, because a later sync reports it.
func startWriteBack(f *os.File) {
	syscall.SyncFileRange(int(f.Fd()), 0, 0, syncFileRangeWrite)
}
