package registry_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/registry/certsd"
	"github.com/pullkit/pullkit/reference"
)

// hostsDir writes a hosts.toml for a registry below a new certs.d directory.
func hostsDir(t *testing.T, registry, text string) string {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, registry), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, registry, "hosts.toml"), []byte(text), 0o600))
	return dir
}

// hub has the servers of Docker Hub and a mirror. The name docker.io itself leads to a web
// page.
func hub(mirror http.HandlerFunc) *world {
	return newWorld(map[string]http.HandlerFunc{
		"https://m.example":            mirror,
		"https://docker.io":            redirectTo("https://www.docker.com/"),
		"https://www.docker.com":       text("<html>"),
		"https://registry-1.docker.io": signedIn(`Basic realm="r"`, serveAll),
		"https://index.docker.io":      signedIn(`Basic realm="r"`, serveAll),
	})
}

// The cases are from public reports and documentation.
func TestPublishedHostsFilesAreRead(t *testing.T) {
	data, err := os.ReadFile("testdata/vectors/field/hosts.json")
	require.NoError(t, err)
	var doc struct {
		Cases []struct {
			ID, Dir, Toml, Image string
			Mirror               int
			List                 bool
			Expect               struct{ Outcome, Asked string }
		}
	}
	require.NoError(t, json.Unmarshal(data, &doc))
	require.Len(t, doc.Cases, 3)
	for _, tt := range doc.Cases {
		t.Run(tt.ID, func(t *testing.T) {
			mirror := status(tt.Mirror)
			if tt.Mirror == http.StatusOK {
				mirror = serveAll
			}
			w := hub(mirror)
			dir := hostsDir(t, tt.Dir, tt.Toml)
			if tt.List {
				dir += string(filepath.ListSeparator) + filepath.Join(dir, "absent")
			}
			_, err := newClient(t, registry.Config{HostsReader: certsd.Dir(dir), WrapTransport: instead(w)}).Manifest(t.Context(), content.Repo{Ref: reference.MustParse(tt.Image), Cred: robot}, "")
			require.NoError(t, err)
			assert.True(t, slices.ContainsFunc(w.asked(), func(line string) bool { return strings.Contains(line, "https://"+tt.Expect.Asked+"/") }))
		})
	}
}

// Docker Hub has several names. For each of them in a hosts.toml the client asks the
// Hub's registry host, as it asks any registry itself: with the registry's credentials
// and without ?ns=.
func TestAllNamesOfDockerHubLeadToItsRegistryHost(t *testing.T) {
	for _, server := range []string{"https://docker.io", "https://docker.io/", "docker.io", "https://Docker.IO:443", "https://docker.io/v2", "https://registry-1.docker.io", "https://index.docker.io", "https://index.docker.io/v2/"} {
		for _, toml := range []string{
			"server = \"" + server + "\"\n[host.\"https://m.example\"]\n",
			"server = \"" + server + "\"\n[host.\"https://m.example\"]\n[host.\"" + server + "\"]\n",
		} {
			w := hub(status(503))
			c := newClient(t, registry.Config{HostsReader: certsd.Dir(hostsDir(t, "docker.io", toml)), WrapTransport: instead(w)})
			_, err := c.Manifest(t.Context(), content.Repo{Ref: reference.MustParse("team/app:v1"), Cred: robot}, "")
			require.NoError(t, err, toml)
			asked := w.asked()
			require.Len(t, asked, 3, toml)
			host := "registry-1.docker.io"
			if strings.Contains(server, "index.") {
				host = "index.docker.io"
			}
			assert.Equal(t, []string{"GET https://" + host + "/v2/team/app/manifests/v1", "GET https://" + host + "/v2/team/app/manifests/v1 Basic"}, asked[1:], toml)
		}
	}
	w := hub(status(503))
	c := newClient(t, registry.Config{HostsReader: certsd.Dir(hostsDir(t, "_default", "server = \"https://docker.io\"\n")), WrapTransport: instead(w), Retries: -1})
	_, err := c.Manifest(t.Context(), content.Repo{Ref: reference.MustParse("other.example/team/app:v1"), Cred: robot}, "")
	assert.Error(t, err, "the Hub gets no credentials of another registry")
	assert.Equal(t, []string{"GET https://registry-1.docker.io/v2/team/app/manifests/v1?ns=other.example"}, w.asked())
}

// Capabilities and override_path at the root of a file apply to the server that the file
// names, and are ignored without a server. The other keys, such as header, apply to the
// registry in both cases.
func TestRootKeysOfAHostsFileNeedAServer(t *testing.T) {
	ref := reference.MustParse("reg.example/app:v1")
	for toml, want := range map[string]string{
		"override_path = true\n":      "GET https://reg.example/v2/app/manifests/v1",
		"capabilities = [\"push\"]\n": "GET https://reg.example/v2/app/manifests/v1",
		"capabilities = [\"pull\"]\noverride_path = true\n[header]\nX-A = \"1\"\n": "GET https://reg.example/v2/app/manifests/v1",
		"server = \"https://reg.example/x\"\noverride_path = true\n":               "GET https://reg.example/x/app/manifests/v1",
	} {
		w := newWorld(map[string]http.HandlerFunc{"https://reg.example": func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(toml, "X-A") {
				assert.Equal(t, "1", r.Header.Get("X-A"))
			}
			serveAll(w, r)
		}})
		_, err := newClient(t, registry.Config{HostsReader: certsd.Dir(hostsDir(t, "reg.example", toml)), WrapTransport: instead(w)}).Manifest(t.Context(), content.Repo{Ref: ref, Cred: noCredential}, "")
		require.NoError(t, err, toml)
		assert.Equal(t, []string{want}, w.asked(), toml)
	}
	_, err := newClient(t, registry.Config{HostsReader: certsd.Dir(hostsDir(t, "reg.example", "server = \"https://reg.example\"\ncapabilities = [\"push\"]\n")), WrapTransport: instead(newWorld(nil))}).Manifest(t.Context(), content.Repo{Ref: ref, Cred: noCredential}, "")
	assert.ErrorIs(t, err, content.ErrConfig, "the file's server must not be asked for images")
}

// A certsd.Dir may be a list of directories, separated as in PATH. They are searched in their
// order, and a directory that is missing is passed over. If all are missing, the
// configuration is wrong, and no registry is asked.
func TestCertsDirsAreSearchedInTheirOrder(t *testing.T) {
	one := hostsDir(t, "reg.example", "[host.\"https://m1.example\"]\n")
	two := hostsDir(t, "reg.example", "[host.\"https://m2.example\"]\n")
	rest := hostsDir(t, "_default", "[host.\"https://rest.example\"]\n")
	absent, file := filepath.Join(one, "absent"), filepath.Join(one, "reg.example", "hosts.toml")
	for _, tt := range []struct {
		list []string
		want string
	}{
		{[]string{one, two}, "m1.example"},
		{[]string{two, one}, "m2.example"},
		{[]string{absent, two}, "m2.example"},
		{[]string{one, absent}, "m1.example"},
		{[]string{"", one}, "m1.example"},
		{[]string{rest, one}, "rest.example"}, // as in containerd: the first directory that has a file for the registry
		{[]string{one, rest}, "m1.example"},
		{[]string{t.TempDir()}, "reg.example"},
		{[]string{absent, t.TempDir()}, "reg.example"},
		{[]string{absent}, ""},
		{[]string{absent, absent + "2"}, ""},
		{[]string{"", ""}, ""},
		{[]string{file}, ""},
	} {
		w := newWorld(map[string]http.HandlerFunc{"https://m1.example": serveAll, "https://m2.example": serveAll, "https://rest.example": serveAll, "https://reg.example": serveAll})
		dir := strings.Join(tt.list, string(filepath.ListSeparator))
		_, err := newClient(t, registry.Config{HostsReader: certsd.Dir(dir), WrapTransport: instead(w)}).Manifest(t.Context(), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: noCredential}, "")
		asked := w.asked()
		if tt.want == "" {
			assert.ErrorIs(t, err, content.ErrConfig, dir)
			assert.Empty(t, asked, dir)
			continue
		}
		require.NoError(t, err, dir)
		require.Len(t, asked, 1)
		assert.Contains(t, asked[0], "https://"+tt.want+"/", dir)
	}
}

// A directory that was missing is looked for again.
func TestAMissingCertsDirIsLookedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "certs.d")
		w := newWorld(map[string]http.HandlerFunc{"https://reg.example": serveAll})
		c := newClient(t, registry.Config{HostsReader: certsd.Dir(dir), WrapTransport: instead(w)})
		_, err := c.Manifest(t.Context(), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: noCredential}, "")
		assert.ErrorIs(t, err, content.ErrConfig)
		assert.ErrorContains(t, err, "certs.d")
		require.NoError(t, os.Mkdir(dir, 0o700))
		_, err = c.Manifest(t.Context(), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: noCredential}, "")
		assert.NoError(t, err)
	})
}
