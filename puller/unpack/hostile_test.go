package unpack

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// plain is a layer that is a tar because of its media type.
func plain(t testing.TB, entries ...tarEntry) layer {
	return layer{modelTar, tarOf(t, entries...), nil}
}

// image is a layer with the media type of an image's layer.
func image(t testing.TB, entries ...tarEntry) layer {
	return layer{ocispec.MediaTypeImageLayer, tarOf(t, entries...), nil}
}

var faults = []struct {
	name   string
	layers func(t testing.TB) []layer
	cfg    Config
	is     error
	layer  int // index of the layer whose digest the error has; -1 if the error does not have one
	file   string
	text   string
}{
	{"a title that leaves the directory", func(testing.TB) []layer { return []layer{titled("../x", "1")} }, Config{}, ErrBadName, 0, "../x", `it has the element ".."`},
	{"a title that leaves and returns", func(testing.TB) []layer { return []layer{titled("a/../b", "1")} }, Config{}, ErrBadName, 0, "a/../b", ""},
	{"an absolute title", func(testing.TB) []layer { return []layer{titled("/etc/x", "1")} }, Config{}, ErrBadName, 0, "/etc/x", "absolute"},
	{"a title with a backslash", func(testing.TB) []layer { return []layer{titled(`..\x`, "1")} }, Config{}, ErrBadName, 0, `..\x`, "backslash"},
	{"a title with a control character", func(testing.TB) []layer { return []layer{titled("a\nb", "1")} }, Config{}, ErrBadName, 0, "a\nb", `"a\nb"`},
	{"a title with a NUL", func(testing.TB) []layer { return []layer{titled("a\x00b", "1")} }, Config{}, ErrBadName, 0, "a\x00b", ""},
	{"a title that is a directory", func(testing.TB) []layer { return []layer{titled("a/", "1")} }, Config{}, ErrBadName, 0, "a/", "directory"},
	{"a title that is the directory", func(testing.TB) []layer { return []layer{titled("./.", "1")} }, Config{}, ErrBadName, 0, "./.", "directory"},
	{"our own name", func(testing.TB) []layer { return []layer{titled("./.PullKit", "1")} }, Config{}, ErrBadName, 0, "./.PullKit", "kept"},
	{"a directory of our own name", func(testing.TB) []layer { return []layer{titled(".pullkit/x", "1")} }, Config{}, ErrBadName, 0, ".pullkit/x", "kept"},
	{"a long title", func(testing.TB) []layer { return []layer{titled(strings.Repeat("a/", 2100)+"b", "1")} }, Config{}, ErrBadName, 0, strings.Repeat("a/", 2100) + "b", "4201 bytes"},
	{"a deep title", func(testing.TB) []layer { return []layer{titled(strings.Repeat("a/", 100)+"b", "1")} }, Config{}, ErrBadName, 0, strings.Repeat("a/", 100) + "b", "101 elements"},
	{"no name", func(testing.TB) []layer { return []layer{{"application/wasm", []byte("1"), nil}} }, Config{}, ErrNoName, 0, "", "Config.Name"},
	{"two layers with the same name", func(testing.TB) []layer { return []layer{titled("a", "1"), titled("./a", "2")} }, Config{}, ErrTwice, 1, "a", ""},
	{"the same layer twice", func(testing.TB) []layer { return []layer{titled("a", "1"), titled("a", "1")} }, Config{}, ErrTwice, 1, "a", ""},
	{"a file and a directory", func(testing.TB) []layer { return []layer{titled("a", "1"), titled("a/b", "2")} }, Config{}, ErrTwice, 1, "a/b", `"a" is also a file`},
	{"a directory and a file", func(testing.TB) []layer { return []layer{titled("a/b", "1"), titled("a", "2")} }, Config{}, ErrTwice, 1, "a", "a directory and a file"},
	{"a name of Config.Name that leaves", func(testing.TB) []layer { return []layer{{"application/wasm", []byte("1"), nil}} },
		Config{Name: func(ocispec.Descriptor) string { return "../x" }}, ErrBadName, 0, "../x", ""},
	{"too many layers", func(testing.TB) []layer { return []layer{titled("a/b", "1"), titled("c", "2")} }, Config{MaxFiles: 2}, ErrTooLarge, 1, "c", "more than 2 files"},
	{"too many bytes", func(testing.TB) []layer { return []layer{titled("a", "123"), titled("b", "456")} }, Config{MaxBytes: 5}, ErrTooLarge, 1, "b", "Config.MaxBytes"},

	{"an entry that leaves", func(t testing.TB) []layer { return []layer{plain(t, file("../x", "1"))} }, Config{}, ErrBadName, 0, "../x", ""},
	{"an absolute entry", func(t testing.TB) []layer { return []layer{plain(t, file("/x", "1"))} }, Config{}, ErrBadName, 0, "/x", ""},
	{"an entry that is the directory", func(t testing.TB) []layer { return []layer{plain(t, special(tar.TypeSymlink, ".", "x"))} }, Config{}, ErrBadName, 0, ".", "itself"},
	{"a device", func(t testing.TB) []layer { return []layer{plain(t, special(tar.TypeChar, "null", ""))} }, Config{}, ErrBadType, 0, "null", "device"},
	{"a block device", func(t testing.TB) []layer { return []layer{plain(t, special(tar.TypeBlock, "sda", ""))} }, Config{}, ErrBadType, 0, "sda", "device"},
	{"a pipe", func(t testing.TB) []layer { return []layer{plain(t, special(tar.TypeFifo, "p", ""))} }, Config{}, ErrBadType, 0, "p", "pipe"},
	{"another type", func(t testing.TB) []layer { return []layer{plain(t, special('Z', "p", ""))} }, Config{}, ErrBadType, 0, "p", "'Z'"},
	{"an absolute link", func(t testing.TB) []layer { return []layer{plain(t, special(tar.TypeSymlink, "l", "/etc/passwd"))} }, Config{}, ErrBadLink, 0, "l", "absolute"},
	{"a link that leaves", func(t testing.TB) []layer { return []layer{plain(t, special(tar.TypeSymlink, "a/l", "../../x"))} }, Config{}, ErrBadLink, 0, "a/l", "leaves"},
	{"links that leave together", func(t testing.TB) []layer {
		return []layer{plain(t, special(tar.TypeDir, "a/b/", ""), special(tar.TypeSymlink, "a/b/up", "../.."), special(tar.TypeSymlink, "out", "a/b/up/../x"))}
	}, Config{}, ErrBadLink, 0, "out", "escapes"},
	{"a link to nothing", func(t testing.TB) []layer { return []layer{plain(t, special(tar.TypeSymlink, "l", "absent"))} }, Config{}, ErrBadLink, 0, "l", "absent"},
	{"a link to itself", func(t testing.TB) []layer { return []layer{plain(t, special(tar.TypeSymlink, "l", "l"))} }, Config{}, ErrBadLink, 0, "l", ""},
	{"a file below a link", func(t testing.TB) []layer {
		return []layer{plain(t, special(tar.TypeDir, "d/", ""), special(tar.TypeSymlink, "l", "d"), file("l/x", "1"))}
	}, Config{}, ErrBadName, 0, "l/x", "through links"},
	{"a file in place of a link", func(t testing.TB) []layer {
		return []layer{plain(t, file("x", "1"), special(tar.TypeSymlink, "l", "x"), file("l", "1"))}
	}, Config{}, ErrTwice, 0, "l", ""},
	{"a directory in place of a link", func(t testing.TB) []layer {
		return []layer{plain(t, special(tar.TypeSymlink, "l", "."), special(tar.TypeDir, "l/", ""))}
	}, Config{}, ErrTwice, 0, "l/", ""},
	{"a hard link that leaves", func(t testing.TB) []layer { return []layer{plain(t, special(tar.TypeLink, "l", "../x"))} }, Config{}, ErrBadLink, 0, "l", ""},
	{"a hard link to nothing", func(t testing.TB) []layer { return []layer{plain(t, special(tar.TypeLink, "l", "x"))} }, Config{}, ErrBadLink, 0, "l", "comes before it"},
	{"a hard link to a link", func(t testing.TB) []layer {
		return []layer{plain(t, file("x", ""), special(tar.TypeSymlink, "s", "x"), special(tar.TypeLink, "l", "s"))}
	}, Config{}, ErrBadLink, 0, "l", ""},
	{"a hard link to itself", func(t testing.TB) []layer { return []layer{plain(t, special(tar.TypeLink, "l", "l"))} }, Config{}, ErrBadLink, 0, "l", ""},
	{"an entry twice", func(t testing.TB) []layer { return []layer{plain(t, file("x", "1"), file("./x", "1"))} }, Config{}, ErrTwice, 0, "./x", ""},
	{"an entry and a layer", func(t testing.TB) []layer { return []layer{titled("x", "1"), plain(t, file("x", "1"))} }, Config{}, ErrTwice, 1, "x", ""},
	{"a whiteout", func(t testing.TB) []layer { return []layer{image(t, file("etc/.wh.passwd", ""))} }, Config{}, ErrBadName, 0, "etc/.wh.passwd", "image"},
	{"a name below a whiteout", func(t testing.TB) []layer { return []layer{image(t, file("etc/.wh.d/passwd", ""))} }, Config{}, ErrBadName, 0, "etc/.wh.d/passwd", "image"},
	{"two layers of an image", func(t testing.TB) []layer { return []layer{image(t, file("etc/a", "1")), image(t, file("etc/a", "2"))} }, Config{}, ErrTwice, 1, "etc/a", ""},
	{"too many entries", func(t testing.TB) []layer {
		return []layer{plain(t, file("a", ""), file("b", ""), file("c", ""))}
	}, Config{MaxFiles: 2}, ErrTooLarge, 0, "c", ""},
	{"too many bytes in a tar", func(t testing.TB) []layer { return []layer{plain(t, file("a", "123"), file("b", "456"))} }, Config{MaxBytes: 5}, ErrTooLarge, 0, "b", ""},
	{"a bomb", func(t testing.TB) []layer {
		return []layer{{modelGzip, zip(tarOf(t, file("zeros", strings.Repeat("\x00", 3<<20)))), nil}}
	}, Config{MaxRatio: 1}, ErrTooLarge, 0, "zeros", "Config.MaxRatio"},
	{"a bomb after the tar", func(t testing.TB) []layer {
		return []layer{{modelGzip, zip(append(tarOf(t, file("x", "")), make([]byte, 3<<20)...)), nil}}
	}, Config{MaxRatio: 1}, ErrTooLarge, 0, "", "Config.MaxRatio"},
	{"a hole", func(t testing.TB) []layer { return []layer{{modelTar, sparseTar(t, 1<<50), nil}} }, Config{}, ErrTooLarge, 0, "hole", "Config.MaxRatio"},

	{"zstd by its media type", func(testing.TB) []layer {
		return []layer{{"application/vnd.cncf.model.weight.v1.tar+zstd", []byte("1"), nil}}
	}, Config{}, ErrBadTar, 0, "", "zstd"},
	{"zstd by its bytes", func(testing.TB) []layer { return []layer{{modelTar, []byte(zstdMagic + "1234"), nil}} }, Config{}, ErrBadTar, 0, "", "zstd"},
	{"text in place of a tar", func(testing.TB) []layer { return []layer{{modelTar, []byte(strings.Repeat("text ", 300)), nil}} }, Config{}, ErrBadTar, 0, "", "invalid tar header"},
	{"a tar that is cut off", func(t testing.TB) []layer { return []layer{{modelTar, tarOf(t, file("a", "123"))[:514], nil}} }, Config{}, ErrBadTar, 0, "a", "unexpected EOF"},
	{"a tar that is cut off between entries", func(t testing.TB) []layer {
		return []layer{{modelTar, tarOf(t, file("a", "1"), file("b", "2"))[:1024], nil}}
	}, Config{}, ErrBadTar, 0, "", "cut off"},
	{"a tar without zeros at its end", func(t testing.TB) []layer {
		return []layer{{modelGzip, zip(tarOf(t, file("a", "1"), file("zeros", strings.Repeat("\x00", 2048)))[:1024+512+2048]), nil}}
	}, Config{}, ErrBadTar, 0, "", "cut off"},
	{"a tar without zeros whose last file is not below SubPath", func(t testing.TB) []layer {
		return []layer{{modelTar, tarOf(t, file("d/a", "1"), file("zeros", strings.Repeat("\x00", 2048)))[:1024+512+2048], nil}}
	}, Config{SubPath: "d"}, ErrBadTar, 0, "", "cut off"},
	{"a tar that is cut off after a long name", func(t testing.TB) []layer {
		return []layer{{modelTar, tarOf(t, file(strings.Repeat("a", 150), "1"))[:1024], nil}}
	}, Config{}, ErrBadTar, 0, "", "cut off"},
	{"an empty tar file", func(testing.TB) []layer { return []layer{{modelTar, nil, nil}} }, Config{}, ErrBadTar, 0, "", "cut off"},
	{"an empty file in gzip", func(testing.TB) []layer { return []layer{{modelGzip, zip(nil), nil}} }, Config{}, ErrBadTar, 0, "", "cut off"},
	{"bytes after gzip", func(t testing.TB) []layer {
		return []layer{{modelGzip, append(zip(tarOf(t, file("a", "1"))), "\x00\x00more"...), nil}}
	}, Config{}, ErrBadTar, 0, "", "follow its end"},
	{"xz by its media type", func(testing.TB) []layer {
		return []layer{{modelTar + "+xz", []byte("1"), map[string]string{annotationTitle: "a"}}}
	}, Config{}, ErrBadTar, 0, "", "compressed with xz"},
	{"bzip2 by its media type", func(testing.TB) []layer { return []layer{{modelTar + ".bzip2", []byte("1"), nil}} }, Config{}, ErrBadTar, 0, "", "compressed with bzip2"},
	{"a title that no file system can write", func(testing.TB) []layer { return []layer{titled("\u202e"+strings.Repeat("a", 300), "1")} }, Config{}, nil, 0, "\u202e" + strings.Repeat("a", 300), `"\u202ea`},
	{"an entry that no file system can write", func(t testing.TB) []layer {
		return []layer{plain(t, special(tar.TypeDir, "\u202e"+strings.Repeat("a", 300), ""))}
	}, Config{}, nil, 0, "\u202e" + strings.Repeat("a", 300), `"\u202ea`},
	{"gzip that is cut off", func(t testing.TB) []layer {
		data := zip(tarOf(t, file("a", "123")))
		return []layer{{modelGzip, data[:len(data)-9], nil}}
	}, Config{}, ErrBadTar, 0, "", "unexpected EOF"},
	{"gzip with another check sum", func(t testing.TB) []layer {
		data := zip(tarOf(t, file("a", "123")))
		data[len(data)-6]++
		return []layer{{modelGzip, data, nil}}
	}, Config{}, ErrBadTar, 0, "", "checksum"},
	{"gzip that is damaged", func(t testing.TB) []layer {
		data := zip(tarOf(t, file("a", "123")))
		data[10] = 0xff
		return []layer{{modelGzip, data, nil}}
	}, Config{}, ErrBadTar, 0, "", ""},
	{"a second tar", func(t testing.TB) []layer {
		return []layer{{modelTar, append(tarOf(t, file("a", "1")), tarOf(t, file("b", "2"))...), nil}}
	}, Config{}, ErrBadTar, 0, "", "follow its end"},
	{"another digest in the annotation", func(t testing.TB) []layer {
		l := packed("d", tarOf(t, file("d/a", "1")))
		l.annotations[annotationDigest] = string(digestOf(nil))
		return []layer{l}
	}, Config{}, content.ErrDigestMismatch, 0, "", annotationDigest},
	{"a bad digest in the annotation", func(t testing.TB) []layer {
		l := packed("d", tarOf(t, file("d/a", "1")))
		l.annotations[annotationDigest] = "md5:00"
		return []layer{l}
	}, Config{}, ErrBadTar, 0, "", annotationDigest},

	{"an absolute SubPath", mixed, Config{SubPath: "/docs"}, ErrBadName, -1, "", `SubPath "/docs"`},
	{"a SubPath that leaves", mixed, Config{SubPath: "docs/../model"}, ErrBadName, -1, "", "SubPath"},
	{"our own name in SubPath", func(testing.TB) []layer { return []layer{titled("text/.pullkit", "1")} }, Config{SubPath: "text"}, ErrBadName, 0, "text/.pullkit", "kept"},
	{"a file below our own name in SubPath", func(t testing.TB) []layer { return []layer{plain(t, file("text/.PullKit/x", "1"))} }, Config{SubPath: "text"}, ErrBadName, 0, "text/.PullKit/x", "kept"},
	{"a directory of our own name in SubPath", func(t testing.TB) []layer { return []layer{plain(t, special(tar.TypeDir, "text/.pullkit/", ""))} }, Config{SubPath: "text"}, ErrBadName, 0, "text/.pullkit/", "kept"},
	{"a link of our own name in SubPath", func(t testing.TB) []layer {
		return []layer{plain(t, file("text/a", "1"), special(tar.TypeSymlink, "text/.pullkit", "a"))}
	}, Config{SubPath: "text"}, ErrBadName, 0, "text/.pullkit", "kept"},
	{"a SubPath that is absent", mixed, Config{SubPath: "doc"}, ErrSubPath, -1, "", `"doc"`},
	{"a SubPath that is a file", mixed, Config{SubPath: "README.md"}, ErrSubPath, 0, "README.md", "not a directory"},
	{"a SubPath below a file", mixed, Config{SubPath: "README.md/x"}, ErrSubPath, 0, "README.md", "not a directory"},
	{"a SubPath that is a link", mixed, Config{SubPath: "docs/up"}, ErrSubPath, 3, "docs/up", "not a directory"},
	{"a link out of SubPath", mixed, Config{SubPath: "docs"}, ErrBadLink, 3, "docs/up", "leaves"},
	{"a hard link out of SubPath", func(t testing.TB) []layer {
		return []layer{plain(t, file("x", "1"), special(tar.TypeLink, "d/x", "x"))}
	}, Config{SubPath: "d"}, ErrBadLink, 0, "d/x", "not below"},
	{"a negative limit", mixed, Config{MaxFiles: -1}, nil, -1, "", "negative"},
}

// sparseTar returns a tar with a file that has size bytes, all of them in holes.
func sparseTar(t testing.TB, size int64) []byte {
	data := tarOf(t, tarEntry{tar.Header{Typeflag: tar.TypeReg, Name: "hole", Format: tar.FormatGNU, Mode: 0o644}, ""})
	b := data[:512]
	b[156] = tar.TypeGNUSparse
	octal := func(at, width int, n int64) {
		if n < 1<<(3*(width-1)) {
			copy(b[at:], fmt.Sprintf("%0*o\x00", width-1, n))
			return
		}
		for i := at + width - 1; i > at; i, n = i-1, n>>8 { // base 256
			b[i] = byte(n)
		}
		b[at] = 0x80
	}
	octal(386, 12, size) // an empty piece at the end
	octal(398, 12, 0)
	octal(483, 12, size) // the real size
	sum := int64(0)
	for i, c := range b {
		if i >= 148 && i < 156 {
			c = ' '
		}
		sum += int64(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return data
}

// Each fault is an error that names the layer, the file and the reason. The call leaves nothing,
// and files that were there before stay.
func TestEachFaultIsAnErrorAndLeavesNothing(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			store := new(pullertest.MemStore)
			layers := f.layers(t)
			desc := putArtifact(t, store, layers...)
			parent := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(parent, "x"), []byte("mine"), 0o644))
			dir := filepath.Join(parent, "dir")
			_, err := Files(t.Context(), store, desc, dir, f.cfg)
			var e *Error
			require.ErrorAs(t, err, &e)
			if f.is != nil {
				assert.ErrorIs(t, err, f.is)
			}
			assert.Contains(t, err.Error(), f.text)
			assert.Contains(t, err.Error(), "unpack to ")
			assert.NotContains(t, err.Error(), "\n")
			assert.NotContains(t, err.Error(), "\u202e")
			assert.Less(t, len(err.Error()), 1000)
			want := digest.Digest("")
			if f.layer >= 0 {
				want = digestOf(layers[f.layer].data)
			}
			assert.Equal(t, want, e.Layer, "%v", err)
			assert.Equal(t, f.file, e.File, "%v", err)
			assert.Equal(t, dir, e.Dir)
			assert.Equal(t, map[string]string{"x": "mine"}, readTree(t, parent))
		})
	}
}

// Errors of the system name the operation and the cause, and quote and cut the names, however
// they are wrapped.
func TestErrorsOfTheSystemQuoteNames(t *testing.T) {
	name := "\u202e" + strings.Repeat("a", 300)
	for _, err := range []error{
		&fs.PathError{Op: "openat", Path: name, Err: fs.ErrPermission},
		&os.LinkError{Op: "link", Old: name, New: name, Err: fs.ErrPermission},
		fmt.Errorf("%w: %w", ErrNoLink, &os.LinkError{Op: "link", Old: "blob", New: name, Err: fs.ErrPermission}),
		fmt.Errorf("read: %w", errors.Join(ErrNoLink, &fs.PathError{Op: "openat", Path: name, Err: fs.ErrPermission})),
	} {
		got := quotePaths(err)
		assert.ErrorIs(t, got, fs.ErrPermission)
		assert.Equal(t, errors.Is(err, ErrNoLink), errors.Is(got, ErrNoLink))
		assert.Contains(t, got.Error(), `"\u202eaaa`)
		assert.Contains(t, got.Error(), "permission denied")
		assert.NotContains(t, got.Error(), "\u202e")
		assert.NotContains(t, got.Error(), strings.Repeat("a", maxQuoted))
	}
	assert.Equal(t, ErrTwice, quotePaths(ErrTwice))

	store := openLayout(t)
	name = strings.Repeat(strings.Repeat("e", 200)+"/", 20) + strings.Repeat("f", 70)
	_, err := Files(t.Context(), store, putArtifact(t, store, titled(name, "a")), filepath.Join(t.TempDir(), "dir"), Config{Link: true})
	if err != nil { // most systems cannot link a path of more than 4096 bytes
		assert.ErrorIs(t, err, ErrNoLink)
		assert.Less(t, len(err.Error()), 1200)
	}
}

// Real programs write tars that end in one block of zeros, or in many, and gzip files with zeros
// after the last member.
func TestEndsOfRealTarsAreAccepted(t *testing.T) {
	whole := tarOf(t, file("a", "1"))
	half := len(whole) - blockSize
	for name, data := range map[string][]byte{
		"two blocks":             whole,
		"one block":              whole[:half],
		"a record of blocks":     append(slices.Clone(whole), make([]byte, 8<<10)...),
		"not a whole block":      append(slices.Clone(whole), 0, 0),
		"gzip":                   zip(whole),
		"gzip and zeros":         append(zip(whole), make([]byte, 700)...),
		"gzip of several pieces": append(zip(whole[:700]), zip(whole[700:])...),
		"pieces and zeros":       append(append(zip(whole[:700]), zip(whole[700:])...), 0),
	} {
		t.Run(name, func(t *testing.T) {
			store := new(pullertest.MemStore)
			dir := filepath.Join(t.TempDir(), "dir")
			_, err := Files(t.Context(), store, putArtifact(t, store, layer{modelGzip, data, nil}), dir, Config{})
			require.NoError(t, err)
			assert.Equal(t, map[string]string{"a": "1"}, readTree(t, dir))
		})
	}
}

// Windows removes dots and spaces from the end of a name.
func TestNamesThatEndInADotOrASpaceAreFound(t *testing.T) {
	for name, want := range map[string]bool{"a.": true, "a ": true, "a ./b": true, "...": true, " ": true, ".": false, ".a": false, "a.b/c d": false} {
		assert.Equal(t, want, endsInDotOrSpace(name), "%q", name)
	}
}

// A wrong size in the manifest is not reported only as damage of the store.
func TestAWrongSizeMayBeAFaultOfTheManifest(t *testing.T) {
	store := new(pullertest.MemStore)
	blob := put(t, store, modelRaw, []byte("abc"))
	for _, size := range []int64{2, 4} {
		blob.Size = size
		b := newBlob(blob, strings.NewReader("abc"), nil, must(verify.New(blob.Digest)))
		_, err := io.Copy(io.Discard, b)
		assert.Equal(t, content.ErrDigestMismatch, content.ReasonOf(err))
		assert.ErrorContains(t, err, fmt.Sprintf("the %d bytes that the manifest says", size))
	}
}

// All names of an artifact and the targets of its links together have a limit.
func TestAllNamesTogetherHaveALimit(t *testing.T) {
	tr := newTree(must(os.OpenRoot(t.TempDir())), "", nil)
	defer tr.root.Close()
	tr.maxFiles, tr.namesLeft = 100, 8
	require.NoError(t, tr.addDir("", "a/bc"))
	err := tr.addDir("", "four")
	assert.ErrorIs(t, err, ErrTooLarge)
	assert.ErrorContains(t, err, "bytes together")
	require.NoError(t, tr.addSymlink("", "l", "a"))
	assert.ErrorIs(t, tr.addSymlink("", "m", "a"), ErrTooLarge)
}

// A blob that is missing or damaged in the store is an error.
func TestMissingAndDamagedBlobsAreErrors(t *testing.T) {
	for _, l := range []layer{titled("a", "content"), plain(t, file("a", "content")), {modelGzip, zip(tarOf(t, file("a", "content"))), nil}} {
		for _, damage := range []string{"removed", "other bytes", "shorter", "longer"} {
			for _, link := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, link %v", l.mediaType, damage, link), func(t *testing.T) {
					store := openLayout(t)
					desc := putArtifact(t, store, l)
					damaged := damagingStore{store, digestOf(l.data), damage}
					parent := t.TempDir()
					_, err := Files(t.Context(), damaged, desc, filepath.Join(parent, "dir"), Config{Link: link})
					var e *Error
					require.ErrorAs(t, err, &e)
					assert.Equal(t, digestOf(l.data), e.Layer)
					want := content.ErrDigestMismatch
					if damage == "removed" {
						want = content.ErrNotFound
					}
					assert.Equal(t, want, content.ReasonOf(err), "%v", err)
					requireOnly(t, parent)
				})
			}
		}
	}
}
