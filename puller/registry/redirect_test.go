package registry_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/registry/certsd"
	"github.com/pullkit/pullkit/reference"
)

const hello = "hello" // the content of each blob in these tests

func helloBlob() ocispec.Descriptor {
	return ocispec.Descriptor{Digest: "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", Size: 5}
}

const helloPath = "/v2/app/blobs/sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

func TestRedirectsAreFollowedWithoutAuthorization(t *testing.T) {
	ref := reference.MustParse("reg.example/app:v1")
	home := "GET https://reg.example" + helloPath
	basic := `Basic realm="r"`
	for _, tt := range []struct {
		name    string
		servers map[string]http.HandlerFunc
		want    content.Reason
		asked   []string
	}{
		{"to another host", map[string]http.HandlerFunc{
			"https://reg.example": signedIn(basic, redirectTo("https://cdn.example/x?sig=1")),
			"https://cdn.example": text(hello),
		}, "", []string{home, home + " Basic", "GET https://cdn.example/x?sig=1"}},
		{"to another port", map[string]http.HandlerFunc{
			"https://reg.example":      signedIn(basic, redirectTo("https://reg.example:8443/x")),
			"https://reg.example:8443": text(hello),
		}, "", []string{home, home + " Basic", "GET https://reg.example:8443/x"}},
		{"to a subdomain", map[string]http.HandlerFunc{
			"https://reg.example":     signedIn(basic, redirectTo("https://cdn.reg.example/x")),
			"https://cdn.reg.example": text(hello),
		}, "", []string{home, home + " Basic", "GET https://cdn.reg.example/x"}},
		{"to the same origin in another spelling", map[string]http.HandlerFunc{
			"https://reg.example": signedIn(basic, func(w http.ResponseWriter, r *http.Request) {
				redirectTo("https://REG.example:443/x")(w, r)
			}),
			"https://REG.example:443": text(hello),
		}, "", []string{home, home + " Basic", "GET https://REG.example:443/x Basic"}},
		{"to another host and back, without Authorization from then on", map[string]http.HandlerFunc{
			"https://reg.example": signedIn(basic, func(w http.ResponseWriter, r *http.Request) {
				redirectTo("https://other.example/")(w, r)
			}),
			"https://other.example": redirectTo("https://reg.example/back"),
		}, content.ErrUnauthorized, []string{home, home + " Basic", "GET https://other.example/", "GET https://reg.example/back"}},
		{"to a host whose challenge is not answered", map[string]http.HandlerFunc{
			"https://reg.example":   signedIn(basic, redirectTo("https://other.example/x")),
			"https://other.example": challenge(`Bearer realm="https://reg.example/token"`),
		}, content.ErrUnauthorized, []string{home, home + " Basic", "GET https://other.example/x"}},
		{"from https to http", map[string]http.HandlerFunc{
			"https://reg.example": redirectTo("http://reg.example/x"),
		}, content.ErrForbiddenURL, []string{home}},
		{"user info", map[string]http.HandlerFunc{
			"https://reg.example": redirectTo("https://reg.example@evil.example/x"),
		}, content.ErrForbiddenURL, []string{home}},
		{"another scheme", map[string]http.HandlerFunc{
			"https://reg.example": redirectTo("file:///etc/passwd"),
		}, content.ErrRedirect, []string{home}},
		{"an empty location", map[string]http.HandlerFunc{
			"https://reg.example": redirectTo(""),
		}, content.ErrRedirect, []string{home}},
		{"a location that is not a URL", map[string]http.HandlerFunc{
			"https://reg.example": redirectTo("https://[::1/x"),
		}, content.ErrRedirect, []string{home}},
		{"in a circle", map[string]http.HandlerFunc{
			"https://reg.example": redirectTo(helloPath),
		}, content.ErrRedirect, []string{home, home, home, home, home, home}},
		{"link-local", map[string]http.HandlerFunc{
			"https://reg.example": redirectTo("https://169.254.169.254/latest/meta-data"),
		}, content.ErrForbiddenURL, []string{home}},
		{"from a public registry to a private address", map[string]http.HandlerFunc{
			"https://reg.example": redirectTo("https://10.0.0.1/x"),
		}, content.ErrForbiddenURL, []string{home}},
		{"from a public registry to loopback", map[string]http.HandlerFunc{
			"https://reg.example": redirectTo("https://localhost/x"),
		}, content.ErrForbiddenURL, []string{home}},
		{"304, which is not a redirect", map[string]http.HandlerFunc{
			"https://reg.example": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) },
		}, content.ErrStatus, []string{home}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(tt.servers)
			var tr trace
			c := newClient(t, registry.Config{WrapTransport: instead(w), Logger: tr.logger()})
			data, err := read(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, helloBlob())
			assert.Equal(t, tt.asked, w.asked())
			if tt.want != "" {
				require.ErrorIs(t, err, tt.want)
				assert.NotContains(t, err.Error()+tr.text.String(), "s3cret-pass")
				return
			}
			require.NoError(t, err)
			assert.Equal(t, hello, string(data))
			assert.NotContains(t, tr.text.String(), "sig=1")
		})
	}
}

func TestOnlyPrivateRegistriesRedirectToPrivateAddresses(t *testing.T) {
	for _, tt := range []struct {
		image, target string
		ok            bool
	}{
		{"10.0.0.5:5000/app", "https://10.9.9.9/x", true},
		{"10.0.0.5:5000/app", "https://127.0.0.1/x", true},
		{"127.0.0.1:5000/app", "https://10.9.9.9/x", true},
		{"10.0.0.5:5000/app", "https://169.254.169.254/x", false},
		{"203.0.113.9/app", "https://10.9.9.9/x", false},
	} {
		ref := reference.MustParse(tt.image + ":v1")
		w := newWorld(map[string]http.HandlerFunc{"https://" + ref.Registry(): redirectTo(tt.target), tt.target[:len(tt.target)-2]: text(hello)})
		_, err := read(t.Context(), newClient(t, registry.Config{WrapTransport: instead(w)}), content.Repo{Ref: ref, Cred: noCredential}, helloBlob())
		if tt.ok {
			assert.NoError(t, err, "%s to %s", tt.image, tt.target)
		} else {
			assert.ErrorIs(t, err, content.ErrForbiddenURL, "%s to %s", tt.image, tt.target)
		}
	}
}

// A blob may be redirected from https to http if the caller has listed the storage host.
// The request has no Authorization, and the bytes are verified. A manifest may not be
// redirected in this way. The error says how to allow it for blobs.
func TestOnlyBlobsAreRedirectedToListedHostsOverHTTP(t *testing.T) {
	ref := reference.MustParse("reg.example/app:v1")
	storage := func(target string) (*world, map[string]http.HandlerFunc) {
		servers := map[string]http.HandlerFunc{
			"https://reg.example":         signedIn(`Basic realm="r"`, redirectTo(target)),
			"http://storage.example":      text(hello),
			"http://storage.example:80":   text(hello),
			"http://storage.example:9000": redirectTo("https://cdn.example/y"),
			"https://cdn.example":         text(hello),
		}
		return newWorld(servers), servers
	}
	for _, tt := range []struct {
		target string
		listed []string
		ok     bool
	}{
		{"http://storage.example/x?sig=1", []string{"storage.example"}, true},
		{"http://storage.example:80/x", []string{"storage.example"}, true},
		{"http://storage.example/x", []string{"http://storage.example:80/"}, true},
		{"http://storage.example:9000/x", []string{"storage.example:9000"}, true},
		{"http://storage.example:9000/x", []string{"storage.example"}, false},
		{"http://storage.example/x", []string{"example", "other.example"}, false},
		{"http://storage.example/x", nil, false},
	} {
		w, _ := storage(tt.target)
		c := newClient(t, registry.Config{WrapTransport: instead(w), PlainHTTP: tt.listed})
		data, err := read(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, helloBlob())
		if !tt.ok {
			assert.ErrorIs(t, err, content.ErrForbiddenURL, tt.target)
			assert.ErrorContains(t, err, "to allow it for blobs, list that host in Config.PlainHTTP")
			continue
		}
		require.NoError(t, err, tt.target)
		assert.Equal(t, hello, string(data))
		for _, line := range w.asked()[2:] {
			assert.NotContains(t, line, "Basic")
		}
		_, err = c.Manifest(t.Context(), content.Repo{Ref: ref, Cred: robot}, "")
		assert.ErrorIs(t, err, content.ErrForbiddenURL, "a manifest is not redirected to http")
		assert.NotContains(t, err.Error(), "PlainHTTP")
	}
}

// An endlessBody sends three bytes a second until it is closed.
type endlessBody struct{ closed chan struct{} }

func (b *endlessBody) Read(p []byte) (int, error) {
	select {
	case <-b.closed:
		return 0, http.ErrBodyReadAfterClose
	case <-time.After(time.Second / 3):
		return copy(p, "."), nil
	}
}

func (b *endlessBody) Close() error {
	select {
	case <-b.closed:
	default:
		close(b.closed)
	}
	return nil
}

// The body of a redirect is read for a second and then closed. Then the redirect is followed.
func TestTheBodyOfARedirectIsReadForASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := &endlessBody{closed: make(chan struct{})}
		tr := &timed{steps: []func(*http.Request) (*http.Response, error){func(req *http.Request) (*http.Response, error) {
			resp, err := code(307, "Location", "https://cdn.example/x")(req)
			resp.Body = body
			return resp, err
		}, raw(200, 5, io.EOF, hello)}}
		began := time.Now()
		data, err := read(t.Context(), newClient(t, registry.Config{WrapTransport: instead(tr)}), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: noCredential}, helloBlob())
		require.NoError(t, err)
		assert.Equal(t, hello, string(data))
		assert.Len(t, tr.at, 2)
		assert.LessOrEqual(t, time.Since(began), 1500*time.Millisecond)
	})
}

// This is TestTheBodyOfARedirectIsReadForASecond over real connections, by HTTP/1.1 and
// by HTTP/2.
func TestTheBodyOfARedirectIsReadForASecondOverTCP(t *testing.T) {
	for _, secure := range []bool{false, true} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/x" {
				text(hello)(w, r)
				return
			}
			redirectTo("/x")(w, r)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}))
		server.EnableHTTP2 = secure
		cfg := registry.Config{StallTimeout: time.Second}
		if secure {
			server.StartTLS()
			cfg.RootCAs = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
		} else {
			server.Start()
			cfg.PlainHTTP = []string{server.Listener.Addr().String()}
		}
		c := newClient(t, cfg)
		data, err := read(t.Context(), c, content.Repo{Ref: reference.MustParse(server.Listener.Addr().String() + "/app:v1"), Cred: noCredential}, helloBlob())
		require.NoError(t, err)
		assert.Equal(t, hello, string(data))
		c.CloseIdleConnections()
		server.Close()
	}
}

// If a token has characters that no header can carry, the error counts against the
// credential, and the next credential is tried. If a configured header or the User-Agent
// has them, New fails. Nothing is sent, the client does not wait, and no error shows the
// value.
func TestARequestWithAHeaderThatCannotBeSentIsNotSent(t *testing.T) {
	ref := reference.MustParse("reg.example/app:v1")
	for _, token := range []string{"CANARY\r\nX: y", "CANARY\x00", "CANARY\x7f", "\x01CANARY"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(map[string]http.HandlerFunc{"https://reg.example": signedIn(`Basic realm="r"`, serveAll)})
			c := newClient(t, registry.Config{WrapTransport: instead(w)})
			began := time.Now()
			bad := credentials.Credential{RegistryToken: credentials.Conceal(token)}
			var last error
			_, err := credentials.Each(t.Context(), credentials.Static{bad, robot}, ref, func(ctx context.Context, cred credentials.Credential) (struct{}, error) {
				_, err := read(ctx, c, content.Repo{Ref: ref, Cred: cred}, helloBlob())
				if err != nil {
					last = err
				}
				return struct{}{}, err
			})
			require.NoError(t, err, "the next credential is tried")
			assert.ErrorIs(t, last, content.ErrUnauthorized)
			assert.NotContains(t, last.Error(), "CANARY")
			assert.Zero(t, time.Since(began))
			assert.Len(t, w.asked(), 2, "the two requests with the good credential")
		})
	}
	for name, cfg := range map[string]registry.Config{
		"value":      {Registries: map[string]registry.Hosts{"reg.example": {Server: registry.Host{Header: http.Header{"X-A": {"CANARY\x01"}}}}}},
		"name":       {Registries: map[string]registry.Hosts{"reg.example": {Server: registry.Host{Header: http.Header{"X A": {"CANARY"}}}}}},
		"a mirror's": {Registries: map[string]registry.Hosts{"reg.example": {Mirrors: []registry.Host{{URL: "m.example", Header: http.Header{"X-A": {"CANARY\x7f"}}}}}}},
		"user agent": {UserAgent: "a\r\nb"},
	} {
		_, err := registry.New(cfg)
		if assert.ErrorContains(t, err, "that no header can", name) {
			assert.NotContains(t, err.Error(), "CANARY", name)
		}
	}
}

// A configuration cannot set a header that HTTP/2 refuses or that net/http drops.
func TestHeadersOfTheConnectionCannotBeConfigured(t *testing.T) {
	for _, name := range []string{"Connection", "connection", "Transfer-Encoding", "Upgrade", "TE", "Host", "Content-Length", "Keep-Alive", "Proxy-Connection", "Trailer"} {
		_, err := registry.New(registry.Config{Registries: map[string]registry.Hosts{"reg.example": {Server: registry.Host{Header: http.Header{name: {"CANARY"}}}}}})
		if assert.ErrorContains(t, err, "cannot be configured", name) {
			assert.NotContains(t, err.Error(), "CANARY", name)
		}
		dir := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(dir, "reg.example"), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "reg.example", "hosts.toml"), []byte("[header]\n"+name+" = \"CANARY\""), 0o600))
		w := newWorld(map[string]http.HandlerFunc{"https://reg.example": text(hello)})
		_, err = read(t.Context(), newClient(t, registry.Config{HostsReader: certsd.Dir(dir), WrapTransport: instead(w)}), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: noCredential}, helloBlob())
		assert.ErrorIs(t, err, content.ErrConfig, name)
		assert.NotContains(t, fmt.Sprint(err), "CANARY", name)
		assert.Empty(t, w.asked(), name)
	}
}
