package index

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestHostVectors(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "vectors", "host.json"))
	require.NoError(t, err)
	var doc struct {
		Cases []struct{ Name, Goarch, Machine, Cpuinfo, Want string }
	}
	require.NoError(t, json.Unmarshal(data, &doc))
	require.NotEmpty(t, doc.Cases)
	for _, c := range doc.Cases {
		got := platformOf("linux", c.Goarch, machine{cpuinfo: c.Cpuinfo, uname: c.Machine})
		assert.Equal(t, c.Want, FormatPlatform(got), c.Name)
	}
}

func TestVariantOfAnARMMachine(t *testing.T) {
	assert.Equal(t, ocispec.Platform{OS: "windows", Architecture: "amd64", OSVersion: "10.0.20348"},
		platformOf("windows", "amd64", machine{osVersion: "10.0.20348"}))
	assert.Equal(t, ocispec.Platform{OS: "darwin", Architecture: "arm64"}, platformOf("darwin", "arm64", machine{}))
	for _, uname := range []string{"", "a", "armv", "armv99", "armvx", "x86_64", "armv2"} {
		assert.Equal(t, "v7", platformOf("linux", "arm", machine{uname: uname}).Variant, "%q has no version", uname)
	}
	assert.Equal(t, "v6", platformOf("linux", "arm", machine{cpuinfo: "cpu ARCHITECTURE : 6\nCPU architecture: 7\n"}).Variant, "the first core counts, and the key may be in any case")
	assert.Equal(t, "v5", platformOf("linux", "arm", machine{cpuinfo: "CPU architecture: unknown", uname: "ARMv5tejl"}).Variant, "uname, because cpuinfo has no version")
}

func TestMissingPartsComeFromTheHost(t *testing.T) {
	host := ocispec.Platform{OS: "windows", Architecture: "arm", Variant: "v6", OSVersion: "10.0.20348", OSFeatures: []string{"x"}}
	for in, want := range map[string]string{
		"windows":           "windows(10.0.20348+x)/arm/v6",
		"windows(10.0.1.2)": "windows(10.0.1.2)/arm/v6",
		"linux":             "linux/arm/v6",
		"amd64":             "windows(10.0.20348+x)/amd64",
		"windows/amd64":     "windows/amd64",
	} {
		got, err := CompletePlatform(in, host)
		require.NoError(t, err, in)
		assert.Equal(t, want, FormatPlatform(got), in)
	}
	_, err := CompletePlatform("linux", ocispec.Platform{})
	assert.ErrorIs(t, err, ErrPlatform, "the host has no architecture")
}

func TestHostIsNormalised(t *testing.T) {
	got := Host()
	assert.Equal(t, runtime.GOOS, got.OS)
	assert.Equal(t, runtime.GOARCH, got.Architecture)
	assert.Equal(t, Normalize(got), got)
	assert.LessOrEqual(t, len(readMachine().cpuinfo), 64<<10)
	if runtime.GOOS == "linux" {
		assert.NotEmpty(t, strings.TrimSpace(readMachine().uname))
	}
}
