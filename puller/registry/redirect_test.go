package registry_test

import (
	"net/http"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/reference"
)

const hello = "hello" // the content of each blob in these tests

func helloBlob() ocispec.Descriptor {
	return ocispec.Descriptor{Digest: "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", Size: 5}
}

const helloPath = "/v2/app/blobs/sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

func TestRedirects(t *testing.T) {
	ref := reference.MustParse("reg.example/app:v1")
	home := "GET https://reg.example" + helloPath
	basic := `Basic realm="r"`
	for _, tt := range []struct {
		name    string
		servers map[string]http.HandlerFunc
		want    content.Kind
		asked   []string
	}{
		{"elsewhere, without Authorization", map[string]http.HandlerFunc{
			"https://reg.example": signedIn(basic, redirectTo("https://cdn.example/x?sig=1")),
			"https://cdn.example": text(hello),
		}, "", []string{home, home + " Basic", "GET https://cdn.example/x?sig=1"}},
		{"another port is elsewhere", map[string]http.HandlerFunc{
			"https://reg.example":      signedIn(basic, redirectTo("https://reg.example:8443/x")),
			"https://reg.example:8443": text(hello),
		}, "", []string{home, home + " Basic", "GET https://reg.example:8443/x"}},
		{"a subdomain is elsewhere", map[string]http.HandlerFunc{
			"https://reg.example":     signedIn(basic, redirectTo("https://cdn.reg.example/x")),
			"https://cdn.reg.example": text(hello),
		}, "", []string{home, home + " Basic", "GET https://cdn.reg.example/x"}},
		{"the same origin spelled otherwise", map[string]http.HandlerFunc{
			"https://reg.example": signedIn(basic, func(w http.ResponseWriter, r *http.Request) {
				redirectTo("https://REG.example:443/x")(w, r)
			}),
			"https://REG.example:443": text(hello),
		}, "", []string{home, home + " Basic", "GET https://REG.example:443/x Basic"}},
		{"there and back: no Authorization any more", map[string]http.HandlerFunc{
			"https://reg.example": signedIn(basic, func(w http.ResponseWriter, r *http.Request) {
				redirectTo("https://other.example/")(w, r)
			}),
			"https://other.example": redirectTo("https://reg.example/back"),
		}, content.ErrUnauthorized, []string{home, home + " Basic", "GET https://other.example/", "GET https://reg.example/back"}},
		{"a challenge elsewhere is not answered", map[string]http.HandlerFunc{
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
		{"nowhere", map[string]http.HandlerFunc{
			"https://reg.example": redirectTo(""),
		}, content.ErrRedirect, []string{home}},
		{"no URL", map[string]http.HandlerFunc{
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
		{"status without a meaning", map[string]http.HandlerFunc{
			"https://reg.example": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) },
		}, content.ErrStatus, []string{home}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(tt.servers)
			var tr trace
			c := &registry.Client{Transport: w, Logger: tr.logger()}
			data, err := read(t.Context(), c, ref, robot, helloBlob())
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

func TestPrivateRedirects(t *testing.T) {
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
		_, err := read(t.Context(), &registry.Client{Transport: w}, ref, nobody, helloBlob())
		if tt.ok {
			assert.NoError(t, err, "%s to %s", tt.image, tt.target)
		} else {
			assert.ErrorIs(t, err, content.ErrForbiddenURL, "%s to %s", tt.image, tt.target)
		}
	}
}
