package layout

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/internal/verify"
)

// A blobFS is the stored blobs as an fs.FS; see Layout.FS.
type blobFS struct{ b *blobs }

// algorithms are the algorithms of digests that a blob may have.
var algorithms = [...]string{"sha256", "sha384", "sha512"}

// Open opens a blob or a directory of blobs.
func (f blobFS) Open(name string) (fs.File, error) {
	fail := func(err error) (fs.File, error) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	if !fs.ValidPath(name) {
		return fail(fs.ErrInvalid)
	}
	d := digest.Digest(strings.Replace(name, "/", ":", 1))
	if verify.Digest(d) != nil {
		entries, err := f.list(name)
		if err != nil {
			return fail(err)
		}
		return &blobDir{name: path.Base(name), entries: entries}, nil
	}
	fi, err := f.b.fs.Lstat(ocilayout.BlobName(d))
	if err != nil {
		return fail(bare(err))
	}
	ok, err := f.b.has(context.Background(), ocispec.Descriptor{Digest: d, Size: fi.Size()})
	if err != nil {
		return fail(err)
	}
	if !ok {
		return fail(fs.ErrNotExist)
	}
	h, err := f.b.fs.OpenFile(ocilayout.BlobName(d), os.O_RDONLY)
	if err != nil {
		return fail(bare(err))
	}
	return &blobFile{h, io.NewSectionReader(h, 0, fi.Size())}, nil
}

// bare returns err, or fs.ErrNotExist in place of an error that wraps it. The latter
// names a path, and the caller adds its own.
func bare(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fs.ErrNotExist
	}
	return err
}

// list returns the entries of a directory, sorted by name.
func (f blobFS) list(name string) ([]fs.DirEntry, error) {
	var entries []fs.DirEntry
	if name == "." {
		for _, a := range algorithms {
			if fi, err := f.b.fs.Lstat(blobsDir + "/" + a); err == nil && fi.IsDir() {
				entries = append(entries, fs.FileInfoToDirEntry(dirInfo(a)))
			}
		}
		return entries, nil
	}
	if !slices.Contains(algorithms[:], name) {
		return nil, fs.ErrNotExist
	}
	all, err := f.b.fs.ReadDir(blobsDir + "/" + name)
	if err != nil {
		return nil, bare(err)
	}
	for _, e := range all {
		if e.Type().IsRegular() && verify.Digest(digest.Digest(name+":"+e.Name())) == nil {
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// A blobFile is an open blob.
type blobFile struct {
	f disk.File
	*io.SectionReader
}

func (b *blobFile) Stat() (fs.FileInfo, error) { return b.f.Stat() }
func (b *blobFile) Close() error               { return b.f.Close() }

// A blobDir is an open directory of blobs.
type blobDir struct {
	name    string
	entries []fs.DirEntry
}

func (d *blobDir) Stat() (fs.FileInfo, error) { return dirInfo(d.name), nil }
func (d *blobDir) Close() error               { return nil }
func (d *blobDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.name, Err: errors.New("is a directory")}
}

// ReadDir implements fs.ReadDirFile.
func (d *blobDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 || n > len(d.entries) {
		if n > 0 && len(d.entries) == 0 {
			return nil, io.EOF
		}
		n = len(d.entries)
	}
	some := d.entries[:n:n]
	d.entries = d.entries[n:]
	return some, nil
}

// A dirInfo is the fs.FileInfo of a directory with that name.
type dirInfo string

func (d dirInfo) Name() string       { return string(d) }
func (d dirInfo) Size() int64        { return 0 }
func (d dirInfo) Mode() fs.FileMode  { return fs.ModeDir | 0o555 }
func (d dirInfo) ModTime() time.Time { return time.Time{} }
func (d dirInfo) IsDir() bool        { return true }
func (d dirInfo) Sys() any           { return nil }
