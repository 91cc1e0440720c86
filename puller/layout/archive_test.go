package layout

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/realtest"
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
			if name := dir + "/" + e.Name(); name != ingestDir && name != usedDir {
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

// How an archive is packed is seen from its beginning: gzip and bzip2 are read, of
// others the error says which it is and what to do.
func TestImportOfPackedArchives(t *testing.T) {
	from := openTest(t, t.TempDir())
	img := newTestImage(t, "registry.example/team/one:v1", 1, 100, 200)
	require.NoError(t, (&testPuller{l: from}).pull(t.Context(), img))
	plain := filepath.Join(t.TempDir(), "images.tar")
	var archive bytes.Buffer
	require.NoError(t, from.Export(t.Context(), &archive))
	require.NoError(t, os.WriteFile(plain, archive.Bytes(), 0o644))
	for _, tt := range []struct {
		program string
		args    []string
		text    string // of the error; "" where it is read
	}{
		{"gzip", nil, ""}, {"bzip2", nil, ""}, {"xz", nil, "packed with xz, which is not read: unpack it first"},
	} {
		packer := realtest.Need(t, tt.program)
		packed, err := exec.CommandContext(t.Context(), packer, append(tt.args, "-c", plain)...).Output()
		require.NoError(t, err, tt.program)
		l := openTest(t, t.TempDir())
		_, err = l.Import(t.Context(), bytes.NewReader(packed), ImportConfig{})
		if tt.text == "" {
			require.NoError(t, err, tt.program)
			requirePulled(t, l, img, tt.program)
			continue
		}
		assert.Equal(t, content.ErrBadIndex, content.KindOf(err))
		assert.ErrorContains(t, err, tt.text)
	}
	pad := strings.Repeat("\x00", 600)
	for begin, text := range map[string]string{
		"\x28\xb5\x2f\xfd":                 "packed with zstd, which is not read: unpack it first, for instance with zstd -d",
		"\x52\x2a\x4d\x18\x04\x00\x00\x00": "packed with zstd",
		"\xfd7zXZ\x00":                     "packed with xz",
		"\x5d\x00\x00\x80":                 "packed with lzma",
		"LZIP\x01":                         "packed with lzip",
		"\x04\x22\x4d\x18":                 "packed with lz4",
		"\x1f\x9d\x90":                     "packed with compress",
		"PK\x03\x04":                       "packed with zip",
		"7z\xbc\xaf\x27\x1c":               "packed with 7z",
		"[{\"Config\":":                    "it is no tar archive",
		"BZh91AY&SY":                       "bzip2",
	} {
		_, err := openTest(t, t.TempDir()).Import(t.Context(), strings.NewReader(begin+pad), ImportConfig{})
		assert.Equal(t, content.ErrBadIndex, content.KindOf(err), "%q: %v", begin, err)
		assert.ErrorContains(t, err, text, "%q", begin)
	}
	_, err := openTest(t, t.TempDir()).Import(t.Context(), strings.NewReader(""), ImportConfig{})
	assert.ErrorContains(t, err, "it is empty")
	assert.Equal(t, content.ErrBadIndex, content.KindOf(err))
	_, err = openTest(t, t.TempDir()).Import(t.Context(), bytes.NewReader(make([]byte, 10240)), ImportConfig{})
	assert.ErrorContains(t, err, "it has no files")
	cause := errors.New("a reader's own error")
	_, err = openTest(t, t.TempDir()).Import(t.Context(), iotest.ErrReader(cause), ImportConfig{})
	assert.ErrorContains(t, err, cause.Error())
}

// What small archives unpack to takes little memory: long names, many lists'
// elements, files without content.
func TestImportTakesLittleMemory(t *testing.T) {
	links := func(w *tar.Writer) {
		for i := range 65_000 {
			name := fmt.Sprintf("%06d%s", i, strings.Repeat("n", 3994))
			if w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: strings.Repeat("t", 4000)}) != nil {
				return
			}
		}
	}
	list := func(name, before, element, after string, size int) func(*tar.Writer) {
		return func(w *tar.Writer) {
			text := before + strings.Repeat(element+",", (size-len(before)-len(after))/(len(element)+1)-1) + element + after
			w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: layoutName, Size: int64(len(layoutVersion))})
			io.WriteString(w, layoutVersion)
			if name == "" {
				name = blobName(digest.Digest("sha256:" + hexOf([]byte(text))))
				index := fmt.Sprintf(`{"manifests":[{"mediaType":%q,"digest":"sha256:%s","size":%d,"annotations":{"org.opencontainers.image.ref.name":"r.example/a:v1"}}]}`,
					ocispec.MediaTypeImageManifest, hexOf([]byte(text)), len(text))
				w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: indexName, Size: int64(len(index))})
				io.WriteString(w, index)
			}
			w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(text))})
			io.WriteString(w, text)
		}
	}
	empty := func(w *tar.Writer) {
		for i := range 3000 {
			w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: strconv.Itoa(i)})
		}
	}
	for name, tt := range map[string]struct {
		write  func(*tar.Writer)
		all    uint64 // bytes allocated in all, at most
		reason content.Kind
	}{
		"long links":           {links, 0, content.ErrTooLarge},
		"large index.json":     {list(indexName, `{"manifests":[`, `{}`, `]}`, 64<<20), 24 << 20, content.ErrTooLarge},
		"many entries":         {list(indexName, `{"manifests":[`, `{}`, `]}`, maxArchiveList), 64 << 20, content.ErrBadIndex},
		"many images":          {list(dockerName, `[`, `{}`, `]`, maxArchiveList), 64 << 20, content.ErrTooLarge},
		"many layers of one":   {list(dockerName, `[{"Layers":[`, `""`, `]}]`, maxArchiveList), 64 << 20, content.ErrTooLarge},
		"many layers":          {list("", `{"layers":[`, `{}`, `]}`, maxDocument), 64 << 20, ""},
		"many files, no bytes": {empty, 256 << 20, content.ErrBadIndex},
	} {
		t.Run(name, func(t *testing.T) {
			l := openTest(t, t.TempDir())
			// Written and packed while it is read, so that the archive itself takes nothing.
			r, w := io.Pipe()
			go func() {
				z := gzip.NewWriter(w)
				tw := tar.NewWriter(z)
				tt.write(tw)
				tw.Close()
				z.Close()
				w.Close()
			}()
			if tt.all > 0 { // what is allocated in all must be the reader's
				packed, err := io.ReadAll(r)
				require.NoError(t, err)
				r, w = io.Pipe()
				go func() { w.Write(packed); w.Close() }()
			}
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			im := &importer{
				l: l, buf: make([]byte, hashBuffer), docs: make(map[string][]byte), spooled: make(map[string]spooled),
				links: make(map[string]string), brought: make(map[uint64]struct{}),
			}
			_, err := im.run(t.Context(), r)
			r.Close()
			runtime.ReadMemStats(&after)
			if tt.all > 0 {
				assert.LessOrEqual(t, after.TotalAlloc-before.TotalAlloc, tt.all*raceFactor, "allocated")
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			assert.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(32<<20)*raceFactor, "kept")
			im.clean()
			require.Error(t, err)
			if tt.reason != "" {
				assert.Equal(t, tt.reason, content.KindOf(err), "%v", err)
			}
		})
	}
}

// Another process removes what an archive brought before it is tagged: that is not
// the archive's fault.
func TestImportWhileAnotherRemoves(t *testing.T) {
	from := openTest(t, t.TempDir())
	img := newTestImage(t, "registry.example/team/one:v1", 1, 100, 200)
	require.NoError(t, (&testPuller{l: from}).pull(t.Context(), img))
	var archive bytes.Buffer
	require.NoError(t, from.Export(t.Context(), &archive))
	docker := tarOf(t, dockerFiles(t, "busybox:1.36")...)
	for name, data := range map[string][]byte{"oci": archive.Bytes(), "docker save": docker} {
		t.Run(name, func(t *testing.T) {
			to := openTest(t, t.TempDir())
			im := &importer{
				l: to, buf: make([]byte, hashBuffer), docs: make(map[string][]byte), spooled: make(map[string]spooled),
				links: make(map[string]string), brought: make(map[uint64]struct{}),
			}
			defer im.clean()
			require.NoError(t, im.readArchive(t.Context(), bytes.NewReader(data)))
			var tags []tagged
			var err error
			if name == "oci" {
				tags, err = im.ociImages(t.Context())
			} else {
				tags, err = im.dockerImages(t.Context())
			}
			require.NoError(t, err)
			other := must(Open(to.Dir()))
			defer other.Close()
			_, err = other.Prune(t.Context(), PruneConfig{MinAge: -1})
			require.NoError(t, err)
			_, err = im.tag(t.Context(), tags)
			assert.ErrorIs(t, err, fs.ErrNotExist)
			assert.NotErrorIs(t, err, content.ErrBadIndex)
			_, err = to.Import(t.Context(), bytes.NewReader(data), ImportConfig{})
			require.NoError(t, err, "once more")
		})
	}
	// What an archive does not have is its own fault.
	layout := tarFile{name: "oci-layout", data: []byte(layoutVersion)}
	manifest := []byte(`{"layers":[{"digest":"sha256:` + strings.Repeat("5", 64) + `","size":1}]}`)
	index := fmt.Sprintf(`{"manifests":[{"mediaType":%q,"digest":"sha256:%s","size":%d,"annotations":{"org.opencontainers.image.ref.name":"r.example/a:v1"}}]}`,
		ocispec.MediaTypeImageManifest, hexOf(manifest), len(manifest))
	_, err := openTest(t, t.TempDir()).Import(t.Context(), bytes.NewReader(tarOf(t, layout,
		tarFile{name: "index.json", data: []byte(index)}, tarFile{name: "blobs/sha256/" + hexOf(manifest), data: manifest})), ImportConfig{})
	assert.Equal(t, content.ErrBadIndex, content.KindOf(err), "%v", err)
	assert.ErrorContains(t, err, strings.Repeat("5", 64))
}

// Export writes no archive that Import would not read, and each image once in
// Docker's list, without those that are no container images.
func TestExportForDocker(t *testing.T) {
	l, refs := newDockerImages(t)
	put := func(mediaType string, data []byte) ocispec.Descriptor {
		desc := descOf(mediaType, data)
		require.NoError(t, (&testPuller{l: l}).blob(t.Context(), desc, data))
		return desc
	}
	manifest, err := l.Lookup(t.Context(), refs[0])
	require.NoError(t, err)
	again := reference.MustParse("registry.example/docker/again:v2")
	require.NoError(t, l.Tag(t.Context(), again, manifest))
	pinned, err := again.WithDigest(manifest.Digest)
	require.NoError(t, err)
	require.NoError(t, l.Tag(t.Context(), pinned, manifest))
	artifact := put(ocispec.MediaTypeImageManifest, jsonOf(t, map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest,
		"config": put("application/vnd.oci.empty.v1+json", []byte("{}")), "layers": []ocispec.Descriptor{put("text/plain", []byte("a file"))},
	}))
	require.NoError(t, l.Tag(t.Context(), reference.MustParse("registry.example/artifact:v1"), artifact))

	files := make(map[string][]byte)
	for r := tar.NewReader(bytes.NewReader(must(os.ReadFile(exportFile(t, l))))); ; {
		hdr, err := r.Next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		assert.NotContains(t, files, hdr.Name, "each file once")
		files[hdr.Name] = must(io.ReadAll(r))
	}
	var list []dockerImage
	require.NoError(t, json.Unmarshal(files[dockerName], &list))
	var tags []string
	for _, img := range list {
		tags = append(tags, img.RepoTags...)
		assert.Contains(t, files, img.Config)
		for _, layer := range img.Layers {
			assert.Contains(t, files, layer)
		}
	}
	assert.Len(t, list, 2, "Docker's, which has several names, and the OCI image")
	assert.ElementsMatch(t, []string{refs[0].String(), refs[1].String(), again.String(), refs[2].String()}, tags)
	assert.Contains(t, files, blobName(artifact.Digest), "the artifact is in index.json alone")
}
