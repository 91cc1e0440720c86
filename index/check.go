package index

import (
	"errors"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/mediatype"
	"github.com/pullkit/pullkit/internal/verify"
)

// class decides what a document is, from what the server told, its mediaType
// and its keys, and refuses it where they do not agree.
func (d *raw) class(told mediatype.Class) (mediatype.Class, error) {
	named := mediatype.ClassOf(d.mediaType)
	switch {
	case named == mediatype.Schema1 || d.versioned && d.schemaVersion == 1:
		return 0, invalid(RuleMediaType, "Docker's schema 1 is not supported")
	case mediatype.IsArtifactManifest(d.mediaType):
		return 0, invalid(RuleMediaType, "%s; %s", whyArtifactManifest, artifactAdvice)
	case d.mediaType != "" && named == mediatype.Unknown:
		return 0, invalid(RuleMediaType, "unknown mediaType %.80q", d.mediaType)
	case told != mediatype.Unknown && named != mediatype.Unknown && told != named:
		return 0, invalid(RuleManifest, "the content type says %v, the mediaType in the document says %v", told, named)
	}
	c := max(told, named)
	if c == mediatype.Unknown {
		c = d.shape()
	}
	return c, d.checkKeys(c)
}

// shape decides by the keys alone.
func (d *raw) shape() mediatype.Class {
	switch {
	case d.hasManifests:
		return mediatype.Index
	case d.hasConfig || d.hasLayers:
		return mediatype.Manifest
	}
	return mediatype.Unknown
}

// checkKeys refuses a document that is not, by its keys, just what its class says.
func (d *raw) checkKeys(c mediatype.Class) error {
	switch {
	case c == mediatype.Unknown && d.hasSchema1:
		return invalid(RuleMediaType, "Docker's schema 1 is not supported")
	case c == mediatype.Unknown:
		return invalid(RuleMediaType, "neither an index nor a manifest")
	case d.hasManifests && (d.hasConfig || d.hasLayers):
		return invalid(ruleOf(c), "ambiguous: it has the keys of an index and of a manifest")
	case d.hasSchema1:
		return invalid(ruleOf(c), "ambiguous: it has keys of Docker's schema 1")
	case d.versioned && d.schemaVersion != 2:
		return invalid(ruleOf(c), "schemaVersion %d, want 2", d.schemaVersion)
	case c == mediatype.Index && (d.hasConfig || d.hasLayers):
		return invalid(RuleIndex, "an index was promised, this is a manifest")
	case c == mediatype.Manifest && d.hasManifests:
		return invalid(RuleManifest, "a manifest was promised, this is an index")
	}
	return nil
}

// canonicalType is the media type a document goes by: its own, else what the
// server told, else OCI's for its class.
func (d *raw) canonicalType(contentType string, c mediatype.Class) string {
	for _, t := range [...]string{d.mediaType, contentType} {
		if mediatype.ClassOf(t) == c {
			return mediatype.Bare(t)
		}
	}
	if c == mediatype.Index {
		return ocispec.MediaTypeImageIndex
	}
	return ocispec.MediaTypeImageManifest
}

// checkManifest holds what a puller must rely on in a manifest.
func (d *raw) checkManifest() error {
	if !d.hasLayers || d.config == nil {
		return invalid(RuleManifest, "no config or no layers")
	}
	if len(d.layers) > MaxLayers {
		return invalid(RuleManifest, "%d layers, at most %d are taken", len(d.layers), MaxLayers)
	}
	if err := checkDescriptor(d.config, RuleManifest); err != nil {
		err.Reason = "config: " + err.Reason
		return err
	}
	for i := range d.layers {
		if err := checkDescriptor(&d.layers[i], RuleManifest); err != nil {
			err.Reason = fmt.Sprintf("layers[%d]: %s", i, err.Reason)
			return err
		}
	}
	return nil
}

// checkDescriptor refuses a digest nobody can verify and a negative size; rule
// is what a bad size breaks. It returns nil for a good one.
func checkDescriptor(d *ocispec.Descriptor, rule Rule) *InvalidError {
	if err := verify.Digest(d.Digest); err != nil {
		if errors.Is(err, verify.ErrAlgorithm) {
			return invalid(RuleDigest, "%v (sha256, sha384 and sha512 can be verified)", err)
		}
		return invalid(RuleDigest, "%v", err)
	}
	if d.Size < 0 {
		return invalid(rule, "size %d is negative", d.Size)
	}
	return nil
}
