package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// call runs the program and returns its exit status and its output.
func call(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(ctx, args, &out, &errs)
	return code, out.String(), errs.String()
}

// inEmptyDir changes into an empty directory, and hides the machine's configuration.
func inEmptyDir(t *testing.T) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("root file systems are not made on Windows")
	}
	dir := t.TempDir()
	t.Chdir(dir)
	for _, name := range []string{"HOME", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "TMPDIR"} {
		t.Setenv(name, dir)
	}
	t.Setenv("REGISTRY_AUTH_FILE", "")
	return dir
}

// names returns the names in a directory.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	all := []string{}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func startRegistry(t *testing.T) *pullertest.Registry {
	t.Helper()
	reg, err := pullertest.Start(pullertest.Config{Auth: pullertest.AuthBasic, Users: []pullertest.User{{Name: "robot", Password: "hunter2"}}})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, reg.Close()) })
	_, err = reg.PutImage("team/app:v1", pullertest.ImageSpec{Platforms: []ocispec.Platform{index.Host()}, Layers: []int64{3 << 20, 1000}, Seed: 1})
	require.NoError(t, err)
	_, err = reg.PutImage("team/app:v2", pullertest.ImageSpec{Platforms: []ocispec.Platform{index.Host()}, Layers: []int64{100}, Seed: 2})
	require.NoError(t, err)
	return reg
}

// config writes a config.json for a registry and returns its path.
func config(t *testing.T, dir, host string) string {
	t.Helper()
	data, err := credentials.DockerConfig{Server: host, Username: "robot", Password: credentials.Conceal("hunter2")}.JSON()
	require.NoError(t, err)
	name := filepath.Join(dir, "auth.json")
	require.NoError(t, os.WriteFile(name, data, 0o600))
	return name
}

func TestDemonstrationMakesARootFileSystem(t *testing.T) {
	dir := inEmptyDir(t)
	code, out, errs := call(t.Context())
	require.Equal(t, 0, code, errs)
	assert.Contains(t, out, "2 layers, 2 entries")
	assert.Equal(t, 1, strings.Count(out, "was there already"))
	assert.Contains(t, out, "\n-- What it has:\ndata-0-0\ndata-0-1\n")
	assert.Empty(t, names(t, dir), "something is left in the temporary directory")
}

func TestAPrivateImageBecomesARootFileSystem(t *testing.T) {
	dir := inEmptyDir(t)
	reg := startRegistry(t)
	auth := config(t, dir, reg.Host())
	image := reg.Host() + "/team/app:v1"

	code, out, errs := call(t.Context(), "-config", auth, "-o", "app", image)
	require.Equal(t, 0, code, errs)
	assert.Contains(t, out, "app/rootfs: 2 layers, 2 entries")
	assert.Contains(t, errs, "Successfully pulled")
	assert.Equal(t, []string{"app", "auth.json"}, names(t, dir), "the blobs are removed")
	assert.Len(t, names(t, filepath.Join("app", "rootfs")), 2)

	reg.ResetCounts()
	before, err := os.Stat(".")
	require.NoError(t, err)
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	code, out, errs = call(t.Context(), "-config", auth, "-json", "-o", "app", image)
	after, err := os.Stat(".")
	require.NoError(t, err)
	assert.Equal(t, before.ModTime(), after.ModTime(), "nothing is made next to a directory that an earlier call has made")
	assert.Empty(t, names(t, temp))
	require.Equal(t, 0, code, errs)
	var result struct{ Layers int }
	require.NoError(t, json.Unmarshal([]byte(out), &result), out)
	assert.Equal(t, 2, result.Layers)
	assert.Zero(t, reg.Counts().BlobGet, "no blob is fetched for a directory that an earlier call has made")
	assert.Equal(t, []string{"app", "auth.json"}, names(t, dir))

	code, out, errs = call(t.Context(), "-config", auth, "-devices", "-o", "app", image)
	assert.Equal(t, 1, code, "a directory without devices is not one with devices: %s", out)
	assert.Contains(t, errs, "it was made with another Config.Devices")

	code, _, errs = call(t.Context(), "-config", auth, "-o", "app", reg.Host()+"/team/app:v2")
	assert.Equal(t, 1, code)
	assert.Contains(t, errs, "remove the directory, or give another one with -o")

	// The credentials are also looked for where podman keeps them.
	code, _, errs = call(t.Context(), "-o", "podman", image)
	assert.Equal(t, 1, code, errs)
	t.Setenv("REGISTRY_AUTH_FILE", auth)
	code, _, errs = call(t.Context(), "-o", "podman", image)
	assert.Equal(t, 0, code, errs)
	t.Setenv("REGISTRY_AUTH_FILE", "")

	// With -store the blobs stay, and the next root file system needs no registry.
	code, _, errs = call(t.Context(), "-config", auth, "-store", "images", "-o", "second", image)
	require.Equal(t, 0, code, errs)
	reg.ResetCounts()
	code, _, errs = call(t.Context(), "-policy", "Never", "-store", "images", "-sync", "-o", "third", image)
	require.Equal(t, 0, code, errs)
	assert.Zero(t, reg.Counts().Total())
	assert.Equal(t, names(t, "second/rootfs"), names(t, "third/rootfs"))
}

// An interrupted call leaves its blobs, and the next call goes on with them.
func TestAnInterruptedCallIsContinued(t *testing.T) {
	dir := inEmptyDir(t)
	reg := startRegistry(t)
	auth := config(t, dir, reg.Host())
	image := reg.Host() + "/team/app:v1"
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	code, _, errs := call(ctx, "-config", auth, "-o", "app", image)
	assert.Equal(t, 1, code)
	assert.Contains(t, errs, "run again to continue")
	assert.NoDirExists(t, "app")
	info, err := os.Stat(".app.blobs")
	require.NoError(t, err)
	if runtime.GOOS != "windows" {
		assert.Equal(t, fs.FileMode(0o700), info.Mode().Perm(), "the blobs can be those of a private image")
	}
	code, _, errs = call(t.Context(), "-config", auth, "-o", "app", image)
	require.Equal(t, 0, code, errs)
	assert.Equal(t, []string{"app", "auth.json"}, names(t, dir))
}

func TestWrongUsageIsExplained(t *testing.T) {
	inEmptyDir(t)
	for _, c := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{"app"}, 2, "-o is missing"},
		{[]string{"-o", "x"}, 2, "0 images are named"},
		{[]string{"-o", "x", "a", "b"}, 2, "2 images are named"},
		{[]string{"-o", "x", "APP:"}, 2, "APP:"},
		{[]string{"-h"}, 0, "usage: rootfs -o DIR"},
		{[]string{"-o", ".", "app"}, 1, "it does not have the file .pullkit"},
	} {
		code, _, errs := call(t.Context(), c.args...)
		assert.Equal(t, c.code, code, c.args)
		assert.Contains(t, errs, c.text)
	}
}

func TestExplainListsTheBlobsToFetch(t *testing.T) {
	dir := inEmptyDir(t)
	reg := startRegistry(t)
	code, out, errs := call(t.Context(), "-config", config(t, dir, reg.Host()), "-explain", reg.Host()+"/team/app:v1")
	require.Equal(t, 0, code, errs)
	var decision struct{ Fetch []ocispec.Descriptor }
	require.NoError(t, json.Unmarshal([]byte(out), &decision))
	assert.Len(t, decision.Fetch, 3)
}
