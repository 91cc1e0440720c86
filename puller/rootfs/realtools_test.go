//go:build linux

package rootfs

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller/archive"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/reference"
)

// odd returns the layers of unusual images, by name.
func odd(t testing.TB) map[string][]testLayer {
	sparse, err := os.ReadFile(filepath.Join("testdata", "sparse-pax-1.0.tar"))
	require.NoError(t, err)
	plain := pack(t, file("plain", "1"))
	long := strings.Repeat("a-name-of-many-bytes/", 20)
	at := func(sec, nsec int64) func(h *tar.Header) {
		return func(h *tar.Header) { h.ModTime, h.Format = time.Unix(sec, nsec), tar.FormatPAX }
	}
	one := layerOf(t, file("same", "1"), folder("d"))
	return map[string][]testLayer{
		"whiteouts": {
			layerOf(t, file("gone", "1"), folder("gonedir"), file("gonedir/a", "2"), symlink("gonelink", "kept"), file("kept", "3"), hardlink("second", "kept"), file("sub/x", "4"), file("sub/y", "5")),
			layerOf(t, file(".wh.gone", ""), file(".wh.gonedir", ""), file(".wh.gonelink", ""), file(".wh.second", ""), file("sub/.wh.x", ""), file(".wh.never", "")),
			layerOf(t, file("gone", "again"), folder("gonedir")),
		},
		"whiteouts and the same names in one layer": {
			layerOf(t, file("a/x", "1"), file("b/x", "1"), file("c", "1")),
			layerOf(t, file(".wh.a", ""), folder("a"), file("a/y", "2"), file("b/.wh.x", ""), file("b/x", "2"), file(".wh.c", ""), file("c/d", "2")),
		},
		"opaque directories": {
			layerOf(t, folder("first"), file("first/old", "1"), folder("middle"), file("middle/old", "1"), folder("last/sub"), file("last/old", "1"), file("last/sub/old", "1"), file("other/old", "1")),
			layerOf(t, folder("first"), file("first/.wh..wh..opq", ""), file("first/new", "2"), file("middle/new", "2"), file("middle/.wh..wh..opq", ""), file("middle/newer", "3"), file("last/sub/new", "2"), file("last/.wh..wh..opq", "")),
		},
		"an opaque root": {layerOf(t, file("old", "1"), file("d/old", "1")), layerOf(t, file(".wh..wh..opq", ""), file("new", "2"))},
		"hard links across layers": {
			layerOf(t, file("a", "1").mode(0o600), hardlink("b", "a").mode(0o600), file("d/e", "2")),
			layerOf(t, hardlink("c", "a").mode(0o640), hardlink("d/f", "d/e"), hardlink("g", "/d/e"), hardlink("h", "./d/../d/e")),
			layerOf(t, file("a", "replaced"), hardlink("i", "a"), hardlink("b", "c")),
		},
		"links inside paths": {
			layerOf(t, folder("usr/lib"), folder("usr/bin"), symlink("lib", "/usr/lib"), symlink("bin", "usr/bin"), symlink("usr/up", "../usr/lib"), symlink("abs", "/lib"), file("lib/one", "1"), file("abs/two", "2")),
			layerOf(t, file("lib/three", "3"), file("bin/four", "4"), file("usr/up/five", "5"), hardlink("six", "lib/three"), file("lib/.wh.one", ""), folder("bin/sub"), symlink("lib/seven", "three")),
		},
		"types that change": {
			layerOf(t, file("file-dir", "1"), folder("dir-file"), file("dir-file/x", "1"), folder("dir-link"), file("dir-link/x", "1"), symlink("link-dir", "dir-file"), symlink("link-file", "file-dir"), file("file-link", "1"), head(tar.TypeFifo, "pipe-file", "")),
			layerOf(t, folder("file-dir"), file("file-dir/y", "2"), file("dir-file", "2"), symlink("dir-link", "file-dir"), folder("link-dir"), file("link-dir/y", "2"), file("link-file", "2"), symlink("file-link", "link-file"), file("pipe-file", "2")),
		},
		"owners and modes": {
			layerOf(t, folder("home").owner(1000, 1000).mode(0o700), file("home/f", "1").owner(1000, 100).mode(0o640), file("su", "1").mode(0o4755), file("sg", "1").mode(0o2755).owner(5, 5), folder("tmp").mode(0o1777),
				folder("sgdir").mode(0o2770).owner(0, 33), file("none", "1").mode(0), folder("closed").mode(0), file("closed/in", "1"), file("big", "1").owner(2000000000, 2100000000), symlink("l", "su").owner(3, 4)),
			layerOf(t, folder("home").owner(1001, 1001).mode(0o755), folder("closed").mode(0o711)),
		},
		"times": {
			layerOf(t, folder("d").with(at(1000000000, 123456789)), file("d/f", "1").with(at(1500000000, 999999999)), file("epoch", "1").with(at(0, 0)), file("future", "1").with(at(2100000000, 1)),
				file("before", "1").with(at(-1000000, 0)), symlink("l", "d").with(at(1234567890, 5)), hardlink("h", "d/f").with(at(1600000000, 7)), folder("implied/in").with(at(1000000001, 0))),
			layerOf(t, file("d/g", "2").with(at(1500000001, 0))),
		},
		"extended attributes": {
			layerOf(t, file("user", "1").xattr("user.a", "b\x00c"), folder("dir").xattr("user.dir", "x"), file("cap", "1").xattr("security.capability", "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), file("trusted", "1").xattr("trusted.x", "y")),
			layerOf(t, file("user", "2"), folder("dir")),
		},
		"a sparse file": {{ocispec.MediaTypeImageLayer, sparse, sparse}, layerOf(t, hardlink("linked", "sparse"))},
		"names": {layerOf(t, file("./dot", "1"), file("/absolute", "1"), file("d//e/./f", "1"), folder("slash/"), file("up/../over", "1"), file("../above", "1"), file(long+"end", "1"), file("ünï \t\"quoted\"\n", "1"),
			file("bytes\xff\xfe", "1"), file(strings.Repeat("n", 255), "1"), file(".whx", "1"), file("wh.", "1"), folder("."), symlink("empty-looking", " "), file("-rf", "1"))},
		"an order that is odd": {
			layerOf(t, file("late/f", "1"), file("late/sub/g", "1"), folder("late").mode(0o700).owner(9, 9), file("twice", "first"), file("twice", "second, and longer"), file("t", "1"), folder("t"), file("t/u", "1")),
		},
		"compressions and layers without files": {
			{ocispec.MediaTypeImageLayer, plain, plain}, {ocispec.MediaTypeImageLayerZstd, zstded(pack(t, file("zstd", "1"))), pack(t, file("zstd", "1"))},
			{"application/vnd.docker.image.rootfs.diff.tar.gzip", gzipped(pack(t, file("docker", "1"))), pack(t, file("docker", "1"))},
			{ocispec.MediaTypeImageLayerGzip, append(gzipped(plain[:700]), gzipped(plain[700:])...), plain}, layerOf(t), layerOf(t, folder("empty")),
		},
		"one layer twice": {one, layerOf(t, file(".wh.same", "")), one},
		"large files":     {layerOf(t, file("large", repeated("0123456789abcdef", 5<<20+3)), file("large2", repeated("x", 1<<20))), layerOf(t, hardlink("linked", "large"))},
		"pipes and devices": {layerOf(t, head(tar.TypeFifo, "pipe", "").mode(0o622), head(tar.TypeChar, "null", "").mode(0o666).with(func(h *tar.Header) { h.Devmajor, h.Devminor = 1, 3 }),
			head(tar.TypeBlock, "disk", "").mode(0o660).owner(0, 6).with(func(h *tar.Header) { h.Devmajor, h.Devminor = 7, 200 }))},
	}
}

// exported returns the path of an archive with the image under the given name, and the path of
// the root file system that this package makes of it.
func exported(t *testing.T, name string, layers []testLayer) (file, root string, err error) {
	t.Helper()
	store := new(pullertest.MemStore)
	desc := putImage(t, store, layers...)
	ref := reference.MustParse(name)
	require.NoError(t, store.Tag(t.Context(), ref, desc))
	var b bytes.Buffer
	err = archive.Export(t.Context(), store, &b, ref)
	require.NoError(t, err)
	file = filepath.Join(t.TempDir(), "image.tar")
	require.NoError(t, os.WriteFile(file, b.Bytes(), 0o600))
	dir := filepath.Join(t.TempDir(), "dir")
	_, err = Unpack(t.Context(), store, desc, dir, Config{Devices: true, MaxRatio: 5000})
	return file, filepath.Join(dir, rootName), err
}

// containerd makes the same files of each unusual image: types, modes, owners, times, extended
// attributes, links, holes and content are equal.
func TestOddImagesAreEqualToThoseOfContainerd(t *testing.T) {
	realtest.NeedRoot(t, "containerd needs it")
	ctr := startContainerd(t)
	images := odd(t)
	require.GreaterOrEqual(t, len(images), 10)
	for i, name := range slices.Sorted(maps.Keys(images)) {
		t.Run(name, func(t *testing.T) {
			image := fmt.Sprintf("registry.example/odd:%d", i)
			file, root, err := exported(t, image, images[name])
			require.NoError(t, err)
			theirs, err := unpackedByContainerd(t, ctr, file, images[name])
			require.NoError(t, err)
			assert.Equal(t, describeTree(t, theirs), describeTree(t, root))
		})
	}
}

// "podman image mount" shows the same files of each unusual image that podman accepts.
func TestOddImagesAreEqualToThoseOfPodman(t *testing.T) {
	realtest.NeedRoot(t, "podman can then give files to all owners")
	podman := realtest.Need(t, "podman")
	dir := realtest.ShortDir(t)
	run := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), podman, append([]string{"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--tmpdir", filepath.Join(dir, "tmp"),
			"--storage-driver", "vfs", "--events-backend", "file"}, args...)...)
		cmd.Env = append(os.Environ(), "HOME="+dir, "TMPDIR="+dir, "CONTAINERS_CONF=/dev/null")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, stderr.String())
		}
		return strings.TrimSpace(string(out)), err
	}
	images, equal := odd(t), 0
	for i, name := range slices.Sorted(maps.Keys(images)) {
		t.Run(name, func(t *testing.T) {
			image := fmt.Sprintf("registry.example/odd:%d", i)
			file, root, err := exported(t, image, images[name])
			require.NoError(t, err)
			if _, err := run("load", "--input", file); err != nil {
				require.Contains(t, err.Error(), "duplicates of file paths not supported") // two entries of one name
				return
			}
			mounted, err := run("image", "mount", image)
			require.NoError(t, err)
			theirs, ours := describeTree(t, mounted), describeTree(t, root)
			// Podman gives the root directory a mode of its own if no layer lists it.
			delete(theirs, ".")
			delete(ours, ".")
			assert.Equal(t, theirs, ours)
			equal++
			_, err = run("image", "unmount", image)
			require.NoError(t, err)
		})
	}
	require.GreaterOrEqual(t, equal, 10)
}

// containerd makes the same files of a hostile image, or refuses it if this package refuses it.
func TestHostileImagesEndAsInContainerd(t *testing.T) {
	realtest.NeedRoot(t, "containerd needs it")
	ctr := startContainerd(t)
	outside := filepath.Join(t.TempDir(), "outside")
	require.NoError(t, os.Mkdir(outside, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(outside, "victim"), []byte("unharmed"), 0o644))
	images := hostile(t, outside)
	for i, name := range slices.Sorted(maps.Keys(images)) {
		t.Run(name, func(t *testing.T) {
			image := fmt.Sprintf("registry.example/hostile:%d", i)
			file, root, err := exported(t, image, images[name])
			theirs, cerr := unpackedByContainerd(t, ctr, file, images[name])
			if cerr != nil {
				assert.Error(t, err, "containerd says: %v", cerr)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, describeTree(t, theirs), describeTree(t, root))
		})
	}
	assert.Equal(t, map[string]string{"victim": "unharmed"}, contents(t, outside))
}

// unpackedByContainerd returns the directory that containerd makes of an image without overlayfs.
// A mount of the image would be a mount of this directory. The error is that of the unpacking.
func unpackedByContainerd(t *testing.T, ctr func(args ...string) (string, error), file string, layers []testLayer) (string, error) {
	t.Helper()
	if out, err := ctr("images", "import", "--snapshotter", "native", file); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	var ids []digest.Digest
	for _, l := range layers {
		ids = append(ids, digestOf(l.tar))
	}
	out, err := ctr("snapshots", "--snapshotter", "native", "view", "--mounts", rand.Text(), string(identity.ChainID(ids)))
	require.NoError(t, err, out)
	var mounts []struct{ Source string }
	require.NoError(t, json.Unmarshal([]byte(out), &mounts), out)
	require.Len(t, mounts, 1)
	return mounts[0].Source, nil
}

// startContainerd starts containerd, which stops at the end of the test, and returns a
// function that runs ctr.
func startContainerd(t *testing.T) func(args ...string) (string, error) {
	t.Helper()
	program, ctr := realtest.Need(t, "containerd"), realtest.Need(t, "ctr")
	dir := realtest.ShortDir(t)
	socket, config := filepath.Join(dir, "cd.sock"), filepath.Join(dir, "config.toml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.snapshotter.v1.overlayfs\"]\n[grpc]\n  address = %q\n",
		filepath.Join(dir, "root"), filepath.Join(dir, "state"), socket), 0o600))
	cmd := exec.Command(program, "--config", config)
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	var log strings.Builder
	for lines := bufio.NewScanner(stderr); ; {
		require.True(t, lines.Scan(), "containerd did not start: %s", log.String())
		log.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "successfully booted") {
			break
		}
	}
	go func() { _, _ = io.Copy(io.Discard, stderr) }()
	return func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), ctr, append([]string{"--address", socket}, args...)...).CombinedOutput()
		return string(out), err
	}
}

// A process that is root only in a user namespace cannot make devices. Unpack leaves them out and
// counts them.
func TestDevicesAreLeftOutInAUserNamespace(t *testing.T) {
	realtest.NeedRoot(t, "a user namespace in which the caller is root needs it in some systems")
	if os.Getenv("ROOTFS_TEST_IN_USER_NAMESPACE") == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), "ROOTFS_TEST_IN_USER_NAMESPACE=1")
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		assert.Contains(t, string(out), "--- PASS: "+t.Name())
		return
	}
	null := head(tar.TypeChar, "null", "").with(func(h *tar.Header) { h.Devmajor, h.Devminor = 1, 3 })
	root, r := unpackImage(t, Config{Devices: true}, layerOf(t, file("null", "of a lower layer"), file("su", "1").mode(0o4755)), layerOf(t, null))
	assert.Equal(t, Dropped{Devices: 1}, r.Dropped)
	assert.Equal(t, 1, r.SetID)
	assert.Equal(t, map[string]string{"su": "1"}, contents(t, root))
}

// A full disk is an error that matches content.ErrNoSpace, and the call leaves nothing.
func TestAFullDiskIsErrNoSpaceAndLeavesNothing(t *testing.T) {
	realtest.NeedRoot(t, "mounts a file system")
	mount := t.TempDir()
	require.NoError(t, syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=1m"))
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(mount, 0)) })
	large := strings.Repeat("0123456789abcdef", 1<<17)
	store := new(pullertest.MemStore)
	_, err := Unpack(t.Context(), store, putImage(t, store, layerOf(t, file("big", large))), filepath.Join(mount, "dir"), Config{MaxRatio: 5000})
	assert.ErrorIs(t, err, content.ErrNoSpace)
	assert.ErrorIs(t, err, syscall.ENOSPC)
	var e *Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, "big", e.File)
	requireOnly(t, mount)
}
