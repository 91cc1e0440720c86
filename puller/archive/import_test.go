package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A tarFile is one entry of a tar. If link is set, it is a symbolic link.
type tarFile struct {
	name, link string
	data       []byte
}

func tarOf(t testing.TB, files ...tarFile) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		hdr := &tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.data)), Typeflag: tar.TypeReg}
		if f.link != "" {
			hdr.Typeflag, hdr.Linkname = tar.TypeSymlink, f.link
		}
		require.NoError(t, w.WriteHeader(hdr))
		_, err := w.Write(f.data)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func hexOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func jsonOf(t testing.TB, v any) []byte {
	data, err := json.Marshal(v)
	require.NoError(t, err)
	return data
}

// dockerFiles returns the files that docker save wrote before Docker 25: a directory for
// each layer, a link for a repeated layer, and manifest.json.
func dockerFiles(t testing.TB, tags ...string) []tarFile {
	layer := tarOf(t, tarFile{name: "hello.txt", data: []byte("hello")})
	diff := digest.Digest("sha256:" + hexOf(layer))
	config := jsonOf(t, ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diff, diff}},
	})
	name := hexOf(config) + ".json"
	return []tarFile{
		{name: "aaa/VERSION", data: []byte("1.0")},
		{name: "aaa/layer.tar", data: layer},
		{name: "bbb/layer.tar", link: "../aaa/layer.tar"},
		{name: name, data: config},
		{name: "manifest.json", data: jsonOf(t, []dockerImage{{Config: name, RepoTags: tags, Layers: []string{"aaa/layer.tar", "bbb/layer.tar"}}})},
		{name: "repositories", data: []byte("{}")},
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// put stores content.
func put(t testing.TB, store content.Store, mediaType string, data []byte) ocispec.Descriptor {
	t.Helper()
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.Digest("sha256:" + hexOf(data)), Size: int64(len(data))}
	in, err := store.Ingest(t.Context(), desc)
	if errors.Is(err, fs.ErrExist) {
		return desc
	}
	require.NoError(t, err)
	_, err = in.WriteAt(data, 0)
	require.NoError(t, err)
	require.NoError(t, in.Commit(t.Context()))
	return desc
}

// A testImage is an index of two images, of which one is stored.
type testImage struct {
	ref             reference.Reference
	index, manifest ocispec.Descriptor
	layers          []ocispec.Descriptor
}

// newImage stores an image whose layers have these contents, and tags it.
func newImage(t testing.TB, store content.Store, name string, layers ...string) testImage {
	t.Helper()
	img := testImage{ref: reference.MustParse(name)}
	config := put(t, store, ocispec.MediaTypeImageConfig, []byte(`{"architecture":"amd64","os":"linux","config":{"Labels":{"seed":"`+name+`"}}}`))
	for _, data := range layers {
		img.layers = append(img.layers, put(t, store, ocispec.MediaTypeImageLayerGzip, []byte(data)))
	}
	versioned := specs.Versioned{SchemaVersion: 2}
	img.manifest = put(t, store, ocispec.MediaTypeImageManifest, jsonOf(t, ocispec.Manifest{
		Versioned: versioned, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: img.layers,
	}))
	img.manifest.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	other := ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageManifest, Digest: digest.Digest("sha256:" + hexOf([]byte("of arm64"))), Size: 8,
		Platform: &ocispec.Platform{OS: "linux", Architecture: "arm64"},
	}
	img.index = put(t, store, ocispec.MediaTypeImageIndex, jsonOf(t, ocispec.Index{
		Versioned: versioned, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{other, img.manifest},
	}))
	require.NoError(t, store.Tag(t.Context(), img.ref, img.index))
	return img
}

// requireImage checks that a store has an image with all its content.
func requireImage(t testing.TB, store content.Store, img testImage) {
	t.Helper()
	got, err := store.Lookup(t.Context(), img.ref)
	require.NoError(t, err)
	assert.Equal(t, img.index.Digest, got.Digest)
	for _, desc := range append([]ocispec.Descriptor{img.index, img.manifest}, img.layers...) {
		ok, err := store.Has(t.Context(), desc)
		require.NoError(t, err)
		assert.True(t, ok, "%s", desc.MediaType)
	}
}

// exported returns an archive of images of a store.
func exported(t testing.TB, store content.Store, refs ...reference.Reference) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, Export(t.Context(), store, &b, refs...))
	return b.Bytes()
}

// A spyStore counts tags, and records the ingests that were closed with bytes in them.
type spyStore struct {
	pullertest.MemStore
	tags int
	kept map[digest.Digest]bool
}

func (s *spyStore) Tag(ctx context.Context, ref reference.Reference, desc ocispec.Descriptor) error {
	s.tags++
	return s.MemStore.Tag(ctx, ref, desc)
}

func (s *spyStore) Ingest(ctx context.Context, desc ocispec.Descriptor) (content.Ingest, error) {
	in, err := s.MemStore.Ingest(ctx, desc)
	return &spyIngest{Ingest: in, store: s, d: desc.Digest}, err
}

type spyIngest struct {
	content.Ingest
	store *spyStore
	d     digest.Digest
	ended bool
}

func (in *spyIngest) Commit(ctx context.Context) error {
	in.ended = true
	return in.Ingest.Commit(ctx)
}

func (in *spyIngest) Discard() error {
	in.ended = true
	delete(in.store.kept, in.d)
	return in.Ingest.Discard()
}

func (in *spyIngest) Close() error {
	if !in.ended {
		if in.store.kept == nil {
			in.store.kept = make(map[digest.Digest]bool)
		}
		in.store.kept[in.d] = true
	}
	return in.Ingest.Close()
}

// Import stores all images that Export wrote, for every kind of store.
func TestImportStoresWhatExportWrote(t *testing.T) {
	from := new(pullertest.MemStore)
	one, two := newImage(t, from, "registry.example/team/one:v1", "a layer", "another"), newImage(t, from, "two:v2", "a layer")
	all := exported(t, from, one.ref, two.ref)
	assert.Equal(t, all, exported(t, from, one.ref, two.ref, one.ref), "the same images give the same bytes")
	assert.Less(t, len(exported(t, from, one.ref)), len(all))

	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(all)
	require.NoError(t, z.Close())
	for name, archive := range map[string][]byte{"plain": all, "gzip": packed.Bytes()} {
		to := new(spyStore)
		entries, err := Import(t.Context(), to, bytes.NewReader(archive), Config{})
		require.NoError(t, err, name)
		require.Len(t, entries, 2)
		assert.Equal(t, content.Entry{Ref: one.ref, Name: one.ref.String(), Descriptor: one.index, Manifest: one.manifest}, entries[0])
		assert.Equal(t, two.ref, entries[1].Ref)
		requireImage(t, to, one)
		requireImage(t, to, two)
		assert.Empty(t, to.kept)
		assert.Equal(t, all, exported(t, to, one.ref, two.ref), "the second store writes the same archive")
		_, err = Import(t.Context(), to, bytes.NewReader(archive), Config{}) // again: all content is stored already
		require.NoError(t, err, name)
	}
	err := Export(t.Context(), from, io.Discard, reference.MustParse("three:v3"))
	assert.ErrorIs(t, err, fs.ErrNotExist)
	err = Export(t.Context(), from, io.Discard)
	assert.ErrorContains(t, err, "*pullertest.MemStore does not list its images: pass the names")
	broken := errors.New("the disk for the archive is broken")
	err = Export(t.Context(), from, brokenWriter{broken}, one.ref)
	assert.ErrorIs(t, err, broken)
	assert.Empty(t, content.ReasonOf(err), "the store has not failed")
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

func TestImportReadsDockerSave(t *testing.T) {
	store := new(spyStore)
	entries, err := Import(t.Context(), store, bytes.NewReader(tarOf(t, dockerFiles(t, "busybox:1.36", "registry.example/b:v1")...)), Config{})
	require.NoError(t, err)
	require.Len(t, entries, 2)
	assert.Equal(t, "docker.io/library/busybox:1.36", entries[0].Ref.String())
	assert.Equal(t, "registry.example/b:v1", entries[1].Ref.String())
	assert.Equal(t, &ocispec.Platform{OS: "linux", Architecture: "amd64"}, entries[0].Manifest.Platform)
	ok, err := ocilayout.Complete(t.Context(), store, entries[0].Descriptor)
	require.NoError(t, err)
	assert.True(t, ok)
	assert.Empty(t, store.kept, "no file is left whose use was not known")

	entries, err = Import(t.Context(), store, bytes.NewReader(tarOf(t, dockerFiles(t)...)), Config{Repository: "registry.example/saved"})
	require.NoError(t, err)
	assert.Equal(t, "registry.example/saved@"+string(entries[0].Descriptor.Digest), entries[0].Ref.String())
}

// Import removes the files that it kept, even if its context has ended.
func TestImportCleansUpWhenItIsCancelled(t *testing.T) {
	store := new(spyStore)
	archive := tarOf(t, dockerFiles(t, "busybox:1.36")...)
	ctx, cancel := context.WithCancel(t.Context())
	half := bytes.Index(archive, []byte("manifest.json"))
	r := io.MultiReader(bytes.NewReader(archive[:half]), readerFunc(func([]byte) (int, error) {
		assert.NotEmpty(t, store.kept)
		cancel()
		return 0, ctx.Err()
	}))
	_, err := Import(ctx, store, iotest.OneByteReader(r), Config{})
	assert.ErrorIs(t, err, context.Canceled)
	assert.Empty(t, store.kept)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestImportRefusesBadArchives(t *testing.T) {
	from := new(pullertest.MemStore)
	archive := exported(t, from, newImage(t, from, "registry.example/team/one:v1", "a layer").ref)

	layout := tarFile{name: "oci-layout", data: []byte(ocilayout.Layout)}
	bareTag := tarFile{name: "index.json", data: []byte(`{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:` +
		hexOf(nil) + `","size":0,"annotations":{"org.opencontainers.image.ref.name":"v1"}}]}`)}
	empty := tarFile{name: "blobs/sha256/" + hexOf(nil)}
	docker := dockerFiles(t, "busybox:1.36")
	wrongLayer := dockerFiles(t, "busybox:1.36")
	wrongLayer[1].data = tarOf(t, tarFile{name: "other", data: []byte("other")})
	loop := dockerFiles(t, "busybox:1.36")
	loop[1] = tarFile{name: "aaa/layer.tar", link: "../bbb/layer.tar"}
	outside := dockerFiles(t, "busybox:1.36")
	outside[1] = tarFile{name: "aaa/layer.tar", link: "../../../../etc/passwd"}

	for _, tt := range []struct {
		name    string
		archive []byte
		kind    content.Reason
	}{
		{"not a tar", []byte("this is not a tar"), content.ErrBadIndex},
		{"empty", nil, content.ErrBadIndex},
		{"not a gzip", []byte("\x1f\x8bxxxxxxxxxxx"), content.ErrBadIndex},
		{"a tar of something else", tarOf(t, tarFile{name: "hello", data: []byte("hello")}), content.ErrBadIndex},
		{"cut", archive[:len(archive)/2], content.ErrBadIndex},
		{"wrong blob", bytes.Replace(archive, []byte("a layer"), []byte("a liar!"), 1), content.ErrDigestMismatch},
		{"no oci-layout", tarOf(t, bareTag, empty), content.ErrBadIndex},
		{"bare tag", tarOf(t, layout, bareTag, empty), content.ErrBadReference},
		{"blob missing", tarOf(t, layout, tarFile{name: "index.json", data: bytes.Replace(bareTag.data, []byte(`"v1"`), []byte(`"a.example/b:v1"`), 1)}), content.ErrBadIndex},
		{"index.json is not JSON", tarOf(t, layout, tarFile{name: "index.json", data: []byte("{")}), content.ErrBadIndex},
		{"malformed digest", tarOf(t, layout, tarFile{name: "index.json", data: []byte(`{"manifests":[{"digest":"sha256:../../x"}]}`)}), content.ErrBadIndex},
		{"upper case name", tarOf(t, dockerFiles(t, "registry.example/UPPER:v1")...), content.ErrBadReference},
		{"no name", tarOf(t, dockerFiles(t)...), content.ErrBadReference},
		{"layer missing", tarOf(t, append(docker[:1:1], docker[2:]...)...), content.ErrBadIndex},
		{"wrong layer", tarOf(t, wrongLayer...), content.ErrDigestMismatch},
		{"links in a circle", tarOf(t, loop...), content.ErrBadIndex},
		{"link to outside", tarOf(t, outside...), content.ErrBadIndex},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store := new(spyStore)
			_, err := Import(t.Context(), store, bytes.NewReader(tt.archive), Config{})
			require.Error(t, err)
			assert.Equal(t, tt.kind, content.ReasonOf(err), "%v", err)
			assert.Zero(t, store.tags)
			for d := range store.kept {
				assert.Contains(t, string(tt.archive), d.Encoded(), "the store keeps only blobs of the archive")
			}
		})
	}
}
