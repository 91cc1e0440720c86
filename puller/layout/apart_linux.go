package layout

import (
	"crypto/rand"
	"errors"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// ext4 makes a file near its directory, and a directory near its parent: a new
// layout lies where the one beside it did. If that was removed just now, ext4
// without a journal, which must not use an inode anew for minutes, looks at each
// of those before it makes a file: after some thousand removals a blob takes three
// times as long. In a directory with the attribute T, "top of a hierarchy" in
// chattr(1), directories are placed far from each other, by their names; what is
// made in them follows.

const (
	ext4Magic  = 0xEF53     // f_type in statfs(2)
	getFlags   = 0x80086601 // FS_IOC_GETFLAGS in ioctl_iflags(2), where a long has 64 bits
	setFlags   = 0x40086602
	topDirFlag = 0x20000 // FS_TOPDIR_FL
	noReplace  = 1       // RENAME_NOREPLACE in renameat2(2)
)

func sysRenameAt2() uintptr { return sysNumber(316, 276) }

// mkdirApart makes a directory far from what other layouts have stored, if the
// file system can be told to. After an error, of whatever kind, nothing was made; one
// that is fs.ErrExist says that name is there. temp, in the same directory, is what it
// may be called until it is in its place.
func mkdirApart(in *osDir, temp, name string) error {
	if sysRenameAt2() == 0 || !spreads(in.f) {
		return errors.ErrUnsupported
	}
	temp += rand.Text() // so that no two layouts' are placed alike
	if err := in.root.Mkdir(temp, 0o755); err != nil {
		return err
	}
	err := renameNew(in.f, temp, name)
	if err != nil {
		in.root.Remove(temp)
	}
	return err
}

// spreads gives a directory of an ext4 the attribute T and reports whether it has it.
func spreads(dir *os.File) bool {
	var st syscall.Statfs_t
	if syscall.Fstatfs(int(dir.Fd()), &st) != nil || st.Type != ext4Magic {
		return false
	}
	var flags uint32
	if ioctl(dir, getFlags, &flags) != nil {
		return false
	}
	flags |= topDirFlag
	return ioctl(dir, setFlags, &flags) == nil
}

func ioctl(f *os.File, request uintptr, value *uint32) error {
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(value)))
	runtime.KeepAlive(f)
	if errno != 0 {
		return errno
	}
	return nil
}

// renameNew is a rename that replaces nothing.
func renameNew(dir *os.File, from, to string) error {
	oldName, err := syscall.BytePtrFromString(from)
	if err != nil {
		return err
	}
	newName, err := syscall.BytePtrFromString(to)
	if err != nil {
		return err
	}
	_, _, errno := syscall.Syscall6(sysRenameAt2(), dir.Fd(), uintptr(unsafe.Pointer(oldName)), dir.Fd(), uintptr(unsafe.Pointer(newName)), noReplace, 0)
	runtime.KeepAlive(dir)
	if errno != 0 {
		return &os.LinkError{Op: "renameat2", Old: from, New: to, Err: errno}
	}
	return nil
}
