package content

import (
	"context"

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
