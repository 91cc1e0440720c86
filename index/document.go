package index

import (
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Document is a parsed index or manifest: exactly one of Index and Manifest is set.
type Document struct {
	MediaType string
	Index     *ocispec.Index
	Manifest  *ocispec.Manifest
}

// A Choice is one entry of an index that can serve a platform.
type Choice struct {
	Descriptor ocispec.Descriptor
	// Exact is false if a fallback was taken: another variant than the one asked for, or 386 for amd64.
	Exact bool
	// CheckConfig says that no platform entry vouches for the choice: compare
	// the image's config before trusting it.
	CheckConfig bool
}

// A Verdict says of one entry of an index whether it was chosen, or why not.
type Verdict struct {
	Descriptor ocispec.Descriptor
	Chosen     bool
	Why        string // "exact", "fallback to linux/arm/v7", "architecture", "attestation", ...
}
