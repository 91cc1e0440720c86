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
