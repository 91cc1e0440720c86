package content

import "syscall"

// fullNumbers are the system's numbers for a full disk and for a quota that is used up.
// Package syscall invented ENOSPC for Windows; no call returns it.
var fullNumbers = []error{
	syscall.ENOSPC,
	syscall.EDQUOT,
	syscall.Errno(112),  // ERROR_DISK_FULL
	syscall.Errno(39),   // ERROR_HANDLE_DISK_FULL
	syscall.Errno(1295), // ERROR_DISK_QUOTA_EXCEEDED
}
