//go:build linux

package rootfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/pullkit/pullkit/internal/realtest"
)

var testStart = time.Now().Unix()

// describeTree returns a description of each name in a tree: type, mode, owner, time, extended
// attributes, target or content, device number, the names that are hard links of each other, and
// whether a file has holes.
func describeTree(t testing.TB, dir string) map[string]string {
	t.Helper()
	all, inodes := map[string]string{}, map[uint64][]string{}
	require.NoError(t, filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return err
		}
		text := fmt.Sprintf("type %o mode %o owner %d:%d xattrs %s", st.Mode&unix.S_IFMT, st.Mode&0o7777, st.Uid, st.Gid, xattrsOf(t, name))
		switch {
		case rel == ".":
		case int64(st.Mtim.Sec) >= testStart:
			text += " time of the test" // of a directory that no layer lists
		default:
			text += fmt.Sprintf(" time %d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			target, err := os.Readlink(name)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" target %q", target)
		case unix.S_IFREG:
			data, err := os.ReadFile(name)
			if err != nil && !errors.Is(err, fs.ErrPermission) { // only root reads all files
				return err
			}
			text += fmt.Sprintf(" size %d content %s holes %t", st.Size, digestOf(data), st.Blocks*512 < st.Size)
		case unix.S_IFCHR, unix.S_IFBLK:
			text += fmt.Sprintf(" device %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			inodes[st.Ino] = append(inodes[st.Ino], rel)
		}
		all[rel] = text
		return nil
	}))
	for _, names := range inodes {
		sort.Strings(names)
		for _, name := range names {
			all[name] += fmt.Sprintf(" links %q", names)
		}
	}
	return all
}

func xattrsOf(t testing.TB, name string) string {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(name, buf)
	if err != nil {
		return err.Error()
	}
	var all []string
	for _, key := range strings.Split(strings.Trim(string(buf[:n]), "\x00"), "\x00") {
		if key == "" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(name, key, value)
		require.NoError(t, err)
		all = append(all, fmt.Sprintf("%s=%q", key, value[:n]))
	}
	sort.Strings(all)
	return fmt.Sprint(all)
}

// oddLayer returns a layer with an entry for each thing that only root can give to a file.
func oddLayer(t testing.TB) testLayer {
	return layerOf(t,
		folder("bin").owner(1, 2), file("bin/su", "x").mode(0o4755).owner(0, 0), file("bin/wall", "x").mode(0o2711).owner(0, 5),
		folder("tmp").mode(0o1777), folder("closed").mode(0o000), file("closed/f", "1").mode(0o000),
		folder("shared").mode(0o2775).owner(0, 50),
		file("x", "1").xattr("user.a", "b"), file("capable", "1").xattr("security.capability", "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
		file("trusted", "1").xattr("trusted.x", "y"),
		symlink("link", "bin/su").owner(7, 8), hardlink("su", "bin/su").mode(0o4755),
		head(tar.TypeFifo, "pipe", "").mode(0o600),
		head(tar.TypeChar, "null", "").with(func(h *tar.Header) { h.Devmajor, h.Devminor, h.Mode = 1, 3, 0o666 }),
		head(tar.TypeBlock, "disk", "").with(func(h *tar.Header) { h.Devmajor, h.Devminor, h.Mode = 7, 200, 0o660 }),
	)
}

func TestRootGetsWhatTheImageSays(t *testing.T) {
	realtest.NeedRoot(t, "only root can give files to others")
	for _, devices := range []bool{false, true} {
		dir, r := unpackImage(t, Config{Devices: devices}, layerOf(t, file("null", "a lower layer's"), file("disk", "a lower layer's")), oddLayer(t))
		tree := describeTree(t, dir)
		assert.Contains(t, tree["bin/su"], "mode 4755 owner 0:0")
		assert.Contains(t, tree["bin/su"], `links ["bin/su" "su"]`)
		assert.Contains(t, tree["bin/wall"], "mode 2711 owner 0:5")
		assert.Contains(t, tree["bin"], "owner 1:2")
		assert.Contains(t, tree["tmp"], "mode 1777")
		assert.Contains(t, tree["shared"], "mode 2775")
		assert.Contains(t, tree["closed"], "mode 0 ")
		assert.Contains(t, tree["x"], `user.a="b"`)
		assert.Contains(t, tree["capable"], "security.capability=")
		assert.NotContains(t, tree["trusted"], "trusted.")
		assert.Contains(t, tree["link"], "owner 7:8")
		assert.Contains(t, tree["pipe"], "type 10000 mode 600")
		assert.Equal(t, 4, r.SetID, "su, wall, the hard link and the directory shared")
		if devices {
			assert.Contains(t, tree["null"], "type 20000 mode 666")
			assert.Contains(t, tree["disk"], "device 7:200")
			assert.Equal(t, Dropped{XAttrs: 1}, r.Dropped)
		} else {
			assert.NotContains(t, tree, "null", "the file of the lower layer is gone too")
			assert.NotContains(t, tree, "disk")
			assert.Equal(t, Dropped{XAttrs: 1, Devices: 2}, r.Dropped)
		}
	}
}

// An ordinary user gets all files, and the result counts what was left out. The test uses the
// applier of an ordinary user also if root runs it.
func TestAnOrdinaryUserGetsFilesOfItsOwn(t *testing.T) {
	root := t.TempDir()
	a := &applier{root: root, cfg: Config{MaxFiles: 100, MaxBytes: 1 << 20, MaxRatio: 200, Devices: true}}
	l := oddLayer(t)
	u := &unpacker{cfg: a.cfg}
	require.NoError(t, applyTestLayers(t, u, a, l, layerOf(t, file("closed/g", "2"), file(".wh.tmp", ""))))
	tree := describeTree(t, root)
	me := fmt.Sprintf("owner %d:%d", os.Geteuid(), os.Getegid())
	for name, text := range tree {
		assert.Contains(t, text, me, name)
		assert.Contains(t, text, "xattrs []", name)
	}
	assert.Contains(t, tree["bin/su"], "mode 755 ")
	assert.Contains(t, tree["bin/wall"], "mode 711 ")
	assert.Contains(t, tree["closed"], "mode 700 ")
	assert.Contains(t, tree["closed/f"], "mode 0 ")
	assert.Contains(t, tree, "closed/g", "a later layer can add to a directory without permissions")
	assert.NotContains(t, tree, "tmp")
	assert.NotContains(t, tree, "null")
	assert.Equal(t, 0, a.setID)
	assert.Contains(t, tree["shared"], "mode 775 ")
	assert.Equal(t, 4, a.dropped.SetID)
	assert.Equal(t, 3, a.dropped.XAttrs)
	assert.Equal(t, 2, a.dropped.Devices)
	assert.Positive(t, a.dropped.Owners)
}

// Other users cannot run files with set-user-ID bits in the root file system, because the
// directory has the mode 0700, also while it is filled.
func TestTheDirectoryHasMode0700(t *testing.T) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	dir, r := unpackImage(t, Config{}, layerOf(t, file("a", "1")))
	assert.Equal(t, 1, r.Files)
	info, err := os.Stat(filepath.Dir(dir))
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o700), info.Mode().Perm())
}

// Holes of sparse files are zeros, in each format of sparse files.
func TestHolesOfSparseFilesAreZeros(t *testing.T) {
	for _, name := range []string{"gnu", "pax-0.0", "pax-0.1", "pax-1.0"} {
		data, err := os.ReadFile(filepath.Join("testdata", "sparse-"+name+".tar"))
		require.NoError(t, err)
		dir, _ := unpackImage(t, Config{MaxRatio: 1000}, testLayer{"application/vnd.oci.image.layer.v1.tar", data, data})
		got, err := os.ReadFile(filepath.Join(dir, "sparse"))
		require.NoError(t, err)
		require.Len(t, got, 1<<20+6, name)
		assert.Equal(t, "begin", string(got[:5]), name)
		assert.Equal(t, "end", string(got[1<<20:1<<20+3]), name)
		assert.Equal(t, strings.Repeat("\x00", 1<<19), string(got[1<<18:1<<18+1<<19]), name)
	}
}

// Directories that no layer lists, and the root file system itself, have modes of their own.
// Times that cannot be set become 1970.
func TestModesAndTimesThatTheImageDoesNotDecide(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	at := func(year int) func(h *tar.Header) {
		return func(h *tar.Header) {
			h.ModTime, h.Format = time.Date(year, time.May, 1, 0, 0, 0, 0, time.UTC), tar.FormatPAX
		}
	}
	dir, _ := unpackImage(t, Config{}, layerOf(t, folder("./").mode(0o500).owner(5, 6), file("no/layer/lists/f", "1"),
		file("y1969", "1").with(at(1969)), file("y2001", "1").with(at(2001)), file("y2263", "1").with(at(2263))))
	me := fmt.Sprintf("mode 755 owner %d:%d", os.Geteuid(), os.Getegid())
	tree := describeTree(t, dir)
	for _, name := range []string{".", "no", "no/layer", "no/layer/lists"} {
		assert.Contains(t, tree[name], me, name)
	}
	assert.Contains(t, tree["y1969"], " time 0.000000000")
	assert.Contains(t, tree["y2001"], " time 988675200.000000000")
	assert.Contains(t, tree["y2263"], " time 0.000000000")
}
