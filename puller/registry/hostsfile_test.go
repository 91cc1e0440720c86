package registry

import (
	"crypto/x509"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller/content"
)

// listOf returns the hosts of a registry.
func listOf(t *testing.T, c *Client, registry string) ([]*endpoint, error) {
	k, err := c.hostsFor(t.Context(), registry)
	if err != nil {
		return nil, err
	}
	c.hosts.release(k)
	return k.hosts, nil
}

// certsDir writes files into a new certs.d directory.
func certsDir(t testing.TB, files map[string]string) string {
	dir := t.TempDir()
	for name, text := range files {
		name = filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o700))
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	}
	return dir
}

func TestReadHostsReadsEveryKey(t *testing.T) {
	ca := realtest.NewCA(t)
	_, cert, key := ca.Issue(t, "client", "client")
	dir := certsDir(t, map[string]string{"reg.example_5000_/hosts.toml": `
server = "https://reg.example:5000"
ca = '` + ca.File + `'
unknown_key = 1

[host."https://z.example"]
  capabilities = ["pull", "resolve"]
  dial_timeout = "3s"
  [host."https://z.example".header]
    X-One = "1"
    x-many = ["a", "b"]

[host."http://a.example:5001/proxy"]
  capabilities = ["pull"]
  skip_verify = true
  override_path = true
  client = [['` + cert + `', '` + key + `']]

[host."m.example"]
  capabilities = ["push"]
`})
	hosts, err := ReadHosts(t.Context(), dir, "reg.example:5000")
	require.NoError(t, err)
	assert.Equal(t, "https://reg.example:5000", hosts.Server.URL)
	require.NotNil(t, hosts.Server.RootCAs)
	require.Len(t, hosts.Mirrors, 3, "in the order of the file")
	z, a, m := hosts.Mirrors[0], hosts.Mirrors[1], hosts.Mirrors[2]
	assert.Equal(t, Host{URL: "https://z.example", Can: CanPull | CanResolve, DialTimeout: 3 * time.Second,
		Header: http.Header{"X-One": {"1"}, "X-Many": {"a", "b"}}}, z)
	assert.Equal(t, []any{"http://a.example:5001/proxy", CanPull, true, true, 1}, []any{a.URL, a.Can, a.SkipVerify, a.OverridePath, len(a.Certificates)})

	c := newClient(t, Config{CertsDir: dir})
	list, err := listOf(t, c, "reg.example:5000")
	require.NoError(t, err)
	var urls []string
	for _, ep := range list {
		urls = append(urls, ep.url(ep.base.Scheme, "team/app", "manifests", "v1").String())
	}
	assert.Equal(t, []string{"https://z.example/v2/team/app/manifests/v1?ns=reg.example%3A5000", "http://a.example:5001/proxy/team/app/manifests/v1?ns=reg.example%3A5000",
		"https://m.example/v2/team/app/manifests/v1?ns=reg.example%3A5000", "https://reg.example:5000/v2/team/app/manifests/v1"}, urls)
	assert.Equal(t, "m.example", m.URL)
	assert.False(t, list[2].can(CanPull) || list[2].can(CanResolve), "a host that is only for pushing is not asked")
	assert.False(t, list[1].can(CanResolve))
	assert.True(t, list[3].can(CanPull) && list[3].can(CanResolve) && !list[3].mirror && list[0].mirror)
}

func TestReadHostsFindsTheDirectoryOfARegistry(t *testing.T) {
	ca := realtest.NewCA(t)
	pem, err := os.ReadFile(ca.File)
	require.NoError(t, err)
	dir := certsDir(t, map[string]string{
		"a.example:1/hosts.toml":  `server = "https://colon.example"`,
		"b.example_1_/hosts.toml": `server = "https://underscore.example"`,
		"c.example/ca.crt":        string(pem),
		"_default/hosts.toml":     `server = "https://default.example"`,
	})
	for registry, want := range map[string]string{"a.example:1": "https://colon.example", "b.example:1": "https://underscore.example", "c.example": "", "other.example": "https://default.example"} {
		hosts, err := ReadHosts(t.Context(), dir, registry)
		require.NoError(t, err, registry)
		assert.Equal(t, want, hosts.Server.URL, registry)
		assert.Equal(t, registry == "c.example", hosts.Server.RootCAs != nil, "a directory in Docker's form: %s", registry)
	}
	for _, registry := range []string{"../a.example:1", "/etc", "..", ""} {
		hosts, err := ReadHosts(t.Context(), dir, registry)
		require.NoError(t, err)
		assert.Equal(t, "https://default.example", hosts.Server.URL, "%q is not the name of a directory", registry)
	}
	_, err = ReadHosts(t.Context(), t.TempDir(), "other.example")
	assert.ErrorIs(t, err, fs.ErrNotExist)
	_, err = ReadHosts(t.Context(), filepath.Join(dir, "absent"), "other.example")
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

func TestReadHostsRefusesMistakes(t *testing.T) {
	for name, text := range map[string]string{
		"not TOML":            `server = `,
		"a secret's line":     "[header]\nAuthorization = \"Basic CANARY\nx",
		"wrong type":          `skip_verify = "yes"`,
		"capability":          `[host."https://a.example"]` + "\n" + `capabilities = ["fly"]`,
		"duration":            `dial_timeout = "soon"`,
		"negative duration":   `dial_timeout = "-1s"`,
		"absent authority":    `ca = "absent.crt"`,
		"authority a number":  `ca = 7`,
		"no certificate":      `ca = "hosts.toml"`,
		"client of three":     `client = [["a", "b", "c"]]`,
		"absent client":       `client = "absent.pem"`,
		"header a number":     "[header]\nx = 1",
		"header with newline": "[header]\nx = \"a\\nb\"",
		"header with control": "[header]\nx = \"CANARY\\u0001\"",
		"header with delete":  "[header]\nx = \"CANARY\\u007f\"",
		"header of two words": "[header]\n\"x y\" = \"CANARY\"",
		"root capability":     `capabilities = ["fly"]`,
		"scheme":              `[host."ftp://a.example"]`,
		"user info":           `[host."https://u:CANARY@a.example"]`,
		"server with query":   `server = "https://a.example?x=y"`,
	} {
		dir := certsDir(t, map[string]string{"reg.example/hosts.toml": text})
		_, err := newClient(t, Config{CertsDir: dir}).Manifest(t.Context(), content.Repo{Ref: mustRef("reg.example/app"), Cred: noCredential}, "")
		require.ErrorIs(t, err, content.ErrConfig, name)
		assert.NotContains(t, err.Error(), "CANARY", name)
	}
}

// TOML has several forms of tables. The order is that of the file in each of them.
func TestHostsHaveTheOrderOfTheirFile(t *testing.T) {
	for text, want := range map[string]string{
		"[host.b]\n[host.a]\n":                         "b a",
		"[host.b.header]\nx='1'\n[host.a]\n[host.b]\n": "b a",
		"[host]\nb.skip_verify=true\na={}\n":           "b a",
		"host.b.skip_verify=true\nhost.a={}\n":         "b a",
		"host = {b={}, a={}}":                          "b a",
		"[other.b]\n[host.a]\n":                        "a",
		"":                                             "",
	} {
		dir := certsDir(t, map[string]string{"reg.example/hosts.toml": text})
		hosts, err := ReadHosts(t.Context(), dir, "reg.example")
		require.NoError(t, err, text)
		var got []string
		for _, h := range hosts.Mirrors {
			got = append(got, h.URL)
		}
		assert.Equal(t, want, strings.Join(got, " "), text)
	}
}

// FuzzReadHosts checks that ReadHosts does not panic, and that a Client can use what it
// returns.
func FuzzReadHosts(f *testing.F) {
	f.Add("server = \"https://a.example\"\n[host.\"https://b.example\"]\ncapabilities=[\"pull\"]\n")
	f.Add("[host.b]\nheader={x=[\"y\"]}\nclient=[]\nca=[]\n")
	dir := f.TempDir()
	require.NoError(f, os.Mkdir(filepath.Join(dir, "reg.example"), 0o700))
	f.Fuzz(func(t *testing.T, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "reg.example", "hosts.toml"), []byte(text), 0o600))
		hosts, err := ReadHosts(t.Context(), dir, "reg.example")
		if err != nil {
			assert.LessOrEqual(t, len(err.Error()), 4096)
			return
		}
		for _, h := range hosts.Mirrors {
			u, err := h.base()
			require.NoError(t, err)
			assert.NotEmpty(t, u.Host)
		}
	})
}

// A changed file is seen after half a minute, an unchanged one keeps its connections.
func TestAHostsFileThatChangedIsReadAgain(t *testing.T) {
	dir := certsDir(t, map[string]string{"reg.example/hosts.toml": `server = "https://one.example"`})
	c := newClient(t, Config{CertsDir: dir, RootCAs: x509.NewCertPool()})
	first, err := listOf(t, c, "reg.example")
	require.NoError(t, err)
	again, err := listOf(t, c, "reg.example")
	require.NoError(t, err)
	assert.Same(t, first[0], again[0])

	c.hosts.byName["reg.example"].until = time.Now() // as if half a minute had passed
	again, err = listOf(t, c, "reg.example")
	require.NoError(t, err)
	assert.Same(t, first[0], again[0], "the file has not changed, so the endpoint stays")

	require.NoError(t, os.WriteFile(filepath.Join(dir, "reg.example", "hosts.toml"), []byte(`server = "https://two.example"`), 0o600))
	c.hosts.byName["reg.example"].until = time.Now()
	again, err = listOf(t, c, "reg.example")
	require.NoError(t, err)
	assert.Equal(t, "two.example", again[0].base.Host)
	assert.True(t, again[0].mirror, "the new host does not get the registry's credentials")
}

func TestAServerAtAnotherHostCountsAsAMirror(t *testing.T) {
	for _, tt := range []struct {
		registry string
		hosts    Hosts
		plain    []string
		want     string
		mirror   bool
	}{
		{"docker.io", Hosts{}, nil, "https://registry-1.docker.io/v2/app/blobs/x", false},
		{"docker.io", Hosts{Server: Host{URL: "https://registry-1.docker.io"}}, nil, "https://registry-1.docker.io/v2/app/blobs/x", false},
		{"docker.io", Hosts{Server: Host{URL: "https://harbor.example/v2/hub"}}, nil, "https://harbor.example/v2/hub/v2/app/blobs/x?ns=docker.io", true},
		{"docker.io", Hosts{Server: Host{URL: "https://harbor.example/v2/hub", OverridePath: true}}, nil, "https://harbor.example/v2/hub/app/blobs/x?ns=docker.io", true},
		{"reg.example", Hosts{}, []string{"reg.example"}, "http://reg.example/v2/app/blobs/x", false},
		{"reg.example", Hosts{Server: Host{URL: "https://reg.example:443"}}, nil, "https://reg.example:443/v2/app/blobs/x?ns=reg.example", false},
		{"reg.example", Hosts{Server: Host{URL: "https://reg.example:444"}}, nil, "https://reg.example:444/v2/app/blobs/x?ns=reg.example", true},
		{"reg.example:5000", Hosts{Server: Host{SkipVerify: true}}, nil, "https://reg.example:5000/v2/app/blobs/x", false},
	} {
		c := newClient(t, Config{PlainHTTP: tt.plain, Registries: map[string]Hosts{tt.registry: tt.hosts}})
		list, err := listOf(t, c, tt.registry)
		require.NoError(t, err)
		require.Len(t, list, 1)
		assert.Equal(t, tt.want, list[0].url(list[0].base.Scheme, "app", "blobs", "x").String())
		assert.Equal(t, tt.mirror, list[0].mirror, tt.want)
		assert.Equal(t, tt.hosts.Server.SkipVerify, list[0].host.SkipVerify)
	}
	// If a registry is one of its own mirrors, it is asked once.
	c := newClient(t, Config{Registries: map[string]Hosts{"reg.example": {Mirrors: []Host{{URL: "https://m.example"}, {URL: "https://reg.example", SkipVerify: true}}}}})
	list, err := listOf(t, c, "reg.example")
	require.NoError(t, err)
	require.Len(t, list, 2)
	assert.True(t, list[1].host.SkipVerify)
	assert.False(t, list[1].mirror)
}
