package mediatype

import (
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
)

func TestImageConfig(t *testing.T) {
	for mediaType, want := range map[string]bool{
		ocispec.MediaTypeImageConfig:                                true,
		" Application/vnd.OCI.image.config.v1+json ; charset=utf-8": true,
		DockerConfig:                   true,
		"":                             false,
		"application/json":             false,
		ocispec.MediaTypeEmptyJSON:     false,
		ocispec.MediaTypeImageManifest: false,
		DockerConfig + "x":             false,
	} {
		assert.Equal(t, want, ImageConfig(mediaType), mediaType)
	}
}
