package unpack

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// With Link, files are the blobs themselves, and read-only. The store still works.
func TestLinkedFilesAreTheBlobsAndReadOnly(t *testing.T) {
	store := openLayout(t)
	desc := putArtifact(t, store, mixed(t)...)
	dir := filepath.Join(t.TempDir(), "dir")
	files, err := Files(t.Context(), store, desc, dir, Config{Link: true})
	require.NoError(t, err)
	assert.Equal(t, mixedTree, readTree(t, dir))
	blob := filepath.Join(store.Dir(), "blobs", "sha256", files[0].Digest.Encoded())
	a, b := must(os.Stat(blob)), must(os.Stat(filepath.Join(dir, "README.md")))
	assert.True(t, os.SameFile(a, b))
	assert.Zero(t, b.Mode()&0o222)
	// The files of a tar are not blobs.
	assert.NotZero(t, must(os.Stat(filepath.Join(dir, "docs", "a.txt"))).Mode()&0o200)

	again, err := Files(t.Context(), store, desc, dir, Config{})
	require.NoError(t, err)
	assert.Equal(t, files, again)
	requireSound(t, store)
	ok, err := store.Has(t.Context(), desc)
	require.NoError(t, err)
	assert.True(t, ok)
	r, err := store.Open(t.Context(), descOf("read me"))
	require.NoError(t, err)
	assert.Equal(t, "read me", string(must(io.ReadAll(r))))
	require.NoError(t, r.Close())
	// The store may remove its name of the blob.
	_, err = store.Prune(t.Context(), layout.PruneConfig{MinAge: -1})
	require.NoError(t, err)
	assert.Equal(t, mixedTree, readTree(t, dir))
}

// Link is an error for a store without a directory, and for a store on another file system.
func TestLinkNeedsADirectoryOnTheSameFileSystem(t *testing.T) {
	mem := new(pullertest.MemStore)
	desc := putArtifact(t, mem, titled("a", "a"))
	parent := t.TempDir()
	_, err := Files(t.Context(), mem, desc, filepath.Join(parent, "dir"), Config{Link: true})
	assert.ErrorIs(t, err, ErrNoLink)
	assert.ErrorContains(t, err, "*pullertest.MemStore is not a Directory")

	_, err = Files(t.Context(), elsewhere{mem, t.TempDir()}, desc, filepath.Join(parent, "dir"), Config{Link: true})
	assert.ErrorIs(t, err, ErrNoLink)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	requireOnly(t, parent)
}

// An elsewhere is a store that claims to be in a directory.
type elsewhere struct {
	content.Store
	dir string
}

func (e elsewhere) Dir() string { return e.dir }

// A call with Link was stopped. The next call, without Link, does not write into a blob.
func TestACallAfterAStoppedLinkDoesNotWriteIntoBlobs(t *testing.T) {
	store := openLayout(t)
	desc := putArtifact(t, store, titled("a", "first"), titled("b", "second"))
	for _, first := range []bool{true, false} {
		parent := t.TempDir()
		dir := filepath.Join(parent, "dir")
		n := 0
		u := &unpacker{store: store, cfg: Config{Link: first}, dir: dir, clone: clone, noSync: true, before: func(op, name string) error {
			if name == "b" {
				n++
				return syscall.EINTR
			}
			return nil
		}}
		// The work directory stays, as if the process had been killed.
		w, err := (&unpacker{dir: dir}).newWork()
		require.NoError(t, err)
		require.NoError(t, w.Lock(t.Context()))
		layers, err := u.layers(t.Context(), desc)
		require.NoError(t, err)
		require.NoError(t, u.complete())
		u.key.Manifest = desc.Digest
		all, perr := places(layers, nil)
		require.Nil(t, perr)
		_, err = u.make(t.Context(), w, all)
		require.ErrorIs(t, err, syscall.EINTR)
		w.Close()
		requireOnly(t, filepath.Join(parent, ".dir"+workSuffix, filesName), "a")

		_, err = Files(t.Context(), store, desc, dir, Config{Link: !first})
		require.NoError(t, err)
		assert.Equal(t, map[string]string{"a": "first", "b": "second"}, readTree(t, dir))
		same := os.SameFile(must(os.Stat(filepath.Join(dir, "a"))), must(os.Stat(filepath.Join(store.Dir(), "blobs", "sha256", digestOf([]byte("first")).Encoded()))))
		assert.Equal(t, !first, same)
		requireOnly(t, parent, "dir")
	}
	requireSound(t, store)
}

// Where the file system can clone files, a file is a clone of the blob. Its bytes are not
// written, and are verified.
func TestAClonedFileIsVerifiedAndNotWritten(t *testing.T) {
	for name, c := range map[string]struct {
		clone  func(to, from *os.File) error
		writes int
		want   error
	}{
		"cloned":           {func(to, from *os.File) error { return copyAll(to, from, "") }, 0, nil},
		"damaged":          {func(to, from *os.File) error { return copyAll(to, from, "damage") }, 0, content.ErrDigestMismatch},
		"not supported":    {func(to, from *os.File) error { return errors.ErrUnsupported }, 1, nil},
		"stopped half-way": {func(to, from *os.File) error { io.CopyN(to, from, 3); return syscall.EIO }, 1, nil},
		"the system's":     {clone, -1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			store := openLayout(t)
			desc := putArtifact(t, store, titled("a", "content"))
			parent := t.TempDir()
			dir, writes := filepath.Join(parent, "dir"), 0
			u := &unpacker{store: store, dir: dir, clone: c.clone, noSync: true, before: func(op, name string) error {
				if op == "write" && name == "a" {
					writes++
				}
				return nil
			}}
			_, err := u.run(t.Context(), desc)
			if c.want != nil {
				assert.ErrorIs(t, err, c.want)
				requireOnly(t, parent)
				return
			}
			require.NoError(t, err)
			if c.writes >= 0 {
				assert.Equal(t, c.writes, writes)
			}
			assert.Equal(t, map[string]string{"a": "content"}, readTree(t, dir))
			assert.NotZero(t, must(os.Stat(filepath.Join(dir, "a"))).Mode()&0o200)
		})
	}
}

// copyAll copies as a clone does: it leaves the offset of the file to at its start.
func copyAll(to, from *os.File, more string) error {
	data, err := io.ReadAll(from)
	if err != nil {
		return err
	}
	_, err = to.WriteAt(append(data, more...), 0)
	return err
}

// requireSound requires that all blobs have the content that their digests name.
func requireSound(t *testing.T, store *layout.Layout) {
	t.Helper()
	n := 0
	for d, err := range store.Verify(t.Context()) {
		require.NoError(t, err, "%s", d)
		n++
	}
	require.NotZero(t, n)
}

// On a file system that can clone files, a file does not take up room of its own.
func TestCloneOnBtrfs(t *testing.T) {
	mkfs := realtest.Need(t, "mkfs.btrfs")
	realtest.NeedRoot(t, "mounts a file system")
	image, mount := filepath.Join(t.TempDir(), "image"), t.TempDir()
	require.NoError(t, os.WriteFile(image, nil, 0o644))
	require.NoError(t, os.Truncate(image, 128<<20))
	tool(t, mount, mkfs, "-q", image)
	tool(t, mount, "mount", "-o", "loop", image, mount)
	t.Cleanup(func() { assert.NoError(t, exec.Command("umount", mount).Run()) })
	store, err := layout.Open(filepath.Join(mount, "store"), layout.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { store.Close() })
	data := strings.Repeat("0123456789abcdef", 1<<20)
	desc := putArtifact(t, store, titled("big", data))
	u := &unpacker{store: store, dir: filepath.Join(mount, "dir"), clone: clone, before: func(op, name string) error {
		assert.NotEqual(t, "write big", op+" "+name)
		return nil
	}}
	_, err = u.run(t.Context(), desc)
	require.NoError(t, err)
	assert.Equal(t, data, string(must(os.ReadFile(filepath.Join(mount, "dir", "big")))))
	// A change of the file does not change the blob.
	f, err := os.OpenFile(filepath.Join(mount, "dir", "big"), os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString("changed")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	requireSound(t, store)
}
