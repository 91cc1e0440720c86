package archive

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/content"
)

// Advice for a file that Import does not read.
const (
	makeArchive   = `make an archive of images with "docker save" or "skopeo copy SOURCE oci-archive:FILE"`
	downloadAgain = "download it again"
	packWhole     = `pack the whole layout with "tar -C DIR -cf FILE ."`
)

// A format is a kind of file, which a few bytes at or near its start show.
type format struct {
	at     int // offset of the magic bytes
	magic  string
	name   string                                 // fits behind "packed with" if unpack is set; otherwise it has an article
	do     string                                 // advice, if unpack is not set
	unpack string                                 // the quoted commands that unpack the file, for a compressed file or an archive
	reader func(*bufio.Reader) (io.Reader, error) // unpacks the file; nil if Import does not read the format
}

const (
	gzipMagic = "\x1f\x8b"
	zstdMagic = "\x28\xb5\x2f\xfd" // a zstd file may also start with a skippable frame
)

// formats lists the known formats. If several fit a file, the first counts.
var formats = []format{
	{at: 257, magic: "ustar", name: "a tar archive", do: "make it again, because it is damaged"},
	{magic: gzipMagic, name: "gzip", unpack: `"gzip -d"`, reader: newGzipReader},
	{magic: "BZh", name: "bzip2", unpack: `"bzip2 -d"`, reader: func(r *bufio.Reader) (io.Reader, error) { return bzip2.NewReader(r), nil }},
	{magic: zstdMagic, name: "zstd", unpack: `"zstd -d"`},
	{magic: "\xfd7zXZ\x00", name: "xz", unpack: `"xz -d"`},
	{magic: "\x04\x22\x4d\x18", name: "lz4", unpack: `"lz4 -d"`},
	{magic: "\x02\x21\x4c\x18", name: "lz4", unpack: `"lz4 -d"`},                         // its legacy frames
	{at: 1, magic: "\x2a\x4d\x18", name: "zstd or lz4", unpack: `"zstd -d" or "lz4 -d"`}, // a skippable frame, which both have
	{at: 1, magic: "\xb5\x2f\xfd", name: "old zstd", unpack: `"zstd -d"`},                // versions before 0.8
	{magic: "LZIP", name: "lzip", unpack: `"lzip -d"`},
	{magic: "\x89LZO\x00\r\n\x1a\n", name: "lzop", unpack: `"lzop -d"`},
	{magic: "\x5d\x00\x00", name: "lzma", unpack: `"xz -d"`},
	{magic: "\x6d\x00\x00", name: "lzma", unpack: `"xz -d"`}, // with other parameters
	{magic: "\xff\x06\x00\x00sNaPpY", name: "snappy", unpack: `"snzip -d"`},
	{magic: "\x1f\x9d", name: "compress", unpack: `"uncompress"`},
	{magic: "\x1f\x1e", name: "pack", unpack: `"gzip -d"`},
	{magic: "PK\x05\x06", name: "an empty zip file", do: makeArchive},
	{magic: "PK\x03\x04", name: "zip", unpack: `"unzip"`},
	{magic: "7z\xbc\xaf\x27\x1c", name: "7z", unpack: `"7z x"`},
	{magic: "Rar!\x1a\x07", name: "rar", unpack: `"unrar x"`},
	{magic: "MSCF\x00", name: "cab", unpack: `"cabextract"`},
	{magic: "07070", name: "cpio", unpack: `"cpio -i"`},
	{magic: "\xc7\x71", name: "cpio", unpack: `"cpio -i"`},
	{magic: "!<arch>\ndebian", name: "the Unix archive of a Debian package (.deb)", do: makeArchive},
	{magic: "!<arch>\n", name: "a Unix archive, as ar writes it", do: makeArchive},
	{magic: "\xed\xab\xee\xdb", name: "an RPM package", do: makeArchive},
	{at: 32, magic: "SIF_MAGIC", name: "an image of Apptainer or Singularity (SIF)", do: `write an archive of it with "skopeo copy sif:FILE oci-archive:FILE"`},
	{magic: "hsqs", name: "a file system of squashfs", do: makeArchive},
	{magic: "QFI\xfb", name: "the disk of a virtual machine (qcow2)", do: makeArchive},
	{magic: "\x7fELF", name: "a program (ELF)", do: makeArchive},
	{magic: "\x00asm", name: "a WebAssembly module", do: makeArchive},
	{magic: "%PDF-", name: "a PDF document", do: downloadAgain},
	{magic: "version https://git-lfs", name: "a pointer of Git LFS to a file", do: `get the file with "git lfs pull"`},
	{magic: "HTTP/1.", name: "the answer of an HTTP server with its header", do: downloadAgain + " without the header"},
	{magic: "<!DOCTYPE", name: "a web page", do: downloadAgain},
	{magic: "<!doctype", name: "a web page", do: downloadAgain},
	{magic: "<html", name: "a web page", do: downloadAgain},
	{magic: "<?xml", name: "an XML document", do: downloadAgain},
	{magic: "-----BEGIN ", name: "a key or a certificate (PEM)", do: makeArchive},
	{magic: "#!", name: "a script", do: makeArchive},
	{magic: "\xff\xfe", name: "text in UTF-16", do: makeArchive},
	{magic: "\xfe\xff", name: "text in UTF-16", do: makeArchive},
}

// formatOf returns the format that the first bytes of a file show, or nil if none fits.
func formatOf(begin []byte) *format {
	for i, f := range formats {
		if len(begin) >= f.at && bytes.HasPrefix(begin[f.at:], []byte(f.magic)) {
			return &formats[i]
		}
	}
	return nil
}

// isTar reports whether f is the format of a tar.
func (f *format) isTar() bool { return f == &formats[0] }

// isArchive reports whether a file with these first bytes is an archive, or a compressed
// file.
func isArchive(begin []byte) bool {
	f := formatOf(begin)
	return f != nil && (f.isTar() || f.unpack != "")
}

// fail returns the error for an archive that cannot be unpacked. It returns an error of the
// caller's reader unchanged.
func (f *format) fail(err error) error {
	if content.ReasonOf(err) != "" {
		return err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return bad(content.ErrBadIndex, "%s: %w", f.name, cutOff(err))
	}
	return bad(content.ErrBadIndex, "%s: %w: make or download it again", f.name, err)
}

// describe says what kind of file has these first bytes, and what to do with it. It never
// quotes printable bytes, because the caller may have passed a file with a password by
// mistake.
func describe(begin []byte) (what, do string) {
	if f := formatOf(begin); f != nil && f.unpack != "" {
		return "a file packed with " + f.name, "unpack it first, for instance with " + f.unpack
	} else if f != nil {
		return f.name, f.do
	}
	data := bytes.TrimRight(begin, "\x00")
	printable := 0
	for _, c := range data {
		if isPrintable(c) {
			printable++
		}
	}
	binary := 0 // number of bytes at the start that cannot be printed
	for binary < min(len(data), 4) && !isPrintable(data[binary]) {
		binary++
	}
	switch {
	case len(data) == 0:
		return "zeros", "make or download it again, because it is not complete"
	case isText(data) && isJSON(data):
		return "a JSON document", makeArchive
	case isText(data) && 2*printable >= len(data):
		return "text", makeArchive
	case binary > 0:
		return fmt.Sprintf("data of an unknown kind that begins with the bytes % x", data[:binary]), makeArchive
	}
	return "data of an unknown kind", makeArchive
}

func isPrintable(c byte) bool { return c >= ' ' && c < 0x7f || c == '\t' || c == '\n' || c == '\r' }

// isText reports whether data has no control characters, in any encoding.
func isText(data []byte) bool {
	return !bytes.ContainsFunc(data, func(r rune) bool { return r < 0x80 && !isPrintable(byte(r)) })
}

// isJSON reports whether text starts like a JSON object or array.
func isJSON(text []byte) bool {
	const space = " \t\r\n"
	text = bytes.TrimLeft(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), space)
	if len(text) == 0 || text[0] != '{' && text[0] != '[' {
		return false
	}
	text = bytes.TrimLeft(text[1:], space)
	return len(text) == 0 || strings.IndexByte(`"{}[]-0123456789`, text[0]) >= 0
}

// kindsOfTar lists files that show the kind of a tar without a list of images. A pattern
// is a pattern of path.Match, or a directory with a slash at its end. If several patterns
// fit, the first counts.
var kindsOfTar = []struct{ pattern, what, do string }{
	{".dockerenv", "the file system of a container, as docker export writes it", "use docker save"},
	{"Chart.yaml", "a Helm chart, not an image", `use it with "helm", for instance "helm push FILE oci://REGISTRY/REPOSITORY"`},
	{"*/Chart.yaml", "a Helm chart, not an image", `use it with "helm", for instance "helm push FILE oci://REGISTRY/REPOSITORY"`},
	{"repositories", "an archive of a Docker before 1.10, without manifest.json", "save the image again with a newer Docker"},
	{".PKGINFO", "a package of Alpine Linux or Arch Linux", makeArchive},
	{"metadata.yaml", "an image of Incus or LXD", makeArchive},
	{"rootfs/", "the file system of a container, in the directory rootfs", makeArchive},
	{"etc/", "a file system", `make an image of it with "docker import", and an archive of that with "docker save"`},
	{"usr/", "a file system", `make an image of it with "docker import", and an archive of that with "docker save"`},
	{"bin/", "a file system", `make an image of it with "docker import", and an archive of that with "docker save"`},
	{"Dockerfile", "the source of an image", `build it with "docker build", and make an archive with "docker save"`},
	{"*/Dockerfile", "the source of an image", `build it with "docker build", and make an archive with "docker save"`},
}

// matches reports whether a path fits a pattern of kindsOfTar.
func matches(pattern, name string) bool {
	if strings.HasSuffix(pattern, "/") {
		return strings.HasPrefix(name, pattern)
	}
	ok, _ := path.Match(pattern, name)
	return ok
}

// notAnArchive returns the error for a tar without a list of images. It names the
// probable kind of the tar and says what to do.
func (im *importer) notAnArchive() error {
	has := func(name string) bool {
		_, ok := im.others[name]
		return ok
	}
	for _, name := range []string{ocilayout.IndexFile, dockerList} {
		if err := im.linked(name); err != nil {
			return err
		}
	}
	names := slices.Sorted(maps.Keys(im.others))
	for _, name := range names {
		dir, base := path.Split(name)
		if dir = path.Clean(dir); dir != "." && (base == ocilayout.IndexFile && has(dir+"/"+ocilayout.LayoutFile) || base == dockerList) {
			return bad(content.ErrBadIndex, `it has %s: pack what is in the directory %s, not the directory, as "tar -C DIR -cf FILE ." does`, quote(name), quote(dir))
		}
	}
	switch {
	case im.docs[ocilayout.LayoutFile] != nil:
		return bad(content.ErrBadIndex, "it has %s but not %s: %s", ocilayout.LayoutFile, ocilayout.IndexFile, packWhole)
	case len(im.blobSizes) > 0:
		return bad(content.ErrBadIndex, "it has blobs but not %s: %s", ocilayout.IndexFile, packWhole)
	}
	for _, kind := range kindsOfTar {
		if slices.ContainsFunc(names, func(name string) bool { return matches(kind.pattern, name) }) {
			return bad(content.ErrBadIndex, "it is %s: %s", kind.what, kind.do)
		}
	}
	var archives []string
	for _, name := range names {
		if im.others[name].archive {
			archives = append(archives, name)
		}
	}
	switch {
	case len(names) == 1 && len(archives) == 1:
		return bad(content.ErrBadIndex, "it holds the one file %s: unpack it, and import that", quote(names[0]))
	case len(archives) == 1:
		return bad(content.ErrBadIndex, "it holds the archive %s and other files: unpack it, and import that archive", quote(archives[0]))
	case len(archives) > 1:
		return bad(content.ErrBadIndex, "it holds %d archives, for instance %s and %s: unpack it, and import each archive by itself",
			len(archives), quote(archives[0]), quote(archives[1]))
	}
	return bad(content.ErrBadIndex, "it has neither %s nor %s: it is not an OCI archive, and not one of docker save: %s", ocilayout.IndexFile, dockerList, makeArchive)
}

// linked returns an error if a document of the archive is a link, which Import does not
// follow.
func (im *importer) linked(name string) error {
	to, ok := im.links[name]
	if !ok {
		return nil
	}
	return bad(content.ErrBadIndex, `%s is a link to %s, which is not followed: pack it as a file, with "tar --dereference --hard-dereference"`, name, quote(to))
}
