//go:build !windows && !plan9

package content

import "syscall"

// fullNumbers are the system's numbers for a full disk and for a quota that is used up.
var fullNumbers = []error{syscall.ENOSPC, syscall.EDQUOT}
