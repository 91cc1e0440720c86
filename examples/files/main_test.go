package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// call runs the program and returns its exit status and its output.
func call(t *testing.T, ctx context.Context, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(ctx, args, &out, &errs)
	return code, out.String(), errs.String()
}

// inEmptyDir changes into an empty directory, and hides the machine's configuration.
func inEmptyDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	for _, name := range []string{"HOME", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "TMPDIR"} {
		t.Setenv(name, dir)
	}
	t.Setenv("REGISTRY_AUTH_FILE", "")
	return dir
}

func TestDemonstrationWritesAModel(t *testing.T) {
	dir := inEmptyDir(t)
	code, out, errs := call(t, t.Context())
	require.Equal(t, 0, code, errs)
	assert.Contains(t, out, "      18  ")
	assert.Contains(t, out, "tiny/text/config.json")
	assert.Contains(t, out, "text/model.safetensors")
	assert.Contains(t, out, "requests to the registry: 0")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, entries, "something is left in the temporary directory")
}

func TestAPrivateModelIsWritten(t *testing.T) {
	dir := inEmptyDir(t)
	reg, err := pullertest.Start(pullertest.Config{Auth: pullertest.AuthBasic, Users: []pullertest.User{{Name: "robot", Password: "hunter2"}}})
	require.NoError(t, err)
	defer reg.Close()
	require.NoError(t, putModel(reg))
	data, err := credentials.DockerConfig{Server: reg.Host(), Username: "robot", Password: credentials.Conceal("hunter2")}.JSON()
	require.NoError(t, err)
	config := filepath.Join(dir, "auth.json")
	require.NoError(t, os.WriteFile(config, data, 0o600))
	image := reg.Host() + "/models/tiny:v1"

	code, out, errs := call(t, t.Context(), "-config", config, image)
	require.Equal(t, 0, code, errs)
	assert.Equal(t, "           7  tiny/README.md\n          18  tiny/text/config.json\n     1048576  tiny/text/model.safetensors\n", out)
	assert.FileExists(t, filepath.Join(dir, "images", "index.json"))
	text, err := os.ReadFile(filepath.Join(dir, "tiny", "README.md"))
	require.NoError(t, err)
	assert.Equal(t, "# tiny\n", string(text))

	// Under Never the registry is not asked, and the files are links.
	reg.ResetCounts()
	code, out, errs = call(t, t.Context(), "-config", config, "-policy", "Never", "-link", "-sub", "text", "-o", filepath.Join("a", "b"), image)
	require.Equal(t, 0, code, errs)
	assert.Equal(t, "          18  a/b/config.json\n     1048576  a/b/model.safetensors\n", out)
	assert.Zero(t, reg.Counts().Total())
	info, err := os.Stat(filepath.Join(dir, "a", "b", "config.json"))
	require.NoError(t, err)
	assert.Zero(t, info.Mode()&0o222)

	code, out, errs = call(t, t.Context(), "-config", config, "-json", image)
	require.Equal(t, 0, code, errs)
	var last map[string]any
	for line := range strings.Lines(out) {
		require.NoError(t, json.Unmarshal([]byte(line), &last), line)
	}
	assert.Equal(t, "text/model.safetensors", last["name"])

	code, out, errs = call(t, t.Context(), "-config", config, "-explain", image)
	require.Equal(t, 0, code, errs)
	assert.True(t, json.Valid([]byte(out)), out)
	assert.NotContains(t, out, "hunter2")

	// The credentials are also looked for where podman keeps them.
	code, _, errs = call(t, t.Context(), "-policy", "Always", "-o", "podman", image)
	require.Equal(t, 1, code, errs)
	t.Setenv("REGISTRY_AUTH_FILE", config)
	code, _, errs = call(t, t.Context(), "-policy", "Always", "-o", "podman", image)
	require.Equal(t, 0, code, errs)
	t.Setenv("REGISTRY_AUTH_FILE", "")

	require.NoError(t, os.WriteFile(filepath.Join(dir, "tiny", "README.md"), []byte("# mine\n"), 0o644))
	for _, c := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"-config", config, image}, 1, []string{`"README.md"`, "changed", "-o"}},
		{[]string{"-config", config, "-o", "images", image}, 1, []string{"images", "-o"}},
		{[]string{"-config", config, "-sub", "../x", image}, 1, []string{`"../x"`}},
		{[]string{"-o", "other", image}, 1, nil}, // present, so no credential is needed
		{[]string{"-config", "nowhere.json", image}, 1, []string{"nowhere.json"}},
		{[]string{"-secret", "nowhere.yaml", image}, 1, []string{"nowhere.yaml"}},
		{[]string{image, image}, 2, []string{"2 images"}},
		{[]string{"-o", "x"}, 2, []string{"0 images"}},
		{[]string{"Team/app:v1 "}, 2, []string{"white space"}},
		{[]string{"-colour", image}, 2, []string{"-colour"}},
		{[]string{"-h"}, 0, []string{"usage: files", "-parallel"}},
	} {
		code, out, errs := call(t, t.Context(), c.args...)
		if c.want == nil {
			c.code = 0
			assert.NotEmpty(t, out)
		}
		assert.Equal(t, c.code, code, "%q: %s", c.args, errs)
		for _, want := range c.want {
			assert.Contains(t, errs, want, "%q", c.args)
		}
		assert.NotContains(t, errs, "hunter2")
	}
}

// A directory that cannot be made is refused before the registry is asked and before anything
// is stored.
func TestDirectoryIsCheckedBeforeThePull(t *testing.T) {
	dir := inEmptyDir(t)
	reg, err := pullertest.Start(pullertest.Config{})
	require.NoError(t, err)
	defer reg.Close()
	require.NoError(t, putModel(reg))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "taken"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
	require.NoError(t, os.Symlink("taken", filepath.Join(dir, "link")))
	for _, c := range []struct{ out, store, want string }{
		{"s", "s", "same directory"},
		{"s/in/side", "s", "same directory"},
		{"out", "out/store", "same directory"},
		{"out", "./x/../out", "same directory"},
		{"taken/s", "link", "same directory"},
		{"link/s", "taken/s/t", "same directory"},
		{"taken", "s", "not one that an earlier call has made"},
		{"file", "s", "not one that an earlier call has made"},
		{"link", "s", "not one that an earlier call has made"},
	} {
		code, out, errs := call(t, t.Context(), "-o", c.out, "-store", c.store, reg.Host()+"/models/tiny:v1")
		assert.Equal(t, 1, code, "%v", c)
		assert.Empty(t, out)
		assert.Contains(t, errs, c.want, "%v", c)
		assert.Contains(t, errs, "-o")
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		assert.Len(t, entries, 3, "%v", c)
	}
	assert.Zero(t, reg.Counts().Total())
	code, _, errs := call(t, t.Context(), "-o", "s2", "-store", "s", reg.Host()+"/models/tiny:v1")
	assert.Equal(t, 0, code, errs)
}

func TestNamesArePrintedEscaped(t *testing.T) {
	for name, want := range map[string]string{"a/b c": "a/b c", "é": "é", "a\u202eb": `"a\u202eb"`, "\x1b[31m": `"\x1b[31m"`, `a"b\c`: `a"b\c`, "\xff": `"\xff"`} {
		assert.Equal(t, want, printable(name))
	}
}

func TestInterruptedCallSaysSo(t *testing.T) {
	inEmptyDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	code, _, errs := call(t, ctx, "registry.example/models/tiny:v1")
	assert.Equal(t, 1, code)
	assert.Contains(t, errs, "run again")
}
