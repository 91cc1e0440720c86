package registry_test

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/reference"
)

// A server that got a secret repeats it in every part of its answers. No error and no log
// has the secret or half of it.
func TestSecretsThatAServerRepeatsAreMasked(t *testing.T) {
	const long = "SECRET" // not even the beginning of this secret may be shown
	secret := long + strings.Repeat("x", 60) + "end"
	far := strings.Repeat("y", 20) + secret // half of it would be cut off
	status := func(code int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
		}
	}
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
	}{
		{"status", status(403)},
		{"encoding", status(200, "Content-Encoding", far)},
		{"digest", status(200, "Docker-Content-Digest", "sha256:"+far)},
		{"no digest", status(200, "Docker-Content-Digest", far)},
		{"media type", status(200, "Content-Type", "application/"+far)},
		{"challenge with an odd end", status(401, "WWW-Authenticate", `Bearer realm="https://reg.example/token" `+far)},
		{"malformed challenge", status(401, "WWW-Authenticate", `"`+far)},
		{"parameter without a scheme", status(401, "WWW-Authenticate", far+"=1")},
		{"parameter twice", status(401, "WWW-Authenticate", "Bearer "+far+"=1,"+far+"=2")},
		{"realm's host", status(401, "WWW-Authenticate", `Bearer realm="http://`+far+`/token"`)},
		{"realm's scheme", status(401, "WWW-Authenticate", `Bearer realm="`+far+`://x/token"`)},
		{"realm's path", status(401, "WWW-Authenticate", `Bearer realm="ftp://x/`+far+`"`)},
		{"realm that is no URL", status(401, "WWW-Authenticate", `Bearer realm="https://%zz/`+far+`"`)},
		{"realm with user info", status(401, "WWW-Authenticate", `Bearer realm="https://a:b@`+far+`/"`)},
		{"redirect to a host", redirectTo("https://" + far + "/")},
		{"redirect to a path", redirectTo("https://reg.example/" + strings.Repeat("z", 970) + secret)},
		{"redirect with user info", redirectTo("https://a:b@" + far + "/")},
		{"redirect to http", redirectTo("http://" + far + "/")},
		{"redirect to a scheme", redirectTo(far + "://x/")},
		{"redirect that is no URL", redirectTo("https://x/%zz" + far)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			handler := func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, "/zzz") {
					w.WriteHeader(http.StatusForbidden)
					return
				}
				if r.Header.Get("Authorization") == "" {
					challenge(`Basic realm="r"`)(w, r)
					return
				}
				if r.URL.Path != "/v2/app/manifests/first" {
					tt.answer(w, r)
					return
				}
				w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
				_, _ = w.Write([]byte(`{"schemaVersion":2}`))
			}
			var log strings.Builder
			c := newClient(t, registry.Config{WrapTransport: instead(newWorld(map[string]http.HandlerFunc{"https://reg.example": handler})), Retries: -1,
				Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
			cred := credentials.Credential{Username: "robot", Password: credentials.Conceal(secret)}
			_, err := c.Manifest(t.Context(), content.Repo{Ref: reference.MustParse("reg.example/app:first"), Cred: cred}, "")
			require.NoError(t, err, "after this the client sends the password with the first request")
			_, err = c.Manifest(t.Context(), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: cred}, "")
			require.Error(t, err)
			assert.NotEmpty(t, content.ReasonOf(err))
			assert.NotContains(t, strings.ToLower(err.Error()), strings.ToLower(long))
			assert.NotContains(t, strings.ToLower(log.String()), strings.ToLower(long))
		})
	}
}

// A token that was refused is still masked.
func TestATokenThatWasRefusedIsMasked(t *testing.T) {
	tokens := 0
	w := newWorld(map[string]http.HandlerFunc{"https://reg.example": func(w http.ResponseWriter, r *http.Request) {
		switch auth := r.Header.Get("Authorization"); {
		case r.URL.Path == "/token":
			tokens++
			text(`{"token":"secret-token-`+strings.Repeat("i", tokens)+`."}`)(w, r)
		case strings.HasSuffix(r.URL.Path, "/first") && auth != "":
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			text(`{"schemaVersion":2}`)(w, r)
		case auth != "Bearer secret-token-ii.":
			challenge(`Bearer realm="https://reg.example/token"`)(w, r)
		default:
			w.WriteHeader(http.StatusForbidden)
			text(`{"errors":[{"code":"DENIED","message":"before you sent secret-token-i."}]}`)(w, r)
		}
	}})
	c := newClient(t, registry.Config{WrapTransport: instead(w)})
	_, err := c.Manifest(t.Context(), content.Repo{Ref: reference.MustParse("reg.example/app:first"), Cred: noCredential}, "")
	require.NoError(t, err)
	_, err = c.Manifest(t.Context(), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: noCredential}, "")
	require.ErrorIs(t, err, content.ErrDenied)
	assert.Contains(t, err.Error(), "before you sent [redacted]")
}

// A host that is written as a cloud metadata address is refused, even if a proxy or the
// caller's transport makes the connections.
func TestARegistryAtAMetadataAddressIsRefused(t *testing.T) {
	w := newWorld(map[string]http.HandlerFunc{"https://169.254.169.254": text(hello)})
	_, err := newClient(t, registry.Config{WrapTransport: instead(w)}).Manifest(t.Context(), content.Repo{Ref: reference.MustParse("169.254.169.254/app:v1"), Cred: noCredential}, "")
	assert.ErrorIs(t, err, content.ErrForbiddenURL)
	assert.Empty(t, w.asked())
}
