package serve_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/serve"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A served is a server with a public and a private image of two registries that are gone.
type served struct {
	server
	node          node
	open, private string // host:port of the registries
	image         pullertest.PutResult
	host          string // host:port of the server
}

// serveAlone serves the images of two registries, and stops the registries. Then a client
// gets content only from the server.
func serveAlone(t *testing.T) served {
	t.Helper()
	open, private := startRegistry(t, pullertest.Config{}), privateRegistry(t)
	image := put(t, open, "team/app:v1", pullertest.ImageSpec{Layers: []int64{3 << 20, 1000}})
	put(t, private, "team/app:v1", pullertest.ImageSpec{Layers: []int64{1000}, Seed: 1})
	n := newNode(t, registry.Config{}, password(t, private.Host()))
	n.pull(t, open.Host()+"/team/app:v1", nil)
	n.pull(t, private.Host()+"/team/app:v1", nil)
	s := n.serves(t, open.Host(), serve.Config{})
	require.NoError(t, open.Close())
	require.NoError(t, private.Close())
	return served{s, n, open.Host(), private.Host(), image, strings.TrimPrefix(s.URL, "http://")}
}

// run runs a client with an empty home directory.
func run(t *testing.T, program string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "HOME="+home, "DOCKER_CONFIG="+home, "REGISTRY_AUTH_FILE="+write(t, filepath.Join(home, "auth.json"), "{}"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	return name
}

// registriesConf makes the server a mirror of both registries, as podman, skopeo and CRI-O
// read it. These clients send no ns, so the registry is in the path.
func (s served) registriesConf(t *testing.T) string {
	t.Helper()
	var conf strings.Builder
	for _, reg := range []string{s.open, s.private} {
		fmt.Fprintf(&conf, "[[registry]]\nprefix = %q\nlocation = %q\ninsecure = true\n[[registry.mirror]]\nlocation = %q\ninsecure = true\n",
			reg, reg, s.host+"/"+strings.ReplaceAll(reg, ":", "_"))
	}
	return write(t, filepath.Join(t.TempDir(), "registries.conf"), conf.String())
}

func (s served) blobsIn(t *testing.T, dir string) {
	t.Helper()
	for _, b := range s.image.Blobs {
		assert.FileExists(t, filepath.Join(dir, "blobs", "sha256", b.Digest.Encoded()))
	}
}

func TestSkopeoPullsFromAServer(t *testing.T) {
	skopeo := realtest.Need(t, "skopeo")
	s := serveAlone(t)
	conf := s.registriesConf(t)
	for name, tt := range map[string]struct {
		args []string
		fine bool
	}{
		"by its own name":      {[]string{"docker://" + s.host + "/team/app:v1"}, true},
		"by digest":            {[]string{"docker://" + s.host + "/team/app@" + string(s.image.Descriptor.Digest)}, true},
		"registry in the path": {[]string{"docker://" + s.host + "/" + strings.ReplaceAll(s.open, ":", "_") + "/team/app:v1"}, true},
		"as a mirror":          {[]string{"docker://" + s.open + "/team/app:v1"}, true},
		"private, as a mirror": {[]string{"docker://" + s.private + "/team/app:v1"}, false},
		"private":              {[]string{"docker://" + s.host + "/" + strings.ReplaceAll(s.private, ":", "_") + "/team/app:v1"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			out, err := run(t, skopeo, append([]string{"--insecure-policy", "--registries-conf", conf, "copy", "--preserve-digests", "--src-tls-verify=false"},
				append(tt.args, "oci:"+dir+":v1")...)...)
			if tt.fine {
				require.NoError(t, err, out)
				s.blobsIn(t, dir)
			} else {
				require.Error(t, err)
			}
		})
	}
}

func TestPodmanPullsFromAServer(t *testing.T) {
	podman := realtest.Need(t, "podman")
	realtest.NeedRoot(t, "podman unpacks layers")
	s := serveAlone(t)
	conf, dir := s.registriesConf(t), realtest.ShortDir(t)
	policy := write(t, filepath.Join(dir, "policy.json"), `{"default":[{"type":"insecureAcceptAnything"}]}`)
	pull := func(image string) (string, error) {
		return run(t, "env", "CONTAINERS_REGISTRIES_CONF="+conf, podman, "--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"),
			"--tmpdir", filepath.Join(dir, "tmp"), "--storage-driver", "vfs", "pull", "--quiet", "--signature-policy", policy, image)
	}
	out, err := pull(s.open + "/team/app:v1")
	require.NoError(t, err, out)
	assert.Contains(t, out, s.image.Blobs[0].Digest.Encoded(), "the ID of the image")
	out, err = pull(s.private + "/team/app:v1")
	require.Error(t, err, out)
}

// containerd asks the server first, with ns, as hosts.toml says. Then it asks the registry
// itself, which is gone.
func TestContainerdPullsFromAServer(t *testing.T) {
	containerd, ctr := realtest.Need(t, "containerd"), realtest.Need(t, "ctr")
	realtest.NeedRoot(t, "containerd needs it")
	s := serveAlone(t)
	dir := realtest.ShortDir(t)
	for _, reg := range []string{s.open, s.private} {
		write(t, filepath.Join(dir, "certs.d", reg, "hosts.toml"), fmt.Sprintf("server = %q\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", "http://"+reg, s.URL))
	}
	socket := filepath.Join(dir, "cd.sock")
	config := write(t, filepath.Join(dir, "config.toml"), fmt.Sprintf("version = 2\nroot = %q\nstate = %q\n[grpc]\n  address = %q\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  disable_tcp_service = true\n",
		filepath.Join(dir, "root"), filepath.Join(dir, "state"), socket))
	var log bytes.Buffer
	cmd := exec.Command(containerd, "--config", config)
	cmd.Stdout, cmd.Stderr = &log, &log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	pull := func(image string) (string, error) {
		return run(t, ctr, "--address", socket, "--connect-timeout", "30s", "images", "pull", "--snapshotter", "native", "--hosts-dir", filepath.Join(dir, "certs.d"), image)
	}
	out, err := pull(s.open + "/team/app:v1")
	require.NoError(t, err, out)
	out, err = run(t, ctr, "--address", socket, "images", "check", "--snapshotter", "native")
	require.NoError(t, err, out)
	assert.Contains(t, out, "complete (3/3)")
	out, err = pull(s.private + "/team/app:v1")
	require.Error(t, err, out)
}

// The server can be the origin of docker-registry as a cache.
func TestDockerRegistryCachesAServer(t *testing.T) {
	s := serveAlone(t)
	cache := realtest.StartRegistry(t, realtest.RegistryConfig{Remote: s.URL})
	n := newNode(t, registry.Config{PlainHTTP: []string{cache.Host}}, nil)
	img := n.pull(t, cache.Host+"/team/app:v1", nil)
	assert.Equal(t, s.image.Descriptor.Digest, img.Digest)
	resp, err := http.Get(cache.URL + "/v2/" + strings.ReplaceAll(s.private, ":", "_") + "/team/app/manifests/v1")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, http.StatusNotFound, resp.StatusCode)
}

// pullkit's own client pulls an image with the server as its only mirror.
func TestPullkitPullsFromAServer(t *testing.T) {
	s := serveAlone(t)
	hosts := func(reg string) registry.Hosts {
		return registry.Hosts{Mirrors: []registry.Host{{URL: s.URL}}, Server: registry.Host{URL: "http://" + reg}}
	}
	n := newNode(t, registry.Config{Retries: -1, Registries: map[string]registry.Hosts{s.open: hosts(s.open), s.private: hosts(s.private)}}, password(t, s.private))
	img := n.pull(t, s.open+"/team/app:v1", nil)
	assert.Equal(t, s.image.Descriptor.Digest, img.Digest)
	for _, err := range n.store.Verify(t.Context()) {
		assert.NoError(t, err)
	}
	assert.Empty(t, img.Public, "content from a mirror is not public")
	_, err := n.Pull(t.Context(), requestFor(s.private+"/team/app:v1"))
	require.Error(t, err, "the password is not for the mirror, which does not take it")
}

// curl gets the headers and the answers that a cache in front of the server needs.
func TestCurlResumesFromAServer(t *testing.T) {
	curl := realtest.Need(t, "curl")
	s := serveAlone(t)
	layer := s.image.Blobs[1]
	file := filepath.Join(t.TempDir(), "layer")
	url := s.URL + under("team/app", "blobs", layer)
	out, err := run(t, curl, "-sSf", "-r", "0-999999", "-o", file, url)
	require.NoError(t, err, out)
	out, err = run(t, curl, "-sSf", "-C", "-", "-o", file, url)
	require.NoError(t, err, out)
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, string(layer.Digest), sha256Of(string(data)))
}
