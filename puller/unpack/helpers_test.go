package unpack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/newdir"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/stretchr/testify/require"
)

// Names in a work directory.
const (
	workSuffix = newdir.Suffix
	oldSuffix  = newdir.OldSuffix
	filesName  = newdir.FilesName
	keyName    = newdir.KeyName
)

var ownNames = newdir.OwnNames

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

// A layer is a layer of a test's artifact.
type layer struct {
	mediaType   string
	data        []byte
	annotations map[string]string
}

// titled is a layer as oras makes it of a file.
func titled(name, data string) layer {
	return layer{ocispec.MediaTypeImageLayer, []byte(data), map[string]string{annotationTitle: name}}
}

// packed is a layer as oras makes it of a directory.
func packed(title string, tar []byte) layer {
	return layer{ocispec.MediaTypeImageLayerGzip, zip(tar), map[string]string{annotationTitle: title, annotationUnpack: "true", annotationDigest: string(digestOf(tar))}}
}

// putArtifact stores an artifact with these layers.
func putArtifact(t testing.TB, store content.Store, layers ...layer) ocispec.Descriptor {
	t.Helper()
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/vnd.example",
		Config: put(t, store, ocispec.MediaTypeEmptyJSON, []byte("{}")),
	}
	for _, l := range layers {
		desc := put(t, store, l.mediaType, l.data)
		desc.Annotations = l.annotations
		m.Layers = append(m.Layers, desc)
	}
	body, err := json.Marshal(m)
	require.NoError(t, err)
	return put(t, store, m.MediaType, body)
}

func openLayout(t testing.TB) *layout.Layout {
	t.Helper()
	l, err := layout.Open(filepath.Join(t.TempDir(), "store"), layout.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// stores returns the kinds of stores that most tests use.
func stores(t *testing.T) map[string]content.Store {
	return map[string]content.Store{"layout": openLayout(t), "memory": new(pullertest.MemStore)}
}

// file is an entry of a tar.
func file(name, data string) tarEntry {
	return tarEntry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data))}, data}
}

func special(typeflag byte, name, link string) tarEntry {
	return tarEntry{tar.Header{Typeflag: typeflag, Name: name, Linkname: link, Mode: 0o7777}, ""}
}

type tarEntry struct {
	tar.Header
	data string
}

func tarOf(t testing.TB, entries ...tarEntry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		require.NoError(t, w.WriteHeader(&e.Header))
		_, err := w.Write([]byte(e.data))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func zip(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(data)
	w.Close()
	return b.Bytes()
}

// readTree returns the content of all files below a directory, "/" for directories and the
// target after an arrow for symbolic links, without the file .pullkit.
func readTree(t testing.TB, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		rel, err := filepath.Rel(dir, name)
		require.NoError(t, err)
		rel = filepath.ToSlash(rel)
		switch {
		case rel == "." || rel == markName:
		case d.IsDir():
			got[rel] = "/"
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(name)
			require.NoError(t, err)
			got[rel] = "-> " + target
		default:
			data, err := os.ReadFile(name)
			require.NoError(t, err)
			got[rel] = string(data)
		}
		return nil
	}))
	return got
}

// requireOnly requires that a directory has only these names.
func requireOnly(t testing.TB, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	got := []string{}
	for _, e := range entries {
		got = append(got, e.Name())
	}
	require.ElementsMatch(t, names, got)
}

// namesOf returns the names of files, separated by spaces.
func namesOf(files []File) string {
	var all []string
	for _, f := range files {
		all = append(all, f.Name)
	}
	return strings.Join(all, " ")
}

func keys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// A damagingStore is a layout that damages one of its blobs on disk when the blob is opened.
type damagingStore struct {
	*layout.Layout
	digest digest.Digest
	damage string
}

// Open opens a blob, and damages it first if it has the digest.
func (s damagingStore) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	r, err := s.Layout.Open(ctx, desc)
	if err != nil || desc.Digest != s.digest {
		return r, err
	}
	name := filepath.Join(s.Dir(), "blobs", "sha256", desc.Digest.Encoded())
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	switch s.damage {
	case "removed":
		if err := s.Remove(ctx, desc.Digest); err != nil {
			return nil, err
		}
		return s.Layout.Open(ctx, desc)
	case "other bytes":
		data[len(data)/2] ^= 1
	case "shorter":
		data = data[:len(data)-1]
	case "longer":
		data = append(data, 0)
	}
	if err := os.WriteFile(name, data, 0o644); err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// Remove removes a blob.
func (s damagingStore) Remove(_ context.Context, d digest.Digest) error {
	return os.Remove(filepath.Join(s.Dir(), "blobs", "sha256", d.Encoded()))
}

func itoa(n int64) string { return fmt.Sprint(n) }

func readAll(r io.Reader) ([]byte, error) { return io.ReadAll(r) }

func parse(d string) digest.Digest { return digest.Digest(d) }

func descOf(data string) ocispec.Descriptor {
	return ocispec.Descriptor{Digest: digestOf([]byte(data)), Size: int64(len(data))}
}
