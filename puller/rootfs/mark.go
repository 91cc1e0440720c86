package rootfs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/pullkit/pullkit/internal/newdir"
	"github.com/pullkit/pullkit/internal/regular"
)

// spoolNames is locked while a file has the name spoolName.
var spoolNames sync.Mutex

// A key says what a directory was made of.
type key struct {
	Version  int           `json:"rootfs"`
	Manifest digest.Digest `json:"key"`
	Devices  bool          `json:"devices,omitempty"`
}

// isKey reports whether data is a key that this package has written.
func isKey(data []byte) bool {
	var k key
	return json.Unmarshal(data, &k) == nil && k.Version > 0 && k.Manifest.Validate() == nil
}

// A mark is the content of the file .pullkit. It says that Unpack has made the directory.
type mark struct {
	key
	// Boot is the ID of the boot in which the directory was made with NoSync. It is "" if the
	// directory was synced.
	Boot string `json:"boot,omitempty"`
	Result
}

const (
	markName    = ".pullkit"
	markVersion = 1
	maxMark     = 64 << 10 // bytes of the file
)

func writeMark(files *os.Root, m mark, before func(op, name string) error) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return newdir.WriteFile(files, markName, data, false, before) // Publish syncs the whole tree
}

// Read returns the Result of the call of Unpack or Pull that has made dir, with Present set. It
// does not look at the files of the root file system. The error is of type *Error. It wraps
// fs.ErrNotExist if dir does not exist, and ErrTaken if dir was not made by Unpack or Pull.
func Read(dir string) (Result, error) {
	m, err := readMark(dir)
	if err != nil {
		return Result{}, (&unpacker{dir: dir}).fail(context.Background(), err)
	}
	return m.Result, nil
}

// readMark returns the mark of a directory. It does not look at the files of the root file
// system, because a container that runs in it may change them.
func readMark(name string) (mark, error) {
	info, err := os.Lstat(name) // a symbolic link is not followed
	if err != nil {
		return mark{}, err
	}
	if !info.IsDir() {
		return mark{}, bad(ErrTaken, "it is not a directory")
	}
	root, err := os.OpenRoot(name)
	if err != nil {
		return mark{}, err
	}
	defer root.Close()
	if at, err := root.Stat("."); err != nil || !os.SameFile(at, info) {
		return mark{}, bad(ErrTaken, "it changes while it is read")
	}
	data, _, err := regular.ReadIn(root, markName, maxMark)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, regular.ErrNotRegular) || errors.Is(err, regular.ErrTooLarge) {
		return mark{}, bad(ErrTaken, "it does not have the file %s", markName)
	}
	if err != nil {
		return mark{}, err
	}
	var m mark
	if json.Unmarshal(data, &m) != nil || m.Version != markVersion {
		return mark{}, bad(ErrTaken, "its file %s cannot be read", markName)
	}
	if m.Boot != "" && m.Boot != bootID(true) {
		return mark{}, bad(ErrTaken, "it was made with NoSync before the machine was started again, so files may be missing in it: remove it")
	}
	if info, err := root.Lstat(rootName); err != nil || !info.IsDir() {
		return mark{}, bad(ErrTaken, "it does not have the directory %s", rootName)
	}
	m.Present = true
	return m, nil
}

// compare returns an error if the directory was made with another key than want.
func (m mark) compare(want key) error {
	switch {
	case m.key.Manifest != want.Manifest:
		return bad(ErrTaken, "it was made of manifest %q", m.key.Manifest)
	case m.Devices != want.Devices:
		return bad(ErrTaken, "it was made with another Config.Devices")
	}
	return nil
}

// bootID returns the ID of the present boot of the machine, or "" if it is not needed. On a
// system without such an ID it returns "unknown".
func bootID(needed bool) string {
	if !needed {
		return ""
	}
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return string(bytes.TrimSpace(id))
}
