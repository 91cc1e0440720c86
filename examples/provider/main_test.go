package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMain makes the test program the plugin, if it is started under the plugin's name.
func TestMain(m *testing.M) {
	if strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe") == pluginName {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestPluginGivesThePodsCredential(t *testing.T) {
	for _, name := range []string{"TMPDIR", "TMP"} {
		t.Setenv(name, t.TempDir())
	}
	var out bytes.Buffer
	require.NoError(t, demo(t.Context(), &out))
	parts := strings.Split(out.String(), "\n-- ")
	require.Len(t, parts, 4, out.String())
	assert.Contains(t, parts[1], "401")
	assert.NotContains(t, parts[1], "running")
	assert.Equal(t, 1, strings.Count(parts[2], "running a credential provider"), parts[2])
	assert.Contains(t, parts[2], "pulled 127.0.0.1:")
	assert.NotContains(t, parts[3], "running", "the answer was not kept")
	assert.Contains(t, parts[3], "pulled 127.0.0.1:")
	assert.NotContains(t, out.String(), demoToken)
}

func TestPluginRefusesBadRequests(t *testing.T) {
	for name, in := range map[string]string{
		"not JSON":        "x",
		"something else":  `{"kind": "Pod"}`,
		"without a token": `{"kind": "CredentialProviderRequest", "image": "registry.example/app"}`,
	} {
		var out bytes.Buffer
		assert.ErrorContains(t, plugin(strings.NewReader(in), &out), "request: ", name)
		assert.Empty(t, out.String(), name)
	}
}
