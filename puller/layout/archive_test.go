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
		"\x28\xb5\x2f\xfd":                 "packed with zstd, which is not read: unpack it first, for instance with \"zstd -d\"",
		"\x52\x2a\x4d\x18\x04\x00\x00\x00": "packed with zstd",
		"\xfd7zXZ\x00":                     "packed with xz",
		"\x5d\x00\x00\x80":                 "packed with lzma",
		"LZIP\x01":                         "packed with lzip",
		"\x04\x22\x4d\x18":                 "packed with lz4",
		"\x1f\x9d\x90":                     "packed with compress",
		"PK\x03\x04":                       "packed with zip",
		"7z\xbc\xaf\x27\x1c":               "packed with 7z",
		"[{\"Config\":":                    "it is not a tar archive",
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

// An archive that is packed twice, or whose packing has nothing or something else in
// it, is refused with the name of what is inside and what to do.
func TestImportOfArchivesPackedTwice(t *testing.T) {
	tarFile := tarOf(t, tarFile{name: "hello", data: []byte("hello")})
	gz := func(data string) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		io.WriteString(z, data)
		require.NoError(t, z.Close())
		return b.String()
	}
	pad := strings.Repeat("\x00", 600)
	emptyBzip2 := "BZh9\x17\x72\x45\x38\x50\x90\x00\x00\x00\x00"
	for name, tt := range map[string]struct{ archive, text string }{
		"xz in gzip":      {gz("\xfd7zXZ\x00" + pad), `it is packed twice, with xz inside gzip: unpack it first, for instance with "gzip -d" and then "xz -d"`},
		"zstd in gzip":    {gz("\x28\xb5\x2f\xfd" + pad), `packed twice, with zstd inside gzip: unpack it first, for instance with "gzip -d" and then "zstd -d"`},
		"skipped in gzip": {gz("\x52\x2a\x4d\x18\x04\x00\x00\x00" + pad), "packed twice, with zstd inside gzip"},
		"zip in gzip":     {gz("PK\x03\x04" + pad), "packed twice, with zip inside gzip"},
		"gzip in gzip":    {gz(gz(string(tarFile))), `it is packed twice, with gzip inside gzip: unpack it once, for instance with "gzip -d"`},
		"bzip2 in gzip":   {gz(emptyBzip2), `packed twice, with bzip2 inside gzip: unpack it once, for instance with "gzip -d"`},
		"empty gzip":      {gz(""), "it is packed with gzip, and nothing is inside"},
		"empty bzip2":     {emptyBzip2, "it is packed with bzip2, and nothing is inside"},
		"text in gzip":    {gz("this is not a tar" + pad), `what gzip unpacks to is not a tar archive: it begins with "this is not a tar`},
		"a few bytes":     {gz("xy"), `what gzip unpacks to is not a tar archive: it begins with "xy"`},
		"text":            {"<html>" + pad, `it is not a tar archive: it begins with "<html>`},
		"a word":          {"no", `it is not a tar archive: it begins with "no"`},
		"cut header":      {gz(pad)[:8], "gzip"},
		"cut data":        {gz(string(tarFile))[:30], "gzip"},
	} {
		_, err := openTest(t, t.TempDir()).Import(t.Context(), strings.NewReader(tt.archive), ImportConfig{})
		assert.Equal(t, content.ErrBadIndex, content.KindOf(err), "%s: %v", name, err)
		assert.ErrorContains(t, err, tt.text, name)
	}
	// What real programs write.
	plain := filepath.Join(t.TempDir(), "images.tar")
	require.NoError(t, os.WriteFile(plain, tarFile, 0o644))
	pack := func(program string, data []byte) []byte {
		cmd := exec.CommandContext(t.Context(), realtest.Need(t, program), "-c")
		cmd.Stdin = bytes.NewReader(data)
		packed, err := cmd.Output()
		require.NoError(t, err, program)
		return packed
	}
	for _, tt := range []struct{ inner, outer string }{{"xz", "gzip"}, {"xz", "bzip2"}, {"bzip2", "gzip"}, {"gzip", "bzip2"}} {
		_, err := openTest(t, t.TempDir()).Import(t.Context(), bytes.NewReader(pack(tt.outer, pack(tt.inner, tarFile))), ImportConfig{})
		assert.ErrorContains(t, err, "packed twice, with "+tt.inner+" inside "+tt.outer)
		_, err = openTest(t, t.TempDir()).Import(t.Context(), bytes.NewReader(pack(tt.outer, nil)), ImportConfig{})
		assert.ErrorContains(t, err, "packed with "+tt.outer+", and nothing is inside")
	}
}

// A tar of something else is refused with what it seems to be and what to do.
func TestImportOfOtherTars(t *testing.T) {
	whole := tarFile{name: "oci-layout", data: []byte(layoutVersion)}
	index := tarFile{name: "index.json", data: []byte(`{"manifests":[]}`)}
	in := func(dir string, files ...tarFile) []tarFile {
		for i := range files {
			files[i].name = dir + files[i].name
		}
		return files
	}
	for name, tt := range map[string]struct {
		files []tarFile
		text  string
	}{
		"a directory that is a layout": {in("./images/", index, whole), `it has "images/index.json": pack what is in the directory "images", not the directory`},
		"docker save, unpacked":        {in("save/", dockerFiles(t, "busybox:1.36")...), `it has "save/manifest.json": pack what is in the directory "save"`},
		"a packed archive in a tar":    {in("", tarFile{name: "images.tar.gz", data: []byte("\x1f\x8b")}), `it holds the one file "images.tar.gz": unpack it, and import that`},
		"docker export":                {in("", tarFile{name: ".dockerenv"}, tarFile{name: "etc/passwd"}), "it is the file system of a container, as docker export writes it: use docker save"},
		"something else":               {in("", tarFile{name: "hello"}, tarFile{name: "world"}), "it has neither index.json nor manifest.json: it is not an OCI archive, and not one of docker save"},
	} {
		_, err := openTest(t, t.TempDir()).Import(t.Context(), bytes.NewReader(tarOf(t, tt.files...)), ImportConfig{})
		assert.Equal(t, content.ErrBadIndex, content.KindOf(err), "%s: %v", name, err)
		assert.ErrorContains(t, err, tt.text, name)
	}
}

// Files of a tar may have holes, which "tar --sparse" leaves out. They are read, but
// only so many bytes of holes: a few bytes of an archive may stand for exbibytes.
func TestImportOfSparseFiles(t *testing.T) {
	program := realtest.Need(t, "tar")
	for _, format := range []string{"gnu", "posix"} {
		dir := t.TempDir()
		// An uncompressed layer, which has holes: a megabyte of zeros in a file.
		layer := tarOf(t, tarFile{name: "zeros", data: make([]byte, 1<<20)}, tarFile{name: "end", data: []byte("end")})
		config := jsonOf(t, ocispec.Image{
			Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
			RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.Digest("sha256:" + hexOf(layer))}},
		})
		list := jsonOf(t, []dockerImage{{Config: "config.json", RepoTags: []string{"busybox:1.36"}, Layers: []string{"layer.tar"}}})
		for name, data := range map[string][]byte{"config.json": config, "manifest.json": list} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o644))
		}
		f, err := os.Create(filepath.Join(dir, "layer.tar"))
		require.NoError(t, err)
		for at := 0; at < len(layer); at += 512 { // blocks of zeros become holes
			if block := layer[at : at+512]; !bytes.Equal(block, make([]byte, 512)) {
				_, err = f.WriteAt(block, int64(at))
				require.NoError(t, err)
			}
		}
		require.NoError(t, f.Truncate(int64(len(layer))))
		require.NoError(t, f.Close())
		archive, err := exec.CommandContext(t.Context(), program, "--sparse", "--format="+format, "-C", dir, "-cf", "-", "layer.tar", "config.json", "manifest.json").Output()
		require.NoError(t, err)
		require.Less(t, len(archive), 1<<20, "the archive has holes")
		images, err := openTest(t, t.TempDir()).Import(t.Context(), bytes.NewReader(archive), ImportConfig{})
		require.NoError(t, err, format)
		assert.Len(t, images, 1)

		// The same with a lower limit, and for a blob of a layout.
		im := newImporter(openTest(t, t.TempDir()), ImportConfig{})
		im.holes = 1 << 19
		_, err = im.run(t.Context(), bytes.NewReader(archive))
		im.clean()
		assert.Equal(t, content.ErrTooLarge, content.KindOf(err), "%s: %v", format, err)
		assert.ErrorContains(t, err, `"layer.tar"`, format)
		assert.ErrorContains(t, err, "without --sparse", format)
	}
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
			im := newImporter(l, ImportConfig{})
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
			im := newImporter(to, ImportConfig{})
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
