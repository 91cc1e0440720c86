package certsd

import (
	"fmt"
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
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/reference"
)

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

// ask asks a registry for an image, with the hosts of a directory.
func ask(t *testing.T, dir, image string) error {
	c, err := registry.New(registry.Config{HostsReader: Dir(dir), Retries: -1, WrapTransport: func(http.RoundTripper) http.RoundTripper { return noNetwork{} }})
	require.NoError(t, err)
	_, err = c.Manifest(t.Context(), content.Repo{Ref: reference.MustParse(image)}, "")
	return err
}

// noNetwork fails each request.
type noNetwork struct{}

func (noNetwork) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, fmt.Errorf("no network: %w", os.ErrDeadlineExceeded)
}

func TestReadReadsEveryKey(t *testing.T) {
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
	hosts, err := Dir(dir).Read(t.Context(), "reg.example:5000")
	require.NoError(t, err)
	assert.Equal(t, "https://reg.example:5000", hosts.Server.URL)
	require.NotNil(t, hosts.Server.RootCAs)
	require.Len(t, hosts.Mirrors, 3, "in the order of the file")
	z, a, m := hosts.Mirrors[0], hosts.Mirrors[1], hosts.Mirrors[2]
	assert.Equal(t, registry.Host{URL: "https://z.example", Can: registry.CanPull | registry.CanResolve, DialTimeout: 3 * time.Second,
		Header: http.Header{"X-One": {"1"}, "X-Many": {"a", "b"}}}, z)
	assert.Equal(t, []any{"http://a.example:5001/proxy", registry.CanPull, true, true, 1}, []any{a.URL, a.Can, a.SkipVerify, a.OverridePath, len(a.Certificates)})
	assert.Equal(t, "m.example", m.URL)
	assert.NotZero(t, m.Can)
	assert.Zero(t, m.Can&(registry.CanPull|registry.CanResolve), "a host that is only for pushing is not asked")
}

func TestReadFindsTheDirectoryOfARegistry(t *testing.T) {
	ca := realtest.NewCA(t)
	pem, err := os.ReadFile(ca.File)
	require.NoError(t, err)
	dir := certsDir(t, map[string]string{
		"a.example:1/hosts.toml":  `server = "https://colon.example"`,
		"b.example_1_/hosts.toml": `server = "https://underscore.example"`,
		"c.example/ca.crt":        string(pem),
		"_default/hosts.toml":     `server = "https://default.example"`,
	})
	for name, want := range map[string]string{"a.example:1": "https://colon.example", "b.example:1": "https://underscore.example", "c.example": "", "other.example": "https://default.example"} {
		hosts, err := Dir(dir).Read(t.Context(), name)
		require.NoError(t, err, name)
		assert.Equal(t, want, hosts.Server.URL, name)
		assert.Equal(t, name == "c.example", hosts.Server.RootCAs != nil, "a directory in Docker's form: %s", name)
	}
	for _, name := range []string{"../a.example:1", "/etc", "..", ""} {
		hosts, err := Dir(dir).Read(t.Context(), name)
		require.NoError(t, err)
		assert.Equal(t, "https://default.example", hosts.Server.URL, "%q is not the name of a directory", name)
	}
	_, err = Dir(t.TempDir()).Read(t.Context(), "other.example")
	assert.ErrorIs(t, err, fs.ErrNotExist)
	_, err = Dir(filepath.Join(dir, "absent")).Read(t.Context(), "other.example")
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

func TestReadRefusesMistakes(t *testing.T) {
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
		err := ask(t, dir, "reg.example/app")
		require.ErrorIs(t, err, content.ErrConfig, name)
		assert.NotContains(t, err.Error(), "CANARY", name)
	}
}

// TOML has several forms of tables. In each form, the hosts have the order of the file.
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
		hosts, err := Dir(dir).Read(t.Context(), "reg.example")
		require.NoError(t, err, text)
		var got []string
		for _, h := range hosts.Mirrors {
			got = append(got, h.URL)
		}
		assert.Equal(t, want, strings.Join(got, " "), text)
	}
}

// FuzzRead checks that Read does not panic, and that a Client can use what it
// returns.
func FuzzRead(f *testing.F) {
	f.Add("server = \"https://a.example\"\n[host.\"https://b.example\"]\ncapabilities=[\"pull\"]\n")
	f.Add("[host.b]\nheader={x=[\"y\"]}\nclient=[]\nca=[]\n")
	dir := f.TempDir()
	require.NoError(f, os.Mkdir(filepath.Join(dir, "reg.example"), 0o700))
	f.Fuzz(func(t *testing.T, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "reg.example", "hosts.toml"), []byte(text), 0o600))
		hosts, err := Dir(dir).Read(t.Context(), "reg.example")
		if err != nil {
			assert.LessOrEqual(t, len(err.Error()), 4096)
			return
		}
		assert.NoError(t, hosts.Validate())
	})
}

// The version of a registry's hosts changes if one of the files changes, and only then.
func TestTheVersionChangesOnlyWithTheFiles(t *testing.T) {
	dir := certsDir(t, map[string]string{"reg.example/hosts.toml": `server = "https://one.example"`})
	_, first, err := Dir(dir).ReadHosts("reg.example", nil)
	require.NoError(t, err)
	_, again, err := Dir(dir).ReadHosts("reg.example", nil)
	require.NoError(t, err)
	assert.Equal(t, first, again)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "reg.example", "hosts.toml"), []byte(`server = "https://two.example"`), 0o600))
	_, again, err = Dir(dir).ReadHosts("reg.example", nil)
	require.NoError(t, err)
	assert.NotEqual(t, first, again)
	hosts, _, err := Dir(dir).ReadHosts("other.example", nil)
	assert.NoError(t, err, "the configuration does not say anything about this registry")
	assert.Zero(t, hosts)
	hosts, _, err = Dir("").ReadHosts("reg.example", nil)
	assert.NoError(t, err)
	assert.Zero(t, hosts)
}

// A directory in Docker's form has an authority and a client certificate with its key.
func TestReadReadsDockersCertificates(t *testing.T) {
	ca := realtest.NewCA(t)
	_, certFile, keyFile := ca.Issue(t, "client", "client")
	files := map[string]string{}
	for name, from := range map[string]string{"ca.crt": ca.File, "client.cert": certFile, "client.key": keyFile} {
		data, err := os.ReadFile(from)
		require.NoError(t, err)
		files["reg.example/"+name] = string(data)
	}
	hosts, err := Dir(certsDir(t, files)).Read(t.Context(), "reg.example")
	require.NoError(t, err)
	assert.NotNil(t, hosts.Server.RootCAs)
	assert.Len(t, hosts.Server.Certificates, 1)
	delete(files, "reg.example/client.key")
	_, err = Dir(certsDir(t, files)).Read(t.Context(), "reg.example")
	assert.Error(t, err, "a certificate without its key")
}

// All files that one hosts.toml names together have one limit.
func TestTheFilesOfAHostsTOMLHaveOneLimit(t *testing.T) {
	list := "ca = ["
	files := map[string]string{"reg.example/big.crt": strings.Repeat("x", maxConfigFile)}
	for range 20 {
		list += `"big.crt",`
	}
	files["reg.example/hosts.toml"] = list + "]"
	_, err := Dir(certsDir(t, files)).Read(t.Context(), "reg.example")
	assert.Error(t, err)
	files["reg.example/big.crt"] += "x"
	_, err = Dir(certsDir(t, files)).Read(t.Context(), "reg.example")
	assert.ErrorContains(t, err, "is larger than")
	files = map[string]string{"reg.example/a.cert": "x"}
	dir := certsDir(t, files)
	for i := range maxEntries {
		require.NoError(t, os.Link(dir+"/reg.example/a.cert", fmt.Sprintf("%s/reg.example/%d", dir, i)))
	}
	_, err = Dir(dir).Read(t.Context(), "reg.example")
	assert.ErrorContains(t, err, "more than")
}
