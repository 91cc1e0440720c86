package mediatype

import (
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
)

func TestIsConfigIgnoresParametersAndCase(t *testing.T) {
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
		assert.Equal(t, want, IsConfig(mediaType), mediaType)
	}
}

func TestClassOfIgnoresParametersAndCase(t *testing.T) {
	for mediaType, want := range map[string]Class{
		ocispec.MediaTypeImageIndex: Index,
		DockerIndex:                 Index,
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
		assert.Equal(t, want == Index, IsIndex(mediaType), mediaType)
		assert.Equal(t, want == Manifest, IsManifest(mediaType), mediaType)
	}
}

func TestIsLayerRefusesEncryptedLayers(t *testing.T) {
	for mediaType, want := range map[string]bool{
		ocispec.MediaTypeImageLayer:                                 true,
		ocispec.MediaTypeImageLayerGzip + "; a=b":                   true,
		"Application/vnd.OCI.image.layer.v1.tar+zstd":               true,
		"application/vnd.docker.image.rootfs.diff.tar.gzip":         true,
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": true,
		"application/vnd.oci.image.layer.v1.tar+gzip+encrypted":     false,
		ocispec.MediaTypeImageConfig:                                false,
		"application/octet-stream":                                  false,
		"":                                                          false,
	} {
		assert.Equal(t, want, IsLayer(mediaType), mediaType)
	}
}

// TestAcceptListsWhatIsRead: each type in Accept is that of an index or a manifest.
func TestAcceptListsWhatIsRead(t *testing.T) {
	for mediaType := range strings.SplitSeq(Accept, ", ") {
		assert.True(t, IsIndex(mediaType) || IsManifest(mediaType), mediaType)
	}
}
