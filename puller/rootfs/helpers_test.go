package rootfs

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
)

var then = time.Date(2020, time.February, 3, 4, 5, 6, 0, time.UTC)

// An entry is an entry of a tar. pack sets its size to that of data, and its time to then if it
// is zero.
type entry struct {
	tar.Header
	data string
}

// head returns an entry without data. Its mode is 0755 for a directory and 0644 otherwise.
func head(kind byte, name, link string) entry {
	h := tar.Header{Typeflag: kind, Name: name, Linkname: link, Mode: 0o644}
	if kind == tar.TypeDir {
		h.Mode = 0o755
	}
	return entry{Header: h}
}

func file(name, data string) entry       { e := head(tar.TypeReg, name, ""); e.data = data; return e }
func folder(name string) entry           { return head(tar.TypeDir, name, "") }
func symlink(name, target string) entry  { return head(tar.TypeSymlink, name, target) }
func hardlink(name, target string) entry { return head(tar.TypeLink, name, target) }

// with returns the entry after change has changed its header.
func (e entry) with(change func(h *tar.Header)) entry { change(&e.Header); return e }

func (e entry) mode(m int64) entry { e.Mode = m; return e }

func (e entry) owner(uid, gid int) entry { e.Uid, e.Gid = uid, gid; return e }

func (e entry) xattr(name, value string) entry {
	e.PAXRecords = map[string]string{xattrPrefix + name: value}
	return e
}

// pack returns a tar of entries.
func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		h.Size = int64(len(e.data))
		if h.ModTime.IsZero() {
			h.ModTime = then
		}
		require.NoError(t, w.WriteHeader(&h), h.Name)
		_, err := w.Write([]byte(e.data))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func gzipped(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(data)
	w.Close()
	return b.Bytes()
}

func zstded(data []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return w.EncodeAll(data, nil)
}

func digestOf(data []byte) digest.Digest {
	return digest.Digest(fmt.Sprintf("sha256:%x", sha256.Sum256(data)))
}

// put stores a blob.
func put(t testing.TB, store content.Store, mediaType string, data []byte) ocispec.Descriptor {
	t.Helper()
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digestOf(data), Size: int64(len(data))}
	in, err := store.Ingest(context.Background(), desc)
	if err != nil {
		require.ErrorIs(t, err, fs.ErrExist)
		return desc
	}
	_, err = in.WriteAt(data, 0)
	require.NoError(t, err)
	require.NoError(t, in.Commit(context.Background()))
	require.NoError(t, in.Close())
	return desc
}

// A testLayer is a layer of a test's image.
type testLayer struct {
	mediaType string
	blob, tar []byte
}

// layerOf returns a layer that is compressed with gzip.
func layerOf(t testing.TB, entries ...entry) testLayer {
	data := pack(t, entries...)
	return testLayer{ocispec.MediaTypeImageLayerGzip, gzipped(data), data}
}

// putImage stores an image.
func putImage(t testing.TB, store content.Store, layers ...testLayer) ocispec.Descriptor {
	t.Helper()
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}}
	config.RootFS.Type = "layers"
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{}}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digestOf(l.tar))
		m.Layers = append(m.Layers, put(t, store, l.mediaType, l.blob))
	}
	m.Config = put(t, store, ocispec.MediaTypeImageConfig, encode(t, config))
	return put(t, store, m.MediaType, encode(t, m))
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	require.NoError(t, err)
	return data
}

// unpackImage unpacks an image of layers into a new directory, and returns the path of its root
// file system.
func unpackImage(t testing.TB, cfg Config, layers ...testLayer) (string, Result) {
	t.Helper()
	store := new(pullertest.MemStore)
	dir := filepath.Join(t.TempDir(), "dir")
	r, err := Unpack(t.Context(), store, putImage(t, store, layers...), dir, cfg)
	require.NoError(t, err)
	requireOnly(t, filepath.Dir(dir), "dir")
	requireOnly(t, dir, markName, rootName)
	return filepath.Join(dir, rootName), r
}

// requireOnly fails unless a directory has exactly these names.
func requireOnly(t testing.TB, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	got := []string{}
	for _, e := range entries {
		got = append(got, e.Name())
	}
	slices.Sort(names)
	require.Equal(t, append([]string{}, names...), got)
}

// contents returns the files of a tree: "/" for a directory, "-> target" for a symbolic link,
// and the content of any other file.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil || rel == "." {
			return err
		}
		switch {
		case d.IsDir():
			all[rel] = "/"
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(name)
			if err != nil {
				return err
			}
			all[rel] = "-> " + target
		case d.Type().IsRegular():
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			all[rel] = string(data)
		default:
			all[rel] = d.Type().String()
		}
		return nil
	}))
	return all
}

// repeated returns a text of n bytes that repeats s.
func repeated(s string, n int) string { return strings.Repeat(s, n/len(s)+1)[:n] }

// applyTestLayers applies layers to the root of a, without a call of Unpack.
func applyTestLayers(t testing.TB, u *unpacker, a *applier, layers ...testLayer) error {
	t.Helper()
	store := new(pullertest.MemStore)
	u.store, u.wait = store, func(context.Context, ocispec.Descriptor) error { return nil }
	all := newSpools(func() (*os.File, error) { return os.CreateTemp(t.TempDir(), "") })
	var ls []*layer
	for _, l := range layers {
		ls = append(ls, &layer{desc: put(t, store, l.mediaType, l.blob), diffID: digestOf(l.tar), done: make(chan struct{}), spool: &spool{spools: all}})
	}
	return u.applyAll(t.Context(), a, ls, func() {})
}
