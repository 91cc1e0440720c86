//go:build !unix

package disk

import "io/fs"

// HasOtherName returns false, because a fs.FileInfo of these systems does not say how many
// names a file has.
func HasOtherName(fs.FileInfo) bool { return false }
