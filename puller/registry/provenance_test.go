package registry_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/reference"
)

// A token that the server gave without a password does not open private content. A credential
// that was sent although the server did not ask for it counts as used, because the server may
// look at it.
func TestAnAnonymousTokenIsNoCredential(t *testing.T) {
	realm := `Bearer realm="https://auth.example/token",service="s"`
	for name, tt := range map[string]struct {
		server http.HandlerFunc
		cred   credentials.Credential
		want   content.Provenance
	}{
		"open":                            {serveAll, noCredential, content.Provenance{Registry: true, Anonymous: true}},
		"a token without a password":      {signedIn(realm, serveAll), noCredential, content.Provenance{Registry: true, Anonymous: true}},
		"a token for a password":          {signedIn(realm, serveAll), robot, content.Provenance{Registry: true}},
		"a password":                      {signedIn("Basic realm=r", serveAll), robot, content.Provenance{Registry: true}},
		"a password, and nobody asked it": {serveAll, robot, content.Provenance{Registry: true}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(map[string]http.HandlerFunc{"https://reg.example": tt.server, "https://auth.example": text(`{"token":"a-token"}`)})
			c := newClient(t, registry.Config{WrapTransport: instead(w)})
			repo := content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: tt.cred}
			doc, err := c.Manifest(t.Context(), repo, "")
			require.NoError(t, err)
			assert.Equal(t, tt.want, doc.Provenance)
			body, err := c.Blob(t.Context(), repo, helloBlob(), 0, -1)
			require.NoError(t, err)
			_, err = io.ReadAll(body)
			require.NoError(t, err)
			require.NoError(t, body.Close())
			assert.Equal(t, tt.want, body.Provenance())
		})
	}
}

// If a mirror sent the first half of a blob, the blob is not from the registry, even if the
// registry sent the rest. If a mirror sent bytes for a request with a header of the
// configuration, the blob is not anonymous.
func TestTheProvenanceOfABlobIsThatOfAllItsParts(t *testing.T) {
	half := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "5")
		_, _ = io.WriteString(w, hello[:3])
	}
	_, c := mirrored(half, half, func(w http.ResponseWriter, r *http.Request) {
		assert.NotEmpty(t, r.Header.Get("Range"))
		w.Header().Set("Content-Range", "bytes 3-4/5")
		w.WriteHeader(http.StatusPartialContent)
		_, _ = io.WriteString(w, hello[3:])
	})
	body, err := c.Blob(t.Context(), content.Repo{Ref: reference.MustParse("reg.example/app:v1")}, helloBlob(), 0, -1)
	require.NoError(t, err)
	data, err := io.ReadAll(body)
	require.NoError(t, err)
	require.NoError(t, body.Close())
	assert.Equal(t, hello, string(data))
	assert.False(t, body.Provenance().Registry)
}
