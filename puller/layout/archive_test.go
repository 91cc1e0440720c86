package layout

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"io/fs"
	"iter"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestExportImport(t *testing.T) {
	a := openTest(t, t.TempDir())
	one, two := newTestImage(t, "registry.example/team/one:v1", 1, 100, 300<<10), newTestImage(t, "two:v2", 2, 5)
	for _, img := range []*testImage{one, two} {
		require.NoError(t, (&testPuller{l: a}).pull(t.Context(), img))
	}
	var all, again, first bytes.Buffer
	require.NoError(t, a.Export(t.Context(), &all))
	require.NoError(t, a.Export(t.Context(), &again))
	assert.True(t, bytes.Equal(all.Bytes(), again.Bytes()), "the same images give the same bytes")
	require.NoError(t, a.Export(t.Context(), &first, one.ref))
	assert.Less(t, first.Len(), all.Len())

	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(all.Bytes())
	require.NoError(t, z.Close())
	for name, archive := range map[string][]byte{"plain": all.Bytes(), "gzip": packed.Bytes()} {
		b := openTest(t, t.TempDir())
		images, err := b.Import(t.Context(), bytes.NewReader(archive), ImportConfig{})
		require.NoError(t, err, name)
		require.Len(t, images, 2)
		assert.Equal(t, one.ref, images[0].Ref)
		assert.Equal(t, one.index.Digest, images[0].Descriptor.Digest)
		assert.Equal(t, one.manifest.Digest, images[0].Manifest.Digest)
		requirePulled(t, b, one, name)
		requirePulled(t, b, two, name)
		requireTidy(t, b)
		_, err = b.Import(t.Context(), bytes.NewReader(archive), ImportConfig{}) // again: all is there
		require.NoError(t, err, name)
	}
	err := a.Export(t.Context(), io.Discard, reference.MustParse("three:v3"))
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

// requireTidy checks that nothing but locks is beside the blobs.
func requireTidy(t *testing.T, l *Layout) {
	t.Helper()
	assert.Subset(t, []string{"lock", "removals"}, stateNames(t, l), "left behind")
}

// stateNames are the names of all files in the state directory.
func stateNames(t *testing.T, l *Layout) (names []string) {
	t.Helper()
	for _, dir := range []string{stateDir, ingestDir} {
		entries, err := l.fs.ReadDir(dir)
		require.NoError(t, err)
		for _, e := range entries {
			if dir+"/"+e.Name() != ingestDir {
				names = append(names, e.Name())
			}
		}
	}
	return names
}

func TestExportRefusesDamage(t *testing.T) {
	l := openTest(t, t.TempDir())
	img := newTestImage(t, "registry.example/team/one:v1", 1, 100)
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	rot(t, l, img.all[1])
	err := l.Export(t.Context(), io.Discard)
	assert.ErrorIs(t, err, content.ErrDigestMismatch)
	require.NoError(t, l.fs.Remove(blobName(img.all[1].Digest)))
	err = l.Export(t.Context(), io.Discard)
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

// A tarFile is one entry; link makes it a symbolic link.
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

// dockerFiles is what docker save wrote before it knew OCI layouts: a directory
// for each layer, a link for one that came up before, and manifest.json.
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

func TestImportDockerSave(t *testing.T) {
	l := openTest(t, t.TempDir())
	images, err := l.Import(t.Context(), bytes.NewReader(tarOf(t, dockerFiles(t, "busybox:1.36", "registry.example/b:v1")...)), ImportConfig{})
	require.NoError(t, err)
	require.Len(t, images, 2)
	assert.Equal(t, "docker.io/library/busybox:1.36", images[0].Ref.String())
	assert.Equal(t, "registry.example/b:v1", images[1].Ref.String())
	assert.Equal(t, &ocispec.Platform{OS: "linux", Architecture: "amd64"}, images[0].Manifest.Platform)
	ok, err := l.complete(t.Context(), images[0].Descriptor)
	require.NoError(t, err)
	assert.True(t, ok)
	requireTidy(t, l)
	freed, err := l.Prune(t.Context(), PruneConfig{MinAge: -1})
	require.NoError(t, err)
	assert.Zero(t, freed, "what no image uses was not stored")

	images, err = l.Import(t.Context(), bytes.NewReader(tarOf(t, dockerFiles(t)...)), ImportConfig{Repository: "registry.example/saved"})
	require.NoError(t, err)
	assert.Equal(t, "registry.example/saved@"+string(images[0].Descriptor.Digest), images[0].Ref.String())
}

func TestImportRefuses(t *testing.T) {
	l := openTest(t, t.TempDir())
	img := newTestImage(t, "registry.example/team/one:v1", 1, 100)
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	var archive bytes.Buffer
	require.NoError(t, l.Export(t.Context(), &archive))

	layout := tarFile{name: "oci-layout", data: []byte(layoutVersion)}
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
		kind    content.Kind
	}{
		{"not a tar", []byte("this is no tar"), content.ErrBadIndex},
		{"empty", nil, content.ErrBadIndex},
		{"not a gzip", []byte("\x1f\x8bxxxxxxxxxxx"), content.ErrBadIndex},
		{"a tar of something else", tarOf(t, tarFile{name: "hello", data: []byte("hello")}), content.ErrBadIndex},
		{"cut", archive.Bytes()[:archive.Len()/2], content.ErrBadIndex},
		{"wrong blob", bytes.Replace(archive.Bytes(), []byte(`"seed":1`), []byte(`"seed":2`), 1), content.ErrDigestMismatch},
		{"no oci-layout", tarOf(t, bareTag, empty), content.ErrBadIndex},
		{"bare tag", tarOf(t, layout, bareTag, empty), content.ErrBadReference},
		{"blob missing", tarOf(t, layout, tarFile{name: "index.json", data: bytes.Replace(bareTag.data, []byte(`"v1"`), []byte(`"a.example/b:v1"`), 1)}), content.ErrBadIndex},
		{"index.json is no JSON", tarOf(t, layout, tarFile{name: "index.json", data: []byte("{")}), content.ErrBadIndex},
		{"digest is none", tarOf(t, layout, tarFile{name: "index.json", data: []byte(`{"manifests":[{"digest":"sha256:../../x"}]}`)}), content.ErrBadIndex},
		{"upper case name", tarOf(t, dockerFiles(t, "registry.example/UPPER:v1")...), content.ErrBadReference},
		{"no name", tarOf(t, dockerFiles(t)...), content.ErrBadReference},
		{"layer missing", tarOf(t, append(docker[:1:1], docker[2:]...)...), content.ErrBadIndex},
		{"wrong layer", tarOf(t, wrongLayer...), content.ErrDigestMismatch},
		{"links in a circle", tarOf(t, loop...), content.ErrBadIndex},
		{"link to outside", tarOf(t, outside...), content.ErrBadIndex},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := openTest(t, t.TempDir())
			_, err := l.Import(t.Context(), bytes.NewReader(tt.archive), ImportConfig{})
			require.Error(t, err)
			assert.Equal(t, tt.kind, content.KindOf(err), "%v", err)
			images, err := l.List(t.Context())
			require.NoError(t, err)
			assert.Empty(t, images)
			requireSound(t, l.fs, tt.name)
			for _, name := range stateNames(t, l) {
				assert.NotContains(t, name, tempBase, "left behind")
			}
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A small archive that unpacks to a lot takes neither memory nor disk for it.
func TestImportOfABomb(t *testing.T) {
	many := func(yield func(*tar.Header) bool) {
		for i := range maxArchiveOthers + 1 {
			if !yield(&tar.Header{Typeflag: tar.TypeSymlink, Name: strconv.Itoa(i), Linkname: "x"}) {
				return
			}
		}
	}
	long := func(yield func(*tar.Header) bool) {
		yield(&tar.Header{Typeflag: tar.TypeLink, Name: "x", Linkname: strings.Repeat("a", maxArchiveName)})
	}
	for name, headers := range map[string]iter.Seq[*tar.Header]{"many links": many, "long name": long} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for hdr := range headers {
			require.NoError(t, w.WriteHeader(hdr))
		}
		require.NoError(t, w.Close())
		l := openTest(t, t.TempDir())
		_, err := l.Import(t.Context(), &b, ImportConfig{})
		assert.Equal(t, content.ErrTooLarge, content.KindOf(err), "%s: %v", name, err)
	}
	// A sparse file of an exbibyte.
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	sparse := "1\n1152921504606846975\n1\n"
	sparse += strings.Repeat("\x00", 512-len(sparse))
	require.NoError(t, w.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: "aaa/layer.tar", Size: int64(len(sparse)) + 1, Format: tar.FormatPAX,
		PAXRecords: map[string]string{"XXX.sparse.major": "1", "XXX.sparse.minor": "0", "XXX.sparse.realsize": "1152921504606846976"},
	}))
	_, err := w.Write([]byte(sparse + "x"))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	archive := bytes.ReplaceAll(b.Bytes(), []byte("XXX.sparse"), []byte("GNU.sparse")) // which a Writer refuses
	_, err = openTest(t, t.TempDir()).Import(t.Context(), bytes.NewReader(archive), ImportConfig{})
	assert.ErrorIs(t, err, content.ErrNoSpace, "%v", err)
}
