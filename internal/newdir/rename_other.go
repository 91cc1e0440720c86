//go:build !linux

package newdir

// renameNew gives a directory another name. The error wraps fs.ErrExist if the name is
// taken.
func renameNew(from, to string) error { return renameAbsent(from, to) }
