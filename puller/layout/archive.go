package layout

import (
	"context"
	"io"

	"github.com/pullkit/pullkit/puller/internal/archive"
	"github.com/pullkit/pullkit/reference"
)

// An ImportConfig says what images of an archive are called that do not say it
// themselves.
type ImportConfig struct {
	// Repository, such as registry.example/team/app, is put before a bare tag
	// and before the digest of an image without a name. Zero refuses these.
	Repository string
}

// Import stores the images of an archive, tags them, and returns them in the archive's
// order. The archive is plain or packed with gzip or bzip2. It is an OCI archive, which
// is a tar of an OCI image layout, or what docker save of any age writes.
//
// All content is hashed on its way in. Content with another digest than its name says is
// refused with an error of kind content.ErrDigestMismatch. Bytes that are not such an
// archive are of kind content.ErrBadIndex, and the error says what they seem to be and
// what to do. A name that is not a valid image name is of kind content.ErrBadReference.
// An archive with more or longer names than any program writes, or with more than 1 GiB
// of holes in its files, is of kind content.ErrTooLarge. The error wraps fs.ErrNotExist
// if another process removed what the archive brought: Import it again.
//
// An image is called what its entry's ref.name annotation says; Lookup says when
// io.containerd.image.name counts, which here is also taken where there is no
// ref.name. A name without a registry is one of Docker Hub's, unless it is a bare tag.
//
// Nothing is tagged before the whole archive was read. After an error, blobs of the
// archive may be stored without a name, which Prune finds. Links in the archive are
// followed within the archive and never made on disk.
func (l *Layout) Import(ctx context.Context, r io.Reader, cfg ImportConfig) ([]Image, error) {
	entries, err := archive.Import(ctx, l, r, archive.Config(cfg))
	if err != nil {
		return nil, err
	}
	images := make([]Image, len(entries))
	for i, e := range entries {
		images[i] = Image(e)
	}
	return images, nil
}

// Export writes an OCI archive, which is a tar of a layout, with the named
// images, or with all of index.json if none is named. The same images give the
// same bytes on machines of the same architecture.
//
// Beside index.json there is the manifest.json of docker save, with an entry for
// each container image, so that docker load, podman load and skopeo's
// docker-archive read the archive too. It has paths to the same blobs. An index of
// which several images are stored is there as the one for this machine's
// architecture, or else as the first. A name with a digest gives no tag there:
// that format has tags only.
//
// Every blob is hashed as it is written: content that is not right
// ends the export with an error of kind content.ErrDigestMismatch, and so do, with
// fs.ErrNotExist, a name that Lookup does not find and an image that is not whole. More
// images than Import reads, some 10,000, are of kind content.ErrTooLarge.
func (l *Layout) Export(ctx context.Context, w io.Writer, refs ...reference.Reference) error {
	return archive.Export(ctx, entryLister{l}, w, refs...)
}

// An entryLister is a layout as package archive lists its images.
type entryLister struct{ *Layout }

func (l entryLister) List(ctx context.Context) ([]archive.Entry, error) {
	images, err := l.Layout.List(ctx)
	if err != nil {
		return nil, err
	}
	entries := make([]archive.Entry, len(images))
	for i, img := range images {
		entries[i] = archive.Entry(img)
	}
	return entries, nil
}
