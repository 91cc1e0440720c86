package unpack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/internal/newdir"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/internal/regular"
	"github.com/pullkit/pullkit/internal/verify"
)

// A kind is the type of a file: directory, regular file or symbolic link.
type kind string

// The kinds, as the file .pullkit has them.
const (
	kindDir     kind = "d"
	kindFile    kind = "f"
	kindSymlink kind = "l"
)

// A tree is the directory that is being filled. It writes through an os.Root, and remembers
// each name that it has made. So it does not write through links, and does not write a name
// twice.
type tree struct {
	root    *os.Root
	sub     string                      // Config.SubPath, clean; "" means the whole artifact
	fresh   bool                        // whether files that are there are removed instead of continued
	before  func(op, name string) error // as in unpacker
	names   map[string]kind             // of the artifact, whether or not they are below sub
	entries []entry                     // what was made below sub
	places  map[string]int              // index in entries by the name in the tree

	maxFiles  int
	namesLeft int // bytes of names and targets of links
	bytesLeft int64
	buf, old  []byte
}

// An entry is one name of the tree. The file .pullkit lists the entries.
type entry struct {
	Kind   kind          `json:"kind"`
	Name   string        `json:"name"`
	Layer  digest.Digest `json:"layer"`
	Size   int64         `json:"size,omitempty"`
	Digest digest.Digest `json:"digest,omitempty"`
	Time   int64         `json:"time,omitempty"` // of the last modification, in nanoseconds since 1970
	Link   string        `json:"link,omitempty"` // target of a symbolic link
}

const copyBuffer = 1 << 20

func newTree(root *os.Root, sub string, before func(op, name string) error) *tree {
	if before == nil {
		before = func(string, string) error { return nil }
	}
	return &tree{
		root: root, sub: sub, before: before, namesLeft: maxNames, names: map[string]kind{".": kindDir}, places: make(map[string]int),
		buf: make([]byte, copyBuffer), old: make([]byte, copyBuffer),
	}
}

// inside converts a name of the artifact to the name in the tree. ok is false if the name is
// not below sub. The error is that of checkKept.
func (t *tree) inside(name string) (in string, ok bool, err error) {
	if t.sub == "" || name == "." {
		return name, t.sub == "", nil
	}
	if name == t.sub {
		return ".", true, nil
	}
	if in, ok = strings.CutPrefix(name, t.sub+"/"); ok {
		err = checkKept(in) // cleanName has checked only the first element of the artifact's name
	}
	return in, ok, err
}

// claim notes a name of the artifact, and the directories above it. The error wraps ErrTwice
// if the artifact has the name already, ErrBadName if a directory above it is a symbolic link,
// ErrTooLarge if there are too many names, and ErrSubPath if SubPath needs a directory of this
// name and k is another kind.
func (t *tree) claim(name string, k kind) error {
	for i, c := range name {
		if c != '/' {
			continue
		}
		switch have, ok := t.names[name[:i]]; {
		case !ok:
			if err := t.claim(name[:i], kindDir); err != nil {
				return err
			}
		case have == kindSymlink:
			return bad(ErrBadName, "%s is a symbolic link, and nothing is written through links", quote(name[:i]))
		case have != kindDir:
			return bad(ErrTwice, "%s is also a file", quote(name[:i]))
		}
	}
	switch have, ok := t.names[name]; {
	case ok && have == kindDir && k == kindDir:
		return nil
	case ok && (have == kindDir || k == kindDir):
		return bad(ErrTwice, "it is a directory and a file")
	case ok:
		return ErrTwice
	case len(t.names) > t.maxFiles: // names has "." too
		return bad(ErrTooLarge, "it has more than %d files and directories, see Config.MaxFiles", t.maxFiles)
	case len(name) > t.namesLeft:
		return bad(ErrTooLarge, "its names have more than %d bytes together", maxNames)
	case k != kindDir && t.sub != "" && (name == t.sub || strings.HasPrefix(t.sub, name+"/")):
		return bad(ErrSubPath, "%s is not a directory", quote(name))
	}
	t.names[name] = k
	t.namesLeft -= len(name)
	return nil
}

// take counts n bytes of a file. The error wraps ErrTooLarge.
func (t *tree) take(n int64) error {
	if n < 0 || n > t.bytesLeft {
		return bad(ErrTooLarge, "its files have too many bytes, see Config.MaxBytes")
	}
	t.bytesLeft -= n
	return nil
}

func (t *tree) add(e entry) {
	t.places[e.Name] = len(t.entries)
	t.entries = append(t.entries, e)
}

// dir makes a directory of the tree, and the directories above it.
func (t *tree) dir(layer digest.Digest, name string) error {
	if _, ok := t.places[name]; ok || name == "." {
		return nil
	}
	if err := t.dir(layer, path.Dir(name)); err != nil {
		return err
	}
	if err := t.before("mkdir", name); err != nil {
		return err
	}
	err := t.root.Mkdir(name, 0o755)
	if errors.Is(err, fs.ErrExist) {
		err = nil // of an earlier call; finish finds out whether it is a directory
	}
	if err != nil {
		return err
	}
	t.add(entry{Kind: kindDir, Name: name, Layer: layer})
	return nil
}

// addDir adds a directory of the artifact.
func (t *tree) addDir(layer digest.Digest, name string) error {
	if err := t.claim(name, kindDir); err != nil {
		return err
	}
	in, ok, err := t.inside(name)
	if !ok || err != nil {
		return err
	}
	return t.dir(layer, in)
}

// begin claims the name of a file or link, and makes the directory that it is in. It returns
// the name in the tree, or "" if the name is not below sub.
func (t *tree) begin(layer digest.Digest, name string, k kind) (string, error) {
	if err := t.claim(name, k); err != nil {
		return "", err
	}
	in, ok, err := t.inside(name)
	if !ok || err != nil {
		return "", err
	}
	return in, t.dir(layer, path.Dir(in))
}

// addFile adds a file of a tar.
func (t *tree) addFile(ctx context.Context, layer digest.Digest, name string, mode fs.FileMode, size int64, r io.Reader) error {
	in, err := t.begin(layer, name, kindFile)
	if err != nil || in == "" {
		return err
	}
	if err := t.take(size); err != nil {
		return err
	}
	h := sha256.New()
	if err := t.write(ctx, in, mode, size, r, h); err != nil {
		return err
	}
	t.add(entry{Kind: kindFile, Name: in, Layer: layer, Size: size, Digest: verify.Sum("sha256:", h)})
	return nil
}

// write writes size bytes of r into a file of the tree, and into h, which does not return
// errors. If an earlier call was stopped while it wrote the file, write keeps the bytes that
// are right.
func (t *tree) write(ctx context.Context, name string, mode fs.FileMode, size int64, r io.Reader, h io.Writer) error {
	f, err := t.open(name, mode)
	if err != nil {
		return err
	}
	err = t.fill(ctx, f, name, size, r, h)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// open opens a file of the tree for writing. It keeps only a file that an earlier call can
// have left: a regular file that is executable as mode says, and that does not have other bits
// such as set-user-ID. It removes any other file of this name first.
func (t *tree) open(name string, mode fs.FileMode) (*os.File, error) {
	if err := t.before("create", name); err != nil {
		return nil, err
	}
	f, err := t.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
	if !errors.Is(err, fs.ErrExist) {
		return f, err
	}
	info, err := t.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !t.fresh && info.Mode()&^fs.ModePerm == 0 && info.Mode()&0o100 == mode&0o100 {
		return t.root.OpenFile(name, os.O_RDWR|regular.NonBlocking, 0)
	}
	if err := t.root.RemoveAll(name); err != nil {
		return nil, err
	}
	return t.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
}

// fill writes size bytes of r into f and h. It compares them with the bytes of f, and starts
// to write into f at the first chunk that differs.
func (t *tree) fill(ctx context.Context, f *os.File, name string, size int64, r io.Reader, h io.Writer) error {
	r = ocilayout.ContextReader{Ctx: ctx, R: r}
	same := true
	for at := int64(0); at < size; {
		chunk := t.buf[:min(int64(len(t.buf)), size-at)]
		n, err := io.ReadFull(r, chunk)
		chunk = chunk[:n]
		if n > 0 {
			h.Write(chunk)
			if same {
				got, rerr := f.ReadAt(t.old[:n], at)
				if rerr != nil && rerr != io.EOF {
					return rerr
				}
				same = got == n && bytes.Equal(t.old[:n], chunk)
			}
			if !same {
				if err := t.before("write", name); err != nil {
					return err
				}
				if _, err := f.WriteAt(chunk, at); err != nil {
					return err
				}
			}
			at += int64(n)
		}
		if err != nil {
			return cutShort(err)
		}
	}
	info, err := f.Stat()
	if err == nil && info.Size() != size {
		err = f.Truncate(size)
	}
	return err
}

// cutShort returns the error of a reader that ended too early.
func cutShort(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// addSymlink adds a symbolic link. The target must be relative and must not leave the
// directory. finish checks where the link leads to together with other links.
func (t *tree) addSymlink(layer digest.Digest, name, target string) error {
	in, err := t.begin(layer, name, kindSymlink)
	if err != nil || in == "" {
		return err
	}
	if err := checkTarget(in, target); err != nil {
		return err
	}
	if t.namesLeft -= len(target); t.namesLeft < 0 {
		return bad(ErrTooLarge, "its names have more than %d bytes together", maxNames)
	}
	if err := t.before("symlink", in); err != nil {
		return err
	}
	if err := t.vacate(in); err != nil {
		return err
	}
	if err := t.root.Symlink(target, in); err != nil {
		return err
	}
	t.add(entry{Kind: kindSymlink, Name: in, Layer: layer, Link: target})
	return nil
}

// checkTarget returns an error if the target of a symbolic link is not a name inside the
// directory.
func checkTarget(name, target string) error {
	switch {
	case len(target) > maxName:
		return bad(ErrBadLink, "its target has %d bytes, more than %d", len(target), maxName)
	case target == "" || strings.ContainsAny(target, "\\\x00"):
		return bad(ErrBadLink, "its target %s is empty, or has a backslash or a zero byte", quote(target))
	case path.IsAbs(target):
		return bad(ErrBadLink, "its target %s is absolute", quote(target))
	}
	to := path.Join(path.Dir(name), target)
	if to == ".." || strings.HasPrefix(to, "../") {
		return bad(ErrBadLink, "its target %s leaves the directory", quote(target))
	}
	return nil
}

// addLink adds a hard link, which is another name of a file of the tree.
func (t *tree) addLink(layer digest.Digest, name, target string) error {
	to, err := cleanName(target)
	if err != nil {
		return bad(ErrBadLink, "its target %s: %v", quote(target), err)
	}
	in, err := t.begin(layer, name, kindFile)
	if err != nil || in == "" {
		return err
	}
	if k, ok := t.names[to]; !ok || k != kindFile || to == name {
		return bad(ErrBadLink, "its target %s is not a file that comes before it", quote(target))
	}
	at, ok, err := t.inside(to)
	if err != nil {
		return err
	}
	if !ok {
		return bad(ErrBadLink, "its target %s is not below %s", quote(target), quote(t.sub))
	}
	if err := t.before("link", in); err != nil {
		return err
	}
	if err := t.vacate(in); err != nil {
		return err
	}
	if err := t.root.Link(at, in); err != nil {
		return err
	}
	e := t.entries[t.places[at]]
	e.Name, e.Layer = in, layer
	t.add(e)
	return nil
}

// vacate removes the file or directory that an earlier call has left under a name.
func (t *tree) vacate(name string) error {
	err := t.root.RemoveAll(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// finish checks the whole tree, and completes the entries for the file .pullkit.
func (t *tree) finish() error {
	if _, ok := t.names[t.sub]; t.sub != "" && !ok {
		return bad(ErrSubPath, "%s", quote(t.sub))
	}
	for i := range t.entries {
		e := &t.entries[i]
		info, err := t.root.Lstat(e.Name)
		if err == nil && !e.isKind(info.Mode()) {
			err = bad(ErrTwice, "the file system takes it and another name for the same name")
		}
		if err != nil {
			return &Error{Layer: e.Layer, File: e.Name, Err: err}
		}
		if e.Kind == kindFile {
			e.Time = info.ModTime().UnixNano()
		}
		if e.Kind != kindSymlink {
			continue
		}
		// A chain of links can lead out of the directory although each of them does not.
		// An os.Root follows the links, and returns an error if they do.
		if _, err := t.root.Stat(e.Name); err != nil {
			return &Error{Layer: e.Layer, File: e.Name, Err: bad(ErrBadLink, "its target is %s: %v", quote(e.Link), errors.Unwrap(err))}
		}
	}
	return compareNames(t.root, t.entries, markName) // an earlier call may have written the mark
}

// isKind reports whether a file with this mode has the kind of the entry.
func (e *entry) isKind(mode fs.FileMode) bool {
	switch e.Kind {
	case kindDir:
		return mode.IsDir()
	case kindFile:
		return mode.IsRegular()
	case kindSymlink:
		return mode&fs.ModeSymlink != 0
	}
	return false
}

// compareNames returns an error unless the directory has exactly the names of the entries. The
// name except may be at its top in addition.
func compareNames(root *os.Root, entries []entry, except string) error {
	want := map[string]*entry{}
	dirs := map[string]int{".": 0} // number of names by directory
	for i := range entries {
		e := &entries[i]
		want[e.Name] = e
		dirs[path.Dir(e.Name)]++
		if e.Kind == kindDir {
			dirs[e.Name] += 0
		}
	}
	for dir, n := range dirs {
		names, err := newdir.ReadNames(root, dir, n+2)
		if err != nil {
			return err
		}
		for _, base := range names {
			name := path.Join(dir, base)
			if name == except {
				continue
			}
			if want[name] == nil {
				return &Error{File: name, Err: bad(ErrChanged, "the artifact does not have it")}
			}
			n--
		}
		if n > 0 {
			for _, e := range entries {
				if path.Dir(e.Name) == dir && !slices.Contains(names, path.Base(e.Name)) {
					return &Error{Layer: e.Layer, File: e.Name, Err: bad(ErrTwice, "the file system takes it and another name for the same name")}
				}
			}
		}
	}
	return nil
}
