package content

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/reference"
)

// An Entry is one image of a Store: its names, and the descriptors that they point to.
type Entry struct {
	// Ref is the name for which Lookup returns this entry. It is zero if the entry has no
	// name, if its name has no registry, such as the bare tags that other tools write, or
	// if another entry with the same name comes first.
	Ref reference.Reference
	// Name is the name by which other tools find the entry. In an OCI image layout it is
	// the annotation org.opencontainers.image.ref.name. It is "" if the entry has no name.
	Name string
	// Descriptor is what Lookup returns for the name: often an index.
	Descriptor ocispec.Descriptor
	// Manifest is the descriptor that other tools see for the entry: the stored manifest of
	// an index, or else the same as Descriptor.
	Manifest ocispec.Descriptor
}

// A Lister is a Store that can list its images, as layout.Layout can. It is optional. If a
// Store is not a Lister, the caller must give names to archive.Export.
type Lister interface {
	Store
	// List returns all entries in the Store's order.
	List(ctx context.Context) ([]Entry, error)
}

// A Remover is a Lister from which images can be removed, as from a layout.Layout. It is
// optional. Package gc collects the images of a Remover.
type Remover interface {
	Lister
	// RemoveImage removes all names of one image, durably, and then the content that no
	// other entry and none of keep uses. entries are all entries of List that have the
	// image's Manifest. keep are digests of manifests and indexes that are in use, also
	// those without a name and those that are not stored. A store in which content cannot
	// stay without a name returns an error, and removes nothing, if the image leads to one
	// of keep. If the content that one of keep uses is not known, nothing is removed either.
	//
	// If one of the entries has changed or is gone, or if another entry has the Manifest
	// now, the error wraps ErrChanged, and nothing is removed. After any other error the image
	// may have lost its names and still have its content. The Removal counts what was removed,
	// also if there is an error.
	RemoveImage(ctx context.Context, entries []Entry, keep []digest.Digest) (Removal, error)
}

// A Removal counts what a Store removed.
type Removal struct {
	Blobs int // number of removed blobs
	// Bytes is how much room the removed blobs took. A blob whose file has another name (a
	// hard link) counts as 0, because the room is free only when the other name is gone too.
	Bytes int64
}

// ErrChanged says that the names of an image have changed after the image was listed.
var ErrChanged = errors.New("the image has changed since it was listed")
