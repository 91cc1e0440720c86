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

func TestClassOf(t *testing.T) {
	for mediaType, want := range map[string]Class{
		ocispec.MediaTypeImageIndex: Index,
		DockerList:                  Index,
		" Application/vnd.OCI.image.INDEX.v1+json ; a=b": Index,
		ocispec.MediaTypeImageManifest:                   Manifest,
		DockerManifest + ";charset=utf-8":                Manifest,
		dockerSchema1 + "prettyjws":                      Schema1,
		"":                                               Unknown,
		"application/json":                               Unknown,
		ocispec.MediaTypeImageConfig:                     Unknown,
		ocispec.MediaTypeImageManifest + "x":             Unknown,
	} {
		assert.Equal(t, want, ClassOf(mediaType), mediaType)
	}
}
