package index

import (
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/mediatype"
)

// A Why says what became of an entry of an index, and why.
type Why string

// The verdicts. The first three are of candidates.
const (
	WhyExact      Why = "exact match"
	WhyFallback   Why = "fallback"                          // a lower variant than asked for, 386 for amd64, 32-bit ARM for arm64
	WhyNoPlatform Why = "no platform, the config must tell" // the last resort
	WhyMediaType  Why = "media type is no image's"          // unknown, a layer's, Docker's schema 1
	WhyUntyped    Why = "media type is missing"             // which OCI and Docker require of each entry
	WhyAttested   Why = "attestation"                       // by annotation, or because OS or architecture is unknown
	WhyArtifact   Why = "artifact without platform"         // its artifactType is no image config
	WhyIncomplete Why = "platform lacks OS or architecture" // and is not empty
	WhyOS         Why = "other OS"                          //
	WhyArch       Why = "other architecture"                //
	WhyVariant    Why = "other variant"                     // of an architecture that would do
	WhyOSVersion  Why = "OS version does not fit"           // Windows only
	WhyOSFeatures Why = "OS features missing"               // the entry wants features the platform does not have
	WhyInvalid    Why = "best match, bad digest or size"    // so Select fails
)

// whyArtifactManifest is of an entry in the format that the image specification took
// back before its version 1.1.
const whyArtifactManifest Why = "OCI artifact manifest, which is not an image"

// artifactAdvice says what to do about such a manifest.
const artifactAdvice = "its format was taken back from the image specification: fetch it with a tool for artifacts such as oras, or publish it as an image manifest with an artifactType"

const (
	annotationReferenceType = "vnd.docker.reference.type"
	attestationManifest     = "attestation-manifest"
)

// reject says why an entry is no image for any platform, "" if it may be one.
func reject(d *ocispec.Descriptor) Why {
	switch c := mediatype.ClassOf(d.MediaType); {
	case d.MediaType == "":
		return WhyUntyped
	case mediatype.IsArtifactManifest(d.MediaType):
		return whyArtifactManifest
	case c != mediatype.Index && c != mediatype.Manifest:
		return WhyMediaType
	case d.Annotations[annotationReferenceType] == attestationManifest:
		return WhyAttested
	case isArtifact(d) && (platformless(d) || isUnknown(d)):
		return WhyArtifact
	case platformless(d):
		return ""
	case d.Platform.OS == "" || d.Platform.Architecture == "":
		return WhyIncomplete
	case isUnknown(d):
		return WhyAttested
	}
	return ""
}

func isArtifact(d *ocispec.Descriptor) bool {
	return d.ArtifactType != "" && !mediatype.IsConfig(d.ArtifactType)
}

// isUnknown reports whether an entry has the platform that attestations have.
func isUnknown(d *ocispec.Descriptor) bool {
	return d.Platform != nil && (strings.EqualFold(d.Platform.OS, unknown) || strings.EqualFold(d.Platform.Architecture, unknown))
}

// platformless reports whether an entry has no platform, or an empty one.
func platformless(d *ocispec.Descriptor) bool {
	p := d.Platform
	return p == nil || p.OS == "" && p.Architecture == "" && p.Variant == "" && p.OSVersion == "" && len(p.OSFeatures) == 0
}
