package archive

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func gzipOf(t testing.TB, data string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, data)
	require.NoError(t, z.Close())
	return b.String()
}

// importError returns the text of the error of an Import that must fail because the file
// is not an archive of images.
func importError(t *testing.T, archive string) string {
	t.Helper()
	store := new(spyStore)
	entries, err := Import(t.Context(), store, strings.NewReader(archive), Config{Repository: "registry.example/imported"})
	require.Error(t, err, "%v", entries)
	assert.Equal(t, content.ErrBadIndex, content.ReasonOf(err), "%v", err)
	assert.Zero(t, store.tags)
	return err.Error()
}

// Import does not quote a file with a secret, at any place in the file and with any
// compression.
func TestImportQuotesNoSecret(t *testing.T) {
	long := strings.Repeat("\x00", 600)
	for name, file := range map[string]struct{ data, secret, what string }{
		"docker config":     {`{"auths":{"r.io":{"auth":"dXNlcjpzM2NyZXQ="}}}`, "dXNlcjpzM2NyZXQ", "a JSON document"},
		"with a BOM":        {"\xef\xbb\xbf" + `{"auths":{"r.io":{"auth":"dXNlcjpzM2NyZXQ="}}}`, "dXNlcjpzM2NyZXQ", "a JSON document"},
		"netrc":             {"machine r.io login u password s3cret\n", "s3cret", "text"},
		"login":             {"user:s3cret", "s3cret", "text"},
		"password":          {"s3cret", "s3cret", "text"},
		"password, latin 1": {"s3cr\xe9t-and-more", "s3cr", "text"},
		"umlaut first":      {"\xc3\xa4s3cret", "s3cret", "text"},
		"JWT":               {"eyJhbGciOiJSUzI1NiJ9.eyJzZWNyZXQiOjF9.sig", "eyJhb", "text"},
		"PEM":               {"-----BEGIN PRIVATE KEY-----\nMIIEvs3cret\n", "MIIEv", "a key or a certificate (PEM)"},
		"script":            {"#!/bin/sh\nexport TOKEN=s3cret\n", "s3cret", "a script"},
		"HTTP":              {"HTTP/1.1 200 OK\r\nAuthorization: Basic dXNlcjpzM2NyZXQ=\r\n", "dXNlcjpzM2NyZXQ", "the answer of an HTTP server"},
		"INI":               {"[r.io]\npassword = s3cret\n", "s3cret", "text"},
		"UTF-16":            {"\xff\xfes\x003\x00c\x00r\x00e\x00t\x00", "s\x003\x00c", "text in UTF-16"},
		"UTF-16 without":    {"s\x003\x00c\x00r\x00e\x00t\x00", "s\x003\x00c", "data of an unknown kind"},
		"binary":            {"\x01\x00s3cret\x02\x03", "s3cret", "begins with the bytes 01 00: "},
		"binary, long":      {"\x01\x80\x02\x81\x03\x82s3cret", "s3cret", "begins with the bytes 01 80 02 81: "},
	} {
		for packed, data := range map[string]string{
			"short": file.data, "long": file.data + long, "gzip": gzipOf(t, file.data), "long in gzip": gzipOf(t, file.data+long),
		} {
			text := importError(t, data)
			assert.Contains(t, text, file.what, "%s, %s", name, packed)
			assertNotQuoted(t, text, file.secret, name, packed)
			assert.Regexp(t, `: (make|download)`, text, "%s, %s: the error says what to do", name, packed)
		}
		// The secret is behind an archive, or in place of its documents.
		from := new(pullertest.MemStore)
		archive := string(exported(t, from, newImage(t, from, "registry.example/one:v1", "a layer").ref))
		layout := tarFile{name: ocilayout.LayoutFile, data: []byte(ocilayout.Layout)}
		config := dockerFiles(t, "busybox:1.36")
		config[4].data = bytes.Replace(config[4].data, []byte(config[3].name), []byte("config.json"), 1)
		config[3] = tarFile{name: "config.json", data: []byte(file.data)}
		for where, data := range map[string]string{
			"behind":        archive + file.data,
			"behind gzip":   gzipOf(t, archive) + file.data,
			"index.json":    string(tarOf(t, layout, tarFile{name: ocilayout.IndexFile, data: []byte(file.data)})),
			"oci-layout":    string(tarOf(t, tarFile{name: ocilayout.LayoutFile, data: []byte(file.data)}, tarFile{name: ocilayout.IndexFile, data: []byte("{}")})),
			"manifest.json": string(tarOf(t, tarFile{name: dockerList, data: []byte(file.data)})),
			"a file":        string(tarOf(t, tarFile{name: "file", data: []byte(file.data)})),
		} {
			assertNotQuoted(t, importError(t, data), file.secret, name, where)
		}
		_, err := Import(t.Context(), new(pullertest.MemStore), bytes.NewReader(tarOf(t, config...)), Config{})
		require.Error(t, err, name)
		assertNotQuoted(t, err.Error(), file.secret, name, "config.json")
	}
}

// assertNotQuoted checks that a text does not contain four consecutive bytes of a secret.
func assertNotQuoted(t *testing.T, text, secret, name, where string) {
	t.Helper()
	for i := range len(secret) - 3 {
		assert.NotContains(t, text, secret[i:i+4], "%s, %s", name, where)
	}
}

// The error for a file that Import does not read names the file's format, by its first
// bytes, and says what to do.
func TestErrorNamesTheFormatOfAFile(t *testing.T) {
	pad := strings.Repeat("\x00", 600)
	for begin, text := range map[string]string{
		"Rar!\x1a\x07\x01\x00":        `it is packed with rar, which is not read: unpack it first, for instance with "unrar x"`,
		"\x89LZO\x00\r\n\x1a\n":       `packed with lzop, which is not read: unpack it first, for instance with "lzop -d"`,
		"\x02\x21\x4c\x18":            `packed with lz4, which is not read: unpack it first, for instance with "lz4 -d"`,
		"\x50\x2a\x4d\x18":            `packed with zstd or lz4, which is not read: unpack it first, for instance with "zstd -d" or "lz4 -d"`,
		"\x5f\x2a\x4d\x18":            `packed with zstd or lz4`,
		"\x27\xb5\x2f\xfd":            `packed with old zstd`,
		"070701":                      `packed with cpio`,
		"\xed\xab\xee\xdb":            "it is not a tar archive but an RPM package: make an archive of images with",
		"!<arch>\ndebian-binary   ":   "it is not a tar archive but the Unix archive of a Debian package (.deb): make",
		"!<arch>\nhello":              "it is not a tar archive but a Unix archive, as ar writes it: make",
		"PK\x05\x06":                  "it is not a tar archive but an empty zip file: make",
		"\x7fELF":                     "a program (ELF): make",
		"version https://git-lfs.git": `a pointer of Git LFS to a file: get the file with "git lfs pull"`,
		"\xef\xbb\xbf\x00":            "data of an unknown kind that begins with the bytes ef bb bf",
	} {
		assert.Contains(t, importError(t, begin+pad), text, "%q", begin)
	}
	assert.Contains(t, importError(t, "PK\x05\x06"+pad[:18]), "an empty zip file", "a whole zip file")
	for _, n := range []int{1, 100, 511} {
		assert.Contains(t, importError(t, pad[:n]), "it is not a tar archive but zeros: make or download it again, because it is not complete")
	}
	assert.Contains(t, importError(t, pad[:512]), "it has no files: make")
	from := new(pullertest.MemStore)
	assert.Contains(t, importError(t, string(exported(t, from, newImage(t, from, "registry.example/one:v1", "a layer").ref)[:300])), "it is a tar archive that is cut off: copy it again")

	// A tar is recognized with any name of its first file.
	docker := dockerFiles(t, "busybox:1.36")
	docker = append([]tarFile{{name: "BZh91AY"}}, docker...)
	_, err := Import(t.Context(), new(pullertest.MemStore), bytes.NewReader(tarOf(t, docker...)), Config{})
	assert.NoError(t, err)
}

// The error for a tar without a list of images names the kind of the tar, by its files,
// and says what to do.
func TestErrorNamesTheKindOfATar(t *testing.T) {
	inner := tarOf(t, dockerFiles(t, "busybox:1.36")...)
	layout := tarFile{name: ocilayout.LayoutFile, data: []byte(ocilayout.Layout)}
	index := func(text string) tarFile { return tarFile{name: ocilayout.IndexFile, data: []byte(text)} }
	list := func(text string) tarFile { return tarFile{name: dockerList, data: []byte(text)} }
	manifest := fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":"x","digest":%q,"size":1},"layers":[]}`, digest.FromString("x"))
	for name, tt := range map[string]struct {
		files []tarFile
		text  string
	}{
		"two archives":         {[]tarFile{{name: "a.tar", data: inner}, {name: "b", data: inner}}, `it holds 2 archives, for instance "a.tar" and "b": unpack it, and import each archive by itself`},
		"archive and README":   {[]tarFile{{name: "README"}, {name: "images/a.tar", data: inner}}, `it holds the archive "images/a.tar" and other files: unpack it, and import that archive`},
		"archive called image": {[]tarFile{{name: "image", data: inner}}, `it holds the one file "image": unpack it, and import that`},
		"zstd called image":    {[]tarFile{{name: "image", data: []byte(zstdMagic)}}, `it holds the one file "image": unpack it`},
		"Helm chart":           {[]tarFile{{name: "app/Chart.yaml"}, {name: "app/charts/db.tgz", data: []byte("\x1f\x8b")}}, `it is a Helm chart, not an image: use it with "helm", for instance "helm push FILE oci://REGISTRY/REPOSITORY"`},
		"file system":          {[]tarFile{{name: "./bin/sh"}, {name: "./etc/passwd"}}, `it is a file system: make an image of it with "docker import"`},
		"source":               {[]tarFile{{name: "app/Dockerfile"}}, `it is the source of an image: build it with "docker build"`},
		"old docker save":      {[]tarFile{{name: "repositories"}, {name: "aa/layer.tar", data: inner}}, "before 1.10, without manifest.json: save the image again"},
		"nothing known":        {[]tarFile{{name: "hello"}}, `not one of docker save: make an archive of images with "docker save"`},

		"skopeo's dir:":     {[]tarFile{list(manifest), {name: "version", data: []byte("Directory Transport Version: 1.1\n")}}, `it holds a directory that skopeo wrote with "dir:": unpack it, and make an archive with "skopeo copy dir:DIR oci-archive:FILE:NAME"`},
		"a manifest":        {[]tarFile{list(manifest)}, "manifest.json is not the list that docker save writes, and may be an image manifest: make"},
		"manifest.json {}":  {[]tarFile{list("{}")}, "manifest.json is not the list that docker save writes"},
		"manifest.json []":  {[]tarFile{list("[]")}, "manifest.json lists no images: save the archive again"},
		"manifest.json nil": {[]tarFile{list("null")}, "manifest.json lists no images: save the archive again"},
		"manifest.json link": {[]tarFile{{name: dockerList, link: "x/list.json"}, {name: "x/list.json", data: []byte("[]")}},
			`manifest.json is a link to "x/list.json", which is not followed: pack it as a file, with "tar --dereference`},

		"index.json {}":       {[]tarFile{layout, index(`{}`)}, "index.json does not have a list of images, which is called manifests: make"},
		"index.json null":     {[]tarFile{layout, index(`{"manifests":null}`)}, "index.json does not have a list of images"},
		"index.json []":       {[]tarFile{layout, index(`{"schemaVersion":2,"manifests":[]}`)}, "index.json lists no images: save the archive again"},
		"index.json array":    {[]tarFile{layout, index(`[]`)}, "make the archive again"},
		"a manifest as index": {[]tarFile{layout, index(manifest)}, "index.json is an image manifest, not a list of images: make"},
		"index.json link":     {[]tarFile{layout, {name: ocilayout.IndexFile, link: "real.json"}, {name: "real.json", data: []byte(`{}`)}}, `index.json is a link to "real.json", which is not followed`},
		"oci-layout link":     {[]tarFile{index(`{}`), {name: ocilayout.LayoutFile, link: "real"}}, `oci-layout is a link to "real", which is not followed`},
		"no oci-layout":       {[]tarFile{index(`{"manifests":[]}`)}, `it has index.json but not oci-layout: pack the whole layout with "tar -C DIR -cf FILE ."`},
		"no index.json":       {[]tarFile{layout}, "it has oci-layout but not index.json: pack the whole layout"},
		"blobs alone":         {[]tarFile{{name: "blobs/sha256/" + hexOf(nil)}}, "it has blobs but not index.json: pack the whole layout"},
		"two index.json":      {[]tarFile{layout, index(`{"manifests":[]}`), index(`{}`)}, `it has index.json twice, with different content, as archives that "tar -A" joined: import each archive by itself`},
		"two manifest.json":   {[]tarFile{list("[]"), list("null")}, "it has manifest.json twice"},
	} {
		assert.Contains(t, importError(t, string(tarOf(t, tt.files...))), tt.text, name)
		assert.Contains(t, importError(t, gzipOf(t, string(tarOf(t, tt.files...)))), tt.text, name)
	}
}

// Bytes behind the end of an archive are zeros, or Import returns an error. They are
// never ignored.
func TestImportReadsToTheEnd(t *testing.T) {
	from := new(pullertest.MemStore)
	one, two := newImage(t, from, "registry.example/one:v1", "a layer"), newImage(t, from, "registry.example/two:v1", "another")
	a, b := string(exported(t, from, one.ref)), string(exported(t, from, two.ref))
	bzip2Of := func(data string) string {
		cmd := exec.CommandContext(t.Context(), realtest.Need(t, "bzip2"), "-c")
		cmd.Stdin = strings.NewReader(data)
		out, err := cmd.Output()
		require.NoError(t, err)
		return string(out)
	}
	zeros := strings.Repeat("\x00", 20<<10)
	half := len(a) / 2
	noEnd := a[:len(a)-1024] // without the two blocks of zeros that end a tar
	for name, archive := range map[string]string{
		"plain":                    a,
		"padded":                   a + zeros,
		"padded unevenly":          a + zeros[:777],
		"no end":                   noEnd,
		"half an end":              noEnd + zeros[:512],
		"gzip":                     gzipOf(t, a+zeros),
		"gzip, padded":             gzipOf(t, a) + zeros,
		"gzip, a zero":             gzipOf(t, a) + "\x00",
		"gzip in parts":            gzipOf(t, a[:half]) + gzipOf(t, "") + gzipOf(t, a[half:]) + gzipOf(t, ""),
		"gzip in parts, padded":    gzipOf(t, a[:half]) + gzipOf(t, a[half:]) + zeros,
		"bzip2":                    bzip2Of(a + zeros),
		"bzip2, padded":            bzip2Of(a) + zeros,
		"bzip2 in parts":           bzip2Of(a[:half]) + bzip2Of(a[half:]),
		"bzip2 in parts, padded":   bzip2Of(a[:half]) + bzip2Of(a[half:]) + zeros,
		"gzip, tar without an end": gzipOf(t, noEnd),
	} {
		store := new(pullertest.MemStore)
		entries, err := Import(t.Context(), store, strings.NewReader(archive), Config{})
		if assert.NoError(t, err, name) {
			assert.Len(t, entries, 1, name)
			requireImage(t, store, one)
		}
	}
	for name, tt := range map[string]struct{ archive, text string }{
		"two tars":             {a + b, `its end is followed by a tar archive, as in files that "cat" joined: import each archive by itself`},
		"two tars, padded":     {a + zeros[:777] + b, "its end is followed by a tar archive"},
		"an empty one and one": {zeros[:10240] + a, "its end is followed by a tar archive"},
		"tar and gzip":         {a + gzipOf(t, b), "its end is followed by a file packed with gzip"},
		"two gzip":             {gzipOf(t, a) + gzipOf(t, b), "its end is followed by a tar archive"},
		"gzip and tar":         {gzipOf(t, a) + b, "its end is followed by a tar archive"},
		"gzip and bzip2":       {gzipOf(t, a) + bzip2Of(b), "its end is followed by a file packed with bzip2"},
		"two bzip2":            {bzip2Of(a) + bzip2Of(b), "its end is followed by a tar archive"},
		"bzip2 and tar":        {bzip2Of(a) + b, `import each archive by itself if "cat" joined several`},
		"tar and text":         {a + "junk", "its end is followed by text"},
		"gzip and text":        {gzipOf(t, a) + "junkjunkjunk", "its end is followed by text"},
		"gzip and zeros, text": {gzipOf(t, a) + zeros + "junkjunkjunk", "its end is followed by text"},
		"no end, and a tar":    {noEnd + b, "it has index.json twice"},
		"cut gzip":             {gzipOf(t, a)[:len(gzipOf(t, a))-6], "gzip: the archive is cut off: copy it again"},
	} {
		assert.Contains(t, importError(t, tt.archive), tt.text, name)
	}
	// Too many zeros are an error too.
	endless := io.MultiReader(strings.NewReader(a), readerFunc(func(p []byte) (int, error) { clear(p); return len(p), nil }))
	im := newImporter(new(pullertest.MemStore), Config{})
	im.holes = 1 << 20
	_, err := im.run(t.Context(), endless)
	assert.Equal(t, content.ErrTooLarge, content.ReasonOf(err), "%v", err)
}

// If images with different digests have one name, the first gets the name, and the others
// get names with their digests. All of them are imported.
func TestFirstImageGetsTheName(t *testing.T) {
	store := new(pullertest.MemStore)
	first, second := newImage(t, store, "registry.example/first:v1", "a layer"), newImage(t, store, "registry.example/second:v1", "another")
	files := []tarFile{{name: ocilayout.LayoutFile, data: []byte(ocilayout.Layout)}}
	for _, desc := range append(append([]ocispec.Descriptor{first.manifest, second.manifest}, first.layers...), second.layers...) {
		files = append(files, tarFile{name: ocilayout.BlobName(desc.Digest), data: must(ocilayout.ReadBlob(t.Context(), store, desc))})
		if doc, err := ocilayout.Read(t.Context(), store, desc); err == nil {
			files = append(files, tarFile{name: ocilayout.BlobName(doc.Config.Digest), data: must(ocilayout.ReadBlob(t.Context(), store, *doc.Config))})
		}
	}
	entry := func(img testImage, name string) ocispec.Descriptor {
		desc := img.manifest
		desc.Annotations = map[string]string{ocispec.AnnotationRefName: name}
		return desc
	}
	of := func(entries ...ocispec.Descriptor) []byte {
		index := tarFile{name: ocilayout.IndexFile, data: jsonOf(t, map[string]any{"schemaVersion": 2, "manifests": entries})}
		return tarOf(t, append(files[:len(files):len(files)], index)...)
	}
	digestOf := func(repository string, img testImage) string { return repository + "@" + string(img.manifest.Digest) }
	const hub, bare = "docker.io/library/app", "registry.example/imported"
	for name, tt := range map[string]struct {
		archive []byte
		want    map[string]testImage // by name
	}{
		"one spelling":    {of(entry(first, "docker.io/library/app:v1"), entry(second, "docker.io/library/app:v1")), map[string]testImage{hub + ":v1": first, digestOf(hub, second): second}},
		"two spellings":   {of(entry(second, "docker.io/app:v1"), entry(first, "docker.io/library/app:v1")), map[string]testImage{hub + ":v1": first, digestOf(hub, second): second}},
		"no registry":     {of(entry(first, "app:v1"), entry(second, "app:v1")), map[string]testImage{hub + ":v1": first, digestOf(hub, second): second}},
		"bare tags":       {of(entry(first, "v1"), entry(second, "v1")), map[string]testImage{bare + ":v1": first, digestOf(bare, second): second}},
		"bare and whole":  {of(entry(second, "v1"), entry(first, bare+":v1")), map[string]testImage{bare + ":v1": first, digestOf(bare, second): second}},
		"the same image":  {of(entry(first, "v1"), entry(first, "v1"), entry(first, bare+":v1")), map[string]testImage{bare + ":v1": first}},
		"without a name":  {of(entry(first, ""), entry(first, ""), entry(second, "")), map[string]testImage{digestOf(bare, first): first, digestOf(bare, second): second}},
		"thrice, with it": {of(entry(first, "v1"), entry(second, "v1"), entry(second, "v1"), entry(second, "")), map[string]testImage{bare + ":v1": first, digestOf(bare, second): second}},
	} {
		entries, err := Import(t.Context(), new(pullertest.MemStore), bytes.NewReader(tt.archive), Config{Repository: bare})
		require.NoError(t, err, name)
		got := make(map[string]digest.Digest)
		for _, e := range entries {
			got[e.Ref.String()] = e.Descriptor.Digest
		}
		want := make(map[string]digest.Digest)
		for name, img := range tt.want {
			want[name] = img.manifest.Digest
		}
		assert.Equal(t, want, got, name)
		assert.Len(t, entries, len(want), name)
	}
}
