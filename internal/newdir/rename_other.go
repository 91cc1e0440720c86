//go:build !linux

package newdir

// renameNew gives a directory another name. The error wraps fs.ErrExist if a file or directory
// has that name.
func renameNew(from, to string) error { return renameAbsent(from, to) }
