package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/pullertest"
)

// call runs the program and returns its exit status and its output.
func call(t *testing.T, ctx context.Context, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(ctx, args, &out, &errs)
	assert.NotContains(t, errs.String(), "goroutine", "a stack was printed")
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

func TestDemonstrationPullsAPrivateImage(t *testing.T) {
	inEmptyDir(t)
	code, out, errs := call(t, t.Context())
	require.Equal(t, 0, code, errs)
	for _, want := range []string{
		`1  secret "demo/stale"`, `2  secret "demo/current"`, // the order
		"401 UNAUTHORIZED",      // the answer to the stale secret
		`secret "demo/current"`, // the good secret
		"  exact match",         // the choice from the index
		"already present on machine",
		"requests to the registry: 0 for manifests, 0 for blobs\n",
		"Image size: 3.2 MiB.\n",
	} {
		assert.Contains(t, out, want)
	}
	assert.NotContains(t, out, "the-old-password")
	assert.NotContains(t, out, "the-new-password")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	last := strings.Join(lines[len(lines)-2:], " ")
	named := regexp.MustCompile(`^The image is stored as sha256:([0-9a-f]{64}) in the OCI image layout (.*), which you can remove\.$`).FindStringSubmatch(last)
	require.NotEmpty(t, named, last)
	dir := named[2]
	assert.FileExists(t, filepath.Join(dir, "index.json"))
	assert.FileExists(t, filepath.Join(dir, "blobs", "sha256", named[1]))
	left, err := os.ReadDir(filepath.Dir(dir))
	require.NoError(t, err)
	assert.Len(t, left, 1, "the demonstration leaves only what it names")
	assert.NotContains(t, out, "\n\n\n")
}

// startPrivate starts a registry with a private image, and writes a secret and
// a config.json that open it.
func startPrivate(t *testing.T, platforms ...ocispec.Platform) (reg *pullertest.Registry, secret, config string) {
	t.Helper()
	reg, err := pullertest.Start(pullertest.Config{
		Auth: pullertest.AuthBasic, Users: []pullertest.User{{Name: "robot", Password: "hunter2"}},
	})
	require.NoError(t, err)
	t.Cleanup(func() { reg.Close() })
	_, err = reg.PutImage("team/app:v1", pullertest.ImageSpec{Platforms: platforms, Layers: []int64{1000, 2000}})
	require.NoError(t, err)
	data, err := credentials.DockerConfig{Server: reg.Host(), Username: "robot", Password: credentials.Conceal("hunter2")}.JSON()
	require.NoError(t, err)
	manifest, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": credentials.TypeDockerConfigJSON,
		"metadata":   map[string]string{"name": "robot"},
		"stringData": map[string]string{credentials.KeyDockerConfigJSON: string(data)},
	})
	require.NoError(t, err)
	dir := t.TempDir()
	secret, config = filepath.Join(dir, "secret.yaml"), filepath.Join(dir, "config.json")
	require.NoError(t, os.WriteFile(secret, manifest, 0o600))
	require.NoError(t, os.WriteFile(config, data, 0o600))
	return reg, secret, config
}

// A demonstration that is interrupted leaves nothing behind, because it has not named the
// directory.
func TestInterruptedDemonstrationLeavesNothing(t *testing.T) {
	dir := inEmptyDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	code, _, errs := call(t, ctx)
	assert.Equal(t, 1, code)
	assert.Contains(t, errs, "context canceled")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestPullWithEachFlag(t *testing.T) {
	dir := inEmptyDir(t)
	reg, secret, config := startPrivate(t)
	image := reg.Host() + "/team/app:v1"

	code, out, errs := call(t, t.Context(), "-secret", secret, image)
	require.Equal(t, 0, code, errs)
	assert.Contains(t, out, "Successfully pulled image")
	assert.FileExists(t, filepath.Join(dir, "images", "index.json"))

	reg.ResetCounts()
	code, out, errs = call(t, t.Context(), "-config", config, image)
	require.Equal(t, 0, code, errs)
	assert.Contains(t, out, "already present")
	assert.Zero(t, reg.Counts().Total())

	t.Run("registry", func(t *testing.T) {
		code, out, errs := call(t, t.Context(), "-secret", secret, "-registry", reg.Host(), "-o", "sixth", "team/app:v1")
		require.Equal(t, 0, code, errs)
		assert.Contains(t, out, "Successfully pulled image \"team/app:v1\"")
		code, _, errs = call(t, t.Context(), "-registry", "not a host", "team/app:v1")
		assert.Equal(t, 2, code)
		assert.Contains(t, errs, "default registry")
	})
	t.Run("list", func(t *testing.T) {
		list := filepath.Join(t.TempDir(), "list")
		require.NoError(t, os.WriteFile(list, []byte("# mine\n"+image+" # once\n\n"+image+"\n"), 0o600))
		code, out, errs := call(t, t.Context(), "-config", config, "-f", list, "-o", "other", "-policy", "Always", "-parallel", "2")
		require.Equal(t, 0, code, errs)
		assert.Equal(t, 2, strings.Count(out, "Successfully pulled image"), out)
	})
	t.Run("json", func(t *testing.T) {
		code, out, errs := call(t, t.Context(), "-config", config, "-json", "-o", "third", image)
		require.Equal(t, 0, code, errs)
		var last map[string]any
		for line := range strings.Lines(out) {
			require.NoError(t, json.Unmarshal([]byte(line), &last), line)
		}
		assert.Equal(t, "linux/amd64", last["platform"])
	})
	t.Run("missing helper", func(t *testing.T) {
		t.Setenv("PATH", dir)
		data, err := os.ReadFile(config)
		require.NoError(t, err)
		helped := filepath.Join(t.TempDir(), "config.json")
		require.NoError(t, os.WriteFile(helped, bytes.Replace(data, []byte("{"), []byte(`{"credsStore":"nobody",`), 1), 0o600))
		code, out, errs := call(t, t.Context(), "-config", helped, "-o", "fifth", image)
		require.Equal(t, 0, code, errs)
		assert.Contains(t, out, "Unable to get a credential")
		assert.Contains(t, out, "docker-credential-nobody")
	})
	t.Run("explain", func(t *testing.T) {
		code, out, errs := call(t, t.Context(), "-config", config, "-explain", "-o", "fourth", image)
		require.Equal(t, 0, code, errs)
		assert.Contains(t, out, "policy      IfNotPresent")
		assert.NotContains(t, out, "hunter2")
		code, out, errs = call(t, t.Context(), "-config", config, "-explain", "-json", "-o", "fourth", image)
		require.Equal(t, 0, code, errs)
		assert.True(t, json.Valid([]byte(out)), out)
		assert.NotContains(t, out, "hunter2")
	})
}

// TestEachFailureIsOneLineWithAHint: the line says what failed, for which image, where, and
// what to do. It never has a secret.
func TestEachFailureIsOneLineWithAHint(t *testing.T) {
	dir := inEmptyDir(t)
	reg, secret, config := startPrivate(t, ocispec.Platform{OS: "linux", Architecture: "amd64"})
	image := reg.Host() + "/team/app:v1"
	wrong, err := credentials.DockerConfig{Server: reg.Host(), Username: "robot", Password: credentials.Conceal("wrong-hunter3")}.JSON()
	require.NoError(t, err)
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	wrongConfig := file("wrong.json", string(wrong))
	malformed := file("malformed.json", `{"auths": {"`+reg.Host()+`": {"auth": "c2VjcmV0`)
	podFile := file("pod.yaml", "{apiVersion: v1, kind: Pod, metadata: {name: app}}")
	large := file("large", strings.Repeat(" ", 8<<20+1))
	notADir := file("not-a-directory", "")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed := listener.Addr().String()
	listener.Close()

	for _, tt := range []struct {
		name string
		args []string
		code int
		want []string
	}{
		{"invalid name", []string{"Team/app:v1 "}, 1, []string{`"Team/app:v1 "`, "InvalidImageName", "white space"}},
		{"upper case", []string{"reg.example/App"}, 1, []string{`"reg.example/App"`, "upper case"}},
		{"unknown flag", []string{"-colour", image}, 2, []string{"-colour", "-h"}},
		{"flag without value", []string{"-o"}, 2, []string{"-o"}},
		{"no image", []string{"-plain-http"}, 2, []string{"no image"}},
		{"bad policy", []string{"-policy", "always", image}, 2, []string{`"always"`, "Always"}},
		{"bad platform", []string{"-platform", "linux/", image}, 2, []string{`"linux/"`}},
		{"bad parallel", []string{"-parallel", "0", image}, 2, []string{"-parallel"}},
		{"no such list", []string{"-f", "nowhere"}, 1, []string{"nowhere"}},
		{"no such config", []string{"-config", "nowhere.json", image}, 1, []string{"nowhere.json"}},
		{"malformed config", []string{"-config", malformed, image}, 1, []string{"malformed.json"}},
		{"large config", []string{"-config", large, image}, 1, []string{"large", "8 MiB"}},
		{"large secret", []string{"-secret", large, image}, 1, []string{"large", "8 MiB"}},
		{"no such secret file", []string{"-secret", "nowhere.yaml", image}, 1, []string{"nowhere.yaml"}},
		{"no secret in the file", []string{"-secret", podFile, image}, 1, []string{"pod.yaml: it has no Secret"}},
		{"malformed secret", []string{"-secret", malformed, image}, 1, []string{"malformed.json"}},
		{"unwritable directory", []string{"-o", notADir, "-secret", secret, image}, 1, []string{"not-a-directory", "directory"}},
		{"no server listens", []string{closed + "/team/app:v1"}, 1, []string{closed, "refused", "network"}},
		{"no such tag", []string{"-config", config, reg.Host() + "/team/app:v2"}, 1, []string{"team/app:v2", reg.Host(), "404", "check the name"}},
		{"no credentials", []string{image}, 1, []string{image, "401", "-secret"}},
		{"wrong credentials", []string{"-config", wrongConfig, image}, 1, []string{image, "401", "wrong.json", "refused these credentials"}},
		{"no such platform", []string{"-config", config, "-platform", "linux/riscv64", image}, 1, []string{"linux/riscv64", "available: linux/amd64", "-platform"}},
		{"never", []string{"-policy", "Never", image}, 1, []string{image, "ErrImageNeverPull", "-policy"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, _, errs := call(t, t.Context(), tt.args...)
			assert.Equal(t, tt.code, code)
			assert.Equal(t, 1, strings.Count(errs, "\n"), "want one line: %s", errs)
			for _, want := range tt.want {
				assert.Contains(t, errs, want)
			}
			for _, never := range []string{"hunter2", "wrong-hunter3", "c2VjcmV0"} {
				assert.NotContains(t, errs, never)
			}
		})
	}
}

// TestErrorNamesAHostThatDoesNotExist needs no resolver, because the domain invalid has no
// hosts.
func TestErrorNamesAHostThatDoesNotExist(t *testing.T) {
	inEmptyDir(t)
	code, _, errs := call(t, t.Context(), "registry.invalid/team/app:v1")
	assert.Equal(t, 1, code)
	assert.Contains(t, errs, "registry.invalid")
	assert.Equal(t, 1, strings.Count(errs, "\n"), errs)
}

// TestNextPullContinuesAnInterruptedOne: a pull ends in the middle of a blob, and the next
// pull continues there.
func TestNextPullContinuesAnInterruptedOne(t *testing.T) {
	inEmptyDir(t)
	reg, err := pullertest.Start(pullertest.Config{})
	require.NoError(t, err)
	defer reg.Close()
	_, err = reg.PutImage("team/app:v1", pullertest.ImageSpec{Layers: []int64{64 << 20, 1000}})
	require.NoError(t, err)
	image := reg.Host() + "/team/app:v1"
	ctx, cancel := context.WithCancel(t.Context())
	var errs bytes.Buffer
	// The small layer's line comes while the large layer is being fetched.
	code := run(ctx, []string{image}, writerFunc(func(p []byte) (int, error) {
		if bytes.Contains(p, []byte("stored (")) {
			cancel()
		}
		return len(p), nil
	}), &errs)
	assert.Equal(t, 1, code)
	assert.Contains(t, errs.String(), "run again to continue")
	assert.Equal(t, 1, strings.Count(errs.String(), "\n"), errs.String())
	code = run(t.Context(), []string{image}, io.Discard, &errs)
	require.Equal(t, 0, code, errs.String())
	// The bytes that were in flight when the first run ended are sent twice.
	assert.Less(t, reg.Counts().BlobBytes, int64(64<<20+24<<20), "the second run fetched more than the missing bytes")
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestAnswerToTheValidCredentialCounts: a stale and a valid credential are tried, and the
// hint is about the answer to the valid one.
func TestAnswerToTheValidCredentialCounts(t *testing.T) {
	inEmptyDir(t)
	reg, _, _ := startPrivate(t)
	config := filepath.Join(t.TempDir(), "config.json")
	try := func(team, host, image string) string {
		t.Helper()
		auths := map[string]map[string]string{}
		for key, password := range map[string]string{"/team": team, "": host} {
			if password != "" {
				auths[reg.Host()+key] = map[string]string{"username": "robot", "password": password}
			}
		}
		data, err := json.Marshal(map[string]any{"auths": auths})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(config, data, 0o600))
		code, _, errs := call(t, t.Context(), "-config", config, "-plain-http", reg.Host()+image)
		require.Equal(t, 1, code)
		return errs
	}
	const refused, absent = "the registry refused these credentials", "check the name and tag"

	errs := try("stale", "hunter2", "/team/app:nope")
	assert.Contains(t, errs, "401 Unauthorized")
	assert.Contains(t, errs, "404 Not Found")
	assert.Contains(t, errs, absent)
	assert.NotContains(t, errs, refused)

	errs = try("hunter2", "stale", "/team/app:nope")
	assert.Contains(t, errs, absent)
	assert.NotContains(t, errs, refused)

	errs = try("stale", "older", "/team/app:v1")
	assert.Contains(t, errs, refused)
	assert.NotContains(t, errs, absent)
}
