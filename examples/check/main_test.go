package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/pullertest"
)

// TestMain makes the test binary the program, if a test starts it for that.
func TestMain(m *testing.M) {
	if os.Getenv("CHECK_PROGRAM") != "" {
		main()
	}
	os.Exit(m.Run())
}

// start starts the program in an empty directory, without the machine's configuration. It
// checks that the program writes nothing there.
func start(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Dir = dir
	cmd.Env = []string{"CHECK_PROGRAM=1", "HOME=" + dir, "TMPDIR=" + dir, "PATH="}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil {
		require.ErrorAs(t, err, &exit)
		code = exit.ExitCode()
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, entries, "nothing is written")
	assert.NotContains(t, errs.String(), "goroutine")
	return code, out.String(), errs.String()
}

// config writes a config.json with a password for each key.
func config(t *testing.T, passwords map[string]string) string {
	t.Helper()
	auths := map[string]map[string]string{}
	for key, password := range passwords {
		auths[key] = map[string]string{"username": "robot", "password": password}
	}
	data, err := json.Marshal(map[string]any{"auths": auths})
	require.NoError(t, err)
	name := filepath.Join(t.TempDir(), "config.json")
	require.NoError(t, os.WriteFile(name, data, 0o600))
	return name
}

func TestExitStatusForEachAnswer(t *testing.T) {
	reg, err := pullertest.Start(pullertest.Config{Auth: pullertest.AuthBasic, Users: []pullertest.User{{Name: "robot", Password: "right"}}})
	require.NoError(t, err)
	t.Cleanup(func() { reg.Close() })
	put, err := reg.PutImage("team/app:v1", pullertest.ImageSpec{Layers: []int64{1000}})
	require.NoError(t, err)
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, gone.Close())
	image, nope, down := reg.Host()+"/team/app:v1", reg.Host()+"/team/app:nope", gone.Addr().String()+"/team/app:v1"
	good := config(t, map[string]string{reg.Host() + "/team": "stale", reg.Host(): "right"})
	bad := config(t, map[string]string{reg.Host(): "wrong"})
	podFile := filepath.Join(t.TempDir(), "pod.yaml")
	require.NoError(t, os.WriteFile(podFile, []byte("{apiVersion: v1, kind: Pod, metadata: {name: app}}"), 0o600))

	code, out, errs := start(t, "-plain-http", "-config", good, image)
	assert.Equal(t, 0, code, errs)
	assert.Equal(t, image+": exists as "+string(put.Descriptor.Digest)+`, opened by file "`+good+`", key "`+reg.Host()+`"`+"\n", out)
	assert.Empty(t, errs)
	n := reg.Counts()
	assert.Zero(t, n.ManifestGet, "no GET")
	assert.Zero(t, n.BlobGet)

	for _, tt := range []struct {
		name string
		args []string
		want int
		text string
	}{
		{"denied", []string{"-config", bad, image}, 3, "check: denied: "},
		{"denied without a credential", []string{image}, 3, "check: denied: "},
		{"absent", []string{"-config", good, nope}, 4, "check: absent: "},
		{"unreachable", []string{down}, 5, "check: unreachable: "},
		{"exists and absent", []string{"-config", good, image, nope}, 4, "check: absent: "},
		{"unreachable, absent and exists", []string{"-config", good, down, nope, image}, 5, "check: absent: "},
		{"wrong usage", nil, 2, "no image named"},
		{"not a name", []string{"UPPER"}, 2, "upper case"},
		{"no such config", []string{"-config", "missing.json", image}, 1, "missing.json"},
		{"no secret", []string{"-secret", podFile, image}, 1, "pod.yaml: it has no Secret"},
		{"no such secret", []string{"-secret", "missing.yaml", image}, 1, "missing.yaml"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, _, errs := start(t, append([]string{"-plain-http"}, tt.args...)...)
			assert.Equal(t, tt.want, code, errs)
			assert.Contains(t, errs, tt.text)
			assert.NotContains(t, errs, "wrong\"", "a password")
		})
	}
}

// What cannot be used is named, also if the image exists without it.
func TestUnusableEntriesAreNamed(t *testing.T) {
	reg, err := pullertest.Start(pullertest.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { reg.Close() })
	_, err = reg.PutImage("team/app:v1", pullertest.ImageSpec{Layers: []int64{1000}})
	require.NoError(t, err)
	name := filepath.Join(t.TempDir(), "config.json")
	require.NoError(t, os.WriteFile(name, []byte(`{"auths":{"`+reg.Host()+`":{"auth":"!"}}}`), 0o600))
	code, _, errs := start(t, "-plain-http", "-config", name, reg.Host()+"/team/app:v1")
	assert.Equal(t, 0, code, errs)
	assert.Contains(t, errs, `check: warning: file "`+name+`", key "`+reg.Host()+`": `)
}

// TestWorstStatusCounts: of the statuses of several images, the worst counts.
func TestWorstStatusCounts(t *testing.T) {
	assert.Equal(t, []int{5, 3, 4, 0}, worst)
	assert.Equal(t, unreachable, status(errors.New("odd")))
}

// TestOutputNamesThePullSecret: the output names the pull secret that opens an image.
func TestOutputNamesThePullSecret(t *testing.T) {
	reg, err := pullertest.Start(pullertest.Config{Auth: pullertest.AuthBearer, Users: []pullertest.User{{Name: "robot", Password: "right"}}})
	require.NoError(t, err)
	t.Cleanup(func() { reg.Close() })
	_, err = reg.PutImage("team/app:v1", pullertest.ImageSpec{Layers: []int64{1000}})
	require.NoError(t, err)
	data, err := credentials.DockerConfig{Server: reg.Host(), Username: "robot", Password: credentials.Conceal("right")}.JSON()
	require.NoError(t, err)
	manifest, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": credentials.TypeDockerConfigJSON,
		"metadata":   map[string]string{"name": "robot", "namespace": "web"},
		"stringData": map[string]string{credentials.KeyDockerConfigJSON: string(data)},
	})
	require.NoError(t, err)
	name := filepath.Join(t.TempDir(), "secret.yaml")
	require.NoError(t, os.WriteFile(name, manifest, 0o600))
	code, out, errs := start(t, "-plain-http", "-secret", name, reg.Host()+"/team/app:v1")
	assert.Equal(t, 0, code, errs)
	assert.Contains(t, out, `opened by secret "web/robot"`)
}
