// Package mediatype knows the media types of the parts of images: those of OCI, and the
// older ones of Docker. It ignores the parameters and the case of a media type.
package mediatype

import (
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Docker's media types.
const (
	DockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	DockerConfig   = "application/vnd.docker.container.image.v1+json"

	dockerSchema1 = "application/vnd.docker.distribution.manifest.v1+" // a prefix
	dockerLayer   = "application/vnd.docker.image.rootfs."             // a prefix
	ociLayer      = "application/vnd.oci.image.layer."                 // a prefix
)

// artifactManifest is the type of an artifact's manifest. The image specification withdrew
// it before its version 1.1.
const artifactManifest = "application/vnd.oci.artifact.manifest.v1+json"

// Accept is the value of an Accept header that lists the documents that pullkit reads.
const Accept = ocispec.MediaTypeImageIndex + ", " + ocispec.MediaTypeImageManifest + ", " + DockerIndex + ", " + DockerManifest

// A Class is a kind of document.
type Class int

// The classes.
const (
	Unknown Class = iota
	Index
	Manifest
	Schema1 // Docker's first format of manifests
)

// String returns the class in the words that errors use.
func (c Class) String() string {
	switch c {
	case Index:
		return "an index"
	case Manifest:
		return "a manifest"
	}
	return "neither an index nor a manifest"
}

// ClassOf returns the class of a media type. Docker's type and OCI's type for the same kind
// of document have the same class.
func ClassOf(mediaType string) Class {
	switch mediaType { // nearly all media types
	case ocispec.MediaTypeImageIndex, DockerIndex:
		return Index
	case ocispec.MediaTypeImageManifest, DockerManifest:
		return Manifest
	case "":
		return Unknown
	}
	switch bare := Bare(mediaType); {
	case bare != mediaType:
		return ClassOf(bare)
	case strings.HasPrefix(bare, dockerSchema1):
		return Schema1
	}
	return Unknown
}

// IsIndex reports whether a media type is that of an index.
func IsIndex(mediaType string) bool { return ClassOf(mediaType) == Index }

// IsManifest reports whether a media type is that of a manifest. Docker's schema 1 does not
// count.
func IsManifest(mediaType string) bool { return ClassOf(mediaType) == Manifest }

// IsConfig reports whether a media type is that of an image's config, which names a
// platform.
func IsConfig(mediaType string) bool {
	switch Bare(mediaType) {
	case ocispec.MediaTypeImageConfig, DockerConfig:
		return true
	}
	return false
}

// IsLayer reports whether a media type is that of a layer of files, compressed or
// not. An encrypted layer is not one.
func IsLayer(mediaType string) bool {
	mediaType = Bare(mediaType)
	return !strings.Contains(mediaType, "encrypted") &&
		(strings.HasPrefix(mediaType, ociLayer) || strings.HasPrefix(mediaType, dockerLayer))
}

// IsArtifactManifest reports whether a media type is that of OCI's manifest of an
// artifact, which is not an image.
func IsArtifactManifest(mediaType string) bool { return Bare(mediaType) == artifactManifest }

// Bare returns a media type without parameters, in lower case.
func Bare(mediaType string) string {
	bare, _, _ := strings.Cut(mediaType, ";")
	return strings.ToLower(strings.TrimSpace(bare))
}
