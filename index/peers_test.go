package index_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/index"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPlatformsFromTestsOfOtherProjects: this package gives the answers that the tests of other projects expect.
func TestPlatformsFromTestsOfOtherProjects(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "vectors", "field", "peers.json"))
	require.NoError(t, err)
	var doc struct {
		Cases []struct {
			ID    string
			Input struct {
				Host     string
				Entries  []string
				Platform ocispec.Platform
			}
			Expected struct {
				Chosen, Formatted string
			}
		}
	}
	require.NoError(t, json.Unmarshal(data, &doc))
	require.Len(t, doc.Cases, 2)
	for _, c := range doc.Cases {
		if c.Expected.Formatted != "" {
			text := index.FormatPlatform(c.Input.Platform)
			assert.Equal(t, c.Expected.Formatted, text, c.ID)
			again, err := index.ParsePlatform(text)
			require.NoError(t, err, c.ID)
			assert.Equal(t, c.Input.Platform, again, c.ID)
			continue
		}
		var platforms []string
		for _, version := range c.Input.Entries {
			platforms = append(platforms, "windows("+version+")/amd64")
		}
		want, err := index.ParsePlatform(c.Input.Host)
		require.NoError(t, err, c.ID)
		choice, err := index.Selector{}.Select(entries(t, platforms...), want)
		require.NoError(t, err, c.ID)
		assert.Equal(t, c.Expected.Chosen, choice.Descriptor.Platform.OSVersion, c.ID)
	}
}

// TestArchitectureInPlaceOfTheOSIsRefused: a platform whose OS is the name of an architecture is refused, and
// the error has the right spelling.
func TestArchitectureInPlaceOfTheOSIsRefused(t *testing.T) {
	for in, spelled := range map[string]string{
		"arm/v7": "linux/arm/v7", "arm64/v8": "linux/arm64/v8", "amd64/linux": "linux/amd64", "AMD64/v2": "linux/amd64/v2",
		"x86_64/v3": "linux/amd64/v3", "x86_64/linux": "linux/amd64", "i386/linux": "linux/386", "aarch64/v8": "linux/arm64/v8", "armhf/v7": "linux/arm/v7", "arm/7": "linux/arm/v7", "386/sse2": "linux/386/sse2",
		"riscv64/rva20": "linux/riscv64/rva20", "amd64/windows": "windows/amd64", "arm/linux/v7": "linux/arm/v7", "wasm/wasip1": "wasip1/wasm",
		"arm(1)/v7": "linux/arm/v7", "amd64/amd64": "linux/amd64", "arm64/amd64": "linux/arm64",
		"wasm/wasi": "wasi/wasm", "arm32v7/linux": "linux/arm/v7", "arm64v8/linux": "linux/arm64", "ia64/linux": "linux/ia64", "m68k/linux": "linux/m68k",
		"arm/v7/linux": "linux/arm/v7", "armv7/v7": "linux/arm/v7", "armv7l/linux": "linux/arm/v7", "i686/linux": "linux/386", "x86/windows": "windows/386",
		"ppc64el/linux": "linux/ppc64le", "loongarch64/linux": "linux/loong64", "wasm32/wasip1": "wasip1/wasm",
	} {
		_, err := index.ParsePlatform(in)
		var bad *index.PlatformError
		if assert.ErrorAs(t, err, &bad, in) {
			assert.True(t, strings.HasSuffix(bad.Detail, "; write "+spelled), "%s: %s", in, bad.Detail)
		}
		_, err = index.CompletePlatform(in, ocispec.Platform{OS: "linux", Architecture: "amd64"})
		assert.ErrorIs(t, err, index.ErrPlatform, in)
	}
	_, err := index.ParsePlatform("aarch64")
	assert.ErrorContains(t, err, "write both, such as linux/arm64")
	for _, in := range []string{"linux/arm/v7", "wasip1/wasm", "js/wasm", "unheard-of/arm", "linux/arm", "windows(10.0.17763)/amd64"} {
		_, err := index.ParsePlatform(in)
		assert.NoError(t, err, in)
	}
}

// TestNoMatchSaysWhatWasLeftOut: the error for an index without an image says what its
// entries are, and how an artifact is pulled.
func TestNoMatchSaysWhatWasLeftOut(t *testing.T) {
	want := ocispec.Platform{OS: "linux", Architecture: "amd64"}
	linux := &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	d := digest.FromString("x")
	artifact := ocispec.Descriptor{MediaType: typeManifest, Digest: d, Size: 5, ArtifactType: "application/vnd.cncf.model.manifest.v1+json"}
	attested := ocispec.Descriptor{MediaType: typeManifest, Digest: d, Size: 5, Annotations: map[string]string{"vnd.docker.reference.type": "attestation-manifest"}}
	bad := artifact
	bad.Digest = "sha256:\x1b[2J"
	pull := "; pull an artifact by its digest, as NAME@" + d.String()
	for name, tt := range map[string]struct {
		entries []ocispec.Descriptor
		text    string
	}{
		"an artifact": {[]ocispec.Descriptor{artifact}, "no entry of the index is an image: artifact without platform (1)" + pull},
		"artifacts":   {[]ocispec.Descriptor{bad, artifact, attested}, "no entry of the index is an image: artifact without platform (2), attestation (1)" + pull},
		"unknown platform": {[]ocispec.Descriptor{{MediaType: typeManifest, Digest: d, Size: 5, ArtifactType: "x/y", Platform: &ocispec.Platform{OS: "unknown", Architecture: "unknown"}}},
			"no entry of the index is an image: artifact without platform (1)" + pull},
		"bad digest":    {[]ocispec.Descriptor{bad}, "no entry of the index is an image: artifact without platform (1)"},
		"no media type": {[]ocispec.Descriptor{{Digest: d, Size: 5, Platform: linux}}, "no entry of the index is an image: media type is missing (1)"},
		"other type":    {[]ocispec.Descriptor{{MediaType: "text/html", Digest: d, Size: 5, Platform: linux}}, "no entry of the index is an image: media type is not an image's (1)"},
		"artifact manifest": {[]ocispec.Descriptor{{MediaType: "application/vnd.oci.artifact.manifest.v1+json", Digest: d, Size: 5, Platform: linux}},
			"no entry of the index is an image: OCI artifact manifest, which is not an image (1)" +
				"; its format was withdrawn from the image specification: fetch it with a tool for artifacts such as oras, or publish it as an image manifest with an artifactType"},
		"half a platform": {[]ocispec.Descriptor{{MediaType: typeManifest, Digest: d, Size: 5, Platform: &ocispec.Platform{OS: "linux"}}}, "no entry of the index is an image: platform lacks OS or architecture (1)"},
		"one is an image": {[]ocispec.Descriptor{
			{MediaType: typeManifest, Digest: d, Size: 5, Platform: &ocispec.Platform{OS: "linux", Architecture: "arm64"}},
			{Digest: d, Size: 5, Platform: linux}, artifact,
		}, "available: linux/arm64; left out: 1 without a media type"},
	} {
		idx := ocispec.Index{Manifests: tt.entries}
		_, err := index.Selector{}.Select(idx, want)
		assert.EqualError(t, err, "no match for linux/amd64; "+tt.text, name)
		var none *index.NoMatchError
		require.ErrorAs(t, err, &none, name)
		_, err = index.Resolver{}.Resolve(t.Context(), ocispec.Descriptor{Digest: digest.FromString("root")}, &index.Document{Index: &idx}, want)
		assert.EqualError(t, err, "no match for linux/amd64; "+tt.text, name)
	}
	// The variant is named only where another one would help.
	for text, have := range map[string]ocispec.Platform{
		"no match for linux/amd64; available: linux/s390x":        {OS: "linux", Architecture: "s390x"},
		"no match for linux/amd64/v3; available: linux/amd64/v4":  {OS: "linux", Architecture: "amd64", Variant: "v4"},
		"no match for linux/amd64; available: freebsd/amd64/v2":   {OS: "freebsd", Architecture: "amd64", Variant: "v2"},
		"no match for linux/amd64/v3; available: linux/x86_64/v4": {OS: "linux", Architecture: "x86_64", Variant: "v4"},
	} {
		idx := ocispec.Index{Manifests: []ocispec.Descriptor{{MediaType: typeManifest, Digest: d, Size: 5, Platform: &have}}}
		_, err := index.Selector{}.Select(idx, ocispec.Platform{OS: "linux", Architecture: "amd64", Variant: "v3"})
		assert.EqualError(t, err, text)
	}
	verdicts := index.Selector{}.Explain(ocispec.Index{Manifests: []ocispec.Descriptor{{Digest: d, Size: 5, Platform: linux}}}, want)
	assert.Equal(t, index.ReasonUntyped, verdicts[0].Reason)
}
