// Package mediatype compares the media types of images' parts.
package mediatype

import (
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// DockerConfig is Docker's type of an image's config.
const DockerConfig = "application/vnd.docker.container.image.v1+json"

// Bare is a media type without parameters, in lower case.
func Bare(mediaType string) string {
	bare, _, _ := strings.Cut(mediaType, ";")
	return strings.ToLower(strings.TrimSpace(bare))
}

// ImageConfig reports whether a media type is that of an image's config, which
// names a platform.
func ImageConfig(mediaType string) bool {
	switch Bare(mediaType) {
	case ocispec.MediaTypeImageConfig, DockerConfig:
		return true
	}
	return false
}

// A Class is what kind of document a media type names.
type Class int

// The classes.
const (
	Unknown Class = iota
	Index
	Manifest
	Schema1 // Docker's first format of manifests
)

// Docker's media types of the documents that OCI's came from.
const (
	DockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerSchema1  = "application/vnd.docker.distribution.manifest.v1+"
)

// ClassOf reads a media type; parameters and case play no part. Docker's and OCI's
// type of one class name the same kind of document.
func ClassOf(mediaType string) Class {
	switch mediaType { // nearly all there are
	case ocispec.MediaTypeImageIndex, DockerList:
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
