package content

import (
	"context"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/reference"
)

// An Entry is one image of a Store: what it is called, and what the name stands for.
type Entry struct {
	// Ref is the name under which Lookup answers with this entry. It is zero if
	// there is none: the entry has no name, or one without a registry, such as
	// the bare tags that other tools write, or another entry comes first.
	Ref reference.Reference
	// Name is what other tools find the entry by: in an OCI image layout the
	// org.opencontainers.image.ref.name annotation. It is "" if there is none.
	Name string
	// Descriptor is what Lookup returns: what the name resolved to, often an index.
	Descriptor ocispec.Descriptor
	// Manifest is what the entry shows to other tools: the stored manifest of
	// an index, or the same as Descriptor.
	Manifest ocispec.Descriptor
}

// A Lister is a Store that can list its images, as layout.Layout can. Optional: without
// it, archive.Export must be given names.
type Lister interface {
	Store
	// List returns all entries in the Store's order.
	List(ctx context.Context) ([]Entry, error)
}
