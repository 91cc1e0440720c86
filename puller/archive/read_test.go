package archive

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The first bytes of an archive show its compression. Import reads gzip and bzip2. For
// others, the error names the format and says what to do.
func TestImportReadsGzipAndBzip2(t *testing.T) {
	from := new(pullertest.MemStore)
	img := newImage(t, from, "registry.example/team/one:v1", "a layer", "another")
	plain := filepath.Join(t.TempDir(), "images.tar")
	require.NoError(t, os.WriteFile(plain, exported(t, from, img.ref), 0o644))
	for _, tt := range []struct {
		program string
		args    []string
		text    string // part of the error; "" if Import reads the archive
	}{
		{"gzip", nil, ""}, {"bzip2", nil, ""}, {"xz", nil, "packed with xz, which is not read: unpack it first"},
	} {
		packer := realtest.Need(t, tt.program)
		packed, err := exec.CommandContext(t.Context(), packer, append(tt.args, "-c", plain)...).Output()
		require.NoError(t, err, tt.program)
		store := new(pullertest.MemStore)
		_, err = Import(t.Context(), store, bytes.NewReader(packed), Config{})
		if tt.text == "" {
			require.NoError(t, err, tt.program)
			requireImage(t, store, img)
			continue
		}
		assert.Equal(t, content.ErrBadIndex, content.ReasonOf(err))
		assert.ErrorContains(t, err, tt.text)
	}
	pad := strings.Repeat("\x00", 600)
	for begin, text := range map[string]string{
		"\x28\xb5\x2f\xfd":                 "packed with zstd, which is not read: unpack it first, for instance with \"zstd -d\"",
		"\x52\x2a\x4d\x18\x04\x00\x00\x00": "packed with zstd or lz4, which is not read: unpack it first, for instance with \"zstd -d\" or \"lz4 -d\"",
		"\xfd7zXZ\x00":                     "packed with xz",
		"\x5d\x00\x00\x80":                 "packed with lzma",
		"LZIP\x01":                         "packed with lzip",
		"\x04\x22\x4d\x18":                 "packed with lz4",
		"\x1f\x9d\x90":                     "packed with compress",
		"PK\x03\x04":                       "packed with zip",
		"7z\xbc\xaf\x27\x1c":               "packed with 7z",
		"[{\"Config\":":                    "it is not a tar archive but a JSON document",
		"BZh91AY&SY":                       "bzip2",
	} {
		_, err := Import(t.Context(), new(pullertest.MemStore), strings.NewReader(begin+pad), Config{})
		assert.Equal(t, content.ErrBadIndex, content.ReasonOf(err), "%q: %v", begin, err)
		assert.ErrorContains(t, err, text, "%q", begin)
	}
	_, err := Import(t.Context(), new(pullertest.MemStore), strings.NewReader(""), Config{})
	assert.ErrorContains(t, err, "it is empty")
	assert.Equal(t, content.ErrBadIndex, content.ReasonOf(err))
	_, err = Import(t.Context(), new(pullertest.MemStore), bytes.NewReader(make([]byte, 10240)), Config{})
	assert.ErrorContains(t, err, "it has no files")
	cause := errors.New("a reader's own error")
	_, err = Import(t.Context(), new(pullertest.MemStore), iotest.ErrReader(cause), Config{})
	assert.ErrorContains(t, err, cause.Error())
}

// Import refuses an archive that is compressed twice, and a compressed file without an
// archive in it. The error names what is inside and says what to do.
func TestArchivesPackedTwiceAreRefused(t *testing.T) {
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
		"skipped in gzip": {gz("\x52\x2a\x4d\x18\x04\x00\x00\x00" + pad), "packed twice, with zstd or lz4 inside gzip"},
		"zip in gzip":     {gz("PK\x03\x04" + pad), "packed twice, with zip inside gzip"},
		"gzip in gzip":    {gz(gz(string(tarFile))), `it is packed twice, with gzip inside gzip: unpack it once, for instance with "gzip -d"`},
		"bzip2 in gzip":   {gz(emptyBzip2), `packed twice, with bzip2 inside gzip: unpack it once, for instance with "gzip -d"`},
		"empty gzip":      {gz(""), "it is packed with gzip, and nothing is inside"},
		"empty bzip2":     {emptyBzip2, "it is packed with bzip2, and nothing is inside"},
		"text in gzip":    {gz("this is not a tar" + pad), `the data inside gzip is not a tar archive but text: make an archive of images with "docker save" or`},
		"a few bytes":     {gz("xy"), "the data inside gzip is not a tar archive but text"},
		"text":            {"<html>" + pad, "it is not a tar archive but a web page: download it again"},
		"a word":          {"no", "it is not a tar archive but text"},
		"cut header":      {gz(pad)[:8], "gzip"},
		"cut data":        {gz(string(tarFile))[:30], "gzip"},
	} {
		_, err := Import(t.Context(), new(pullertest.MemStore), strings.NewReader(tt.archive), Config{})
		assert.Equal(t, content.ErrBadIndex, content.ReasonOf(err), "%s: %v", name, err)
		assert.ErrorContains(t, err, tt.text, name)
	}
	// Archives that real programs write.
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
		_, err := Import(t.Context(), new(pullertest.MemStore), bytes.NewReader(pack(tt.outer, pack(tt.inner, tarFile))), Config{})
		assert.ErrorContains(t, err, "packed twice, with "+tt.inner+" inside "+tt.outer)
		_, err = Import(t.Context(), new(pullertest.MemStore), bytes.NewReader(pack(tt.outer, nil)), Config{})
		assert.ErrorContains(t, err, "packed with "+tt.outer+", and nothing is inside")
	}
}

// Import refuses a tar of other files. The error names the probable kind of the tar and
// says what to do.
func TestTarsOfOtherFilesAreRefused(t *testing.T) {
	whole := tarFile{name: "oci-layout", data: []byte(ocilayout.Layout)}
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
		_, err := Import(t.Context(), new(pullertest.MemStore), bytes.NewReader(tarOf(t, tt.files...)), Config{})
		assert.Equal(t, content.ErrBadIndex, content.ReasonOf(err), "%s: %v", name, err)
		assert.ErrorContains(t, err, tt.text, name)
	}
}
