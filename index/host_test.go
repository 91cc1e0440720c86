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

func TestPlatformOf(t *testing.T) {
	assert.Equal(t, ocispec.Platform{OS: "windows", Architecture: "amd64", OSVersion: "10.0.20348"},
		platformOf("windows", "amd64", machine{osVersion: "10.0.20348"}))
	assert.Equal(t, ocispec.Platform{OS: "darwin", Architecture: "arm64"}, platformOf("darwin", "arm64", machine{}))
	for _, uname := range []string{"", "a", "armv", "armv99", "armvx", "x86_64", "armv2"} {
		assert.Equal(t, "v7", platformOf("linux", "arm", machine{uname: uname}).Variant, "%q says nothing", uname)
	}
	assert.Equal(t, "v6", platformOf("linux", "arm", machine{cpuinfo: "cpu ARCHITECTURE : 6\nCPU architecture: 7\n"}).Variant, "the first core, key in any case")
	assert.Equal(t, "v5", platformOf("linux", "arm", machine{cpuinfo: "CPU architecture: unknown", uname: "ARMv5tejl"}).Variant, "uname where cpuinfo is unreadable")
}

func TestHost(t *testing.T) {
	got := Host()
	assert.Equal(t, runtime.GOOS, got.OS)
	assert.Equal(t, runtime.GOARCH, got.Architecture)
	assert.Equal(t, Normalize(got), got)
	assert.LessOrEqual(t, len(readMachine().cpuinfo), 64<<10)
	if runtime.GOOS == "linux" {
		assert.NotEmpty(t, strings.TrimSpace(readMachine().uname))
	}
}
