package registry_test

import (
	"encoding/base64"
	"fmt"
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

// logins returns a keyring of pull secrets, given as server, user and password.
func logins(t *testing.T, list ...[3]string) credentials.Keyring {
	t.Helper()
	var rings []credentials.Keyring
	for _, l := range list {
		ring, err := credentials.Login(l[0], l[1], credentials.Conceal(l[2]))
		require.NoError(t, err)
		rings = append(rings, ring)
	}
	return credentials.Join(rings...)
}

// needsLogin lets only the user in, by Basic.
func needsLogin(user string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if name, _, _ := r.BasicAuth(); name != user {
			challenge("Basic realm=m")(w, r)
			return
		}
		h(w, r)
	}
}

// secretsSeen returns the user names and passwords that each host got.
func secretsSeen(w *world) map[string][]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := map[string][]string{}
	for _, r := range w.seen {
		if encoded, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Basic "); ok {
			data, _ := base64.StdEncoding.DecodeString(encoded)
			seen[r.URL.Host] = append(seen[r.URL.Host], string(data))
		}
	}
	return seen
}

// A mirror gets the credentials that the keyring of the request has for the mirror's own name,
// and then those that the node has for it. It never gets the registry's credential.
func TestAMirrorIsShownTheCredentialsOfTheRequestForItsName(t *testing.T) {
	node := logins(t, [3]string{"m1.example", "node", "node-pw"}, [3]string{"m2.example/proxy", "node", "node-pw2"})
	ring := logins(t, [3]string{"reg.example", "pod", "reg-pw"}, [3]string{"m1.example", "pod", "m1-pw"}, [3]string{"m2.example/other", "pod", "other-pw"})
	repo := content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Mirrors: ring,
		Cred: credentials.Credential{Username: "pod", Password: credentials.Conceal("reg-pw")}}
	w, c := mirroredWith(node, needsLogin("node", serveAll), needsLogin("nobody", serveAll), needsLogin("pod", serveAll))

	names, err := c.MirrorNames(t.Context(), repo.Ref)
	require.NoError(t, err)
	var texts []string
	for _, name := range names {
		texts = append(texts, name.Name())
	}
	assert.Equal(t, []string{"m1.example/app", "m2.example/proxy/app"}, texts)

	_, err = read(t.Context(), c, repo, helloBlob())
	require.NoError(t, err)
	assert.Equal(t, map[string][]string{"m1.example": {"pod:m1-pw", "node:node-pw"}}, secretsSeen(w))
	w.asked()
	doc, err := c.Manifest(t.Context(), repo, "") // m1 does not resolve tags
	require.NoError(t, err)
	assert.Zero(t, doc.Opening, "the registry itself has answered")
	assert.Equal(t, map[string][]string{"m2.example": {"node:node-pw2"}, "reg.example": {"pod:reg-pw"}}, secretsSeen(w))
}

// The Opening of a document names the mirror that let the caller have it and the credential, and
// says whether the credential is of the request.
func TestADocumentSaysWhichMirrorOpenedIt(t *testing.T) {
	ref := reference.MustParse("reg.example/app:v1")
	for name, tt := range map[string]struct {
		mirror     http.HandlerFunc
		ring, node credentials.Keyring
		want       string
	}{
		"open":            {mirror: serveAll, want: "m2.example/proxy/app  false"},
		"the request's":   {mirror: needsLogin("pod", serveAll), ring: logins(t, [3]string{"m2.example", "pod", "pw"}), want: "m2.example/proxy/app pod true"},
		"the node's":      {mirror: needsLogin("node", serveAll), node: logins(t, [3]string{"m2.example", "node", "pw"}), want: "m2.example/proxy/app node false"},
		"both, of one":    {mirror: needsLogin("both", serveAll), ring: logins(t, [3]string{"m2.example", "both", "pw"}), node: logins(t, [3]string{"m2.example", "both", "pw"}), want: "m2.example/proxy/app both true"},
		"refused there":   {mirror: needsLogin("nobody", serveAll), ring: logins(t, [3]string{"m2.example", "pod", "pw"}), want: "  false"},
		"is not there":    {mirror: status(404), want: "  false"},
		"another mirrors": {mirror: needsLogin("pod", serveAll), ring: logins(t, [3]string{"m1.example", "pod", "pw"}), want: "  false"},
	} {
		t.Run(name, func(t *testing.T) {
			_, c := mirroredWith(tt.node, tt.mirror, tt.mirror, serveAll)
			for range 2 { // the second time from memory
				doc, err := c.Manifest(t.Context(), content.Repo{Ref: ref, Mirrors: tt.ring}, "")
				require.NoError(t, err)
				o := doc.Opening
				assert.Equal(t, tt.want, fmt.Sprint(o.Mirror, " ", o.Credential.Username, " ", o.OfRequest))
			}
		})
	}
}

// bearerMirror is a mirror with tokens, for one user and password. It numbers its tokens.
func bearerMirror(login string, tokens *int) http.HandlerFunc {
	good := map[string]bool{}
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token":
			user, password, _ := r.BasicAuth()
			if user+":"+password != login {
				status(http.StatusUnauthorized)(w, r)
				return
			}
			*tokens++
			token := fmt.Sprint("token", *tokens)
			good["Bearer "+token] = true
			fmt.Fprintf(w, `{"token":%q,"expires_in":3600}`, token)
		case good[r.Header.Get("Authorization")]:
			serveAll(w, r)
		default:
			challenge(`Bearer realm="https://m2.example/token",service="m"`)(w, r)
		}
	}
}

// A request does not use the credential or the token with which the keyring of another request
// has opened a mirror.
func TestTenantsDoNotUseWhatAnotherOneOpenedAtAMirror(t *testing.T) {
	ref := reference.MustParse("reg.example/app:v1")
	tokens := 0
	w, c := mirroredWith(nil, status(404), bearerMirror("pod:pw", &tokens), status(404))
	manifest := func(ring credentials.Keyring) error {
		_, err := c.Manifest(t.Context(), content.Repo{Ref: ref, Mirrors: ring}, "")
		return err
	}
	a := logins(t, [3]string{"m2.example", "pod", "pw"})
	for range 3 {
		require.NoError(t, manifest(a))
	}
	assert.Equal(t, 1, tokens, "one tenant uses its token again")
	for name, ring := range map[string]credentials.Keyring{
		"none":             nil,
		"no entry":         logins(t, [3]string{"other.example", "pod", "pw"}),
		"a wrong password": logins(t, [3]string{"m2.example", "pod", "guess"}),
		"no fingerprint":   noPrint{logins(t, [3]string{"m2.example", "pod", "guess"})},
	} {
		require.NoError(t, manifest(a))
		w.asked()
		assert.ErrorIs(t, manifest(ring), content.ErrNotFound, name)
		for _, line := range w.asked() {
			assert.NotContains(t, line, "Bearer", name)
		}
	}
	assert.Equal(t, 1, tokens)
	// Another keyring with the same credential, and with one more for the mirror, gets a token of
	// its own.
	require.NoError(t, manifest(logins(t, [3]string{"m2.example", "pod", "pw"}, [3]string{"m2.example/app", "more", "pw"})))
	assert.Equal(t, 2, tokens)
	require.NoError(t, manifest(logins(t, [3]string{"m2.example", "pod", "pw"})))
	assert.Equal(t, 2, tokens, "a keyring with the same entries is the same tenant")
	// A keyring without a fingerprint works, but its credentials are not remembered.
	require.NoError(t, manifest(noPrint{a}))
}

// noPrint hides the fingerprint of a keyring.
type noPrint struct{ credentials.Keyring }

// With NoMirrorForPrivate, a call with a credential asks only the registry. In a call without a
// credential, the mirrors get the node's credentials, and not those of the request.
func TestNoMirrorForPrivate(t *testing.T) {
	w := newWorld(map[string]http.HandlerFunc{"https://m.example": needsLogin("node", serveAll), "https://reg.example": serveAll, "https://other.example": serveAll})
	c := newClient(t, registry.Config{NoMirrorForPrivate: true, WrapTransport: instead(w),
		MirrorKeyring: logins(t, [3]string{"m.example", "node", "pw"}),
		Registries: map[string]registry.Hosts{
			"reg.example":   {Mirrors: []registry.Host{{URL: "https://m.example"}}},
			"moved.example": {Server: registry.Host{URL: "https://other.example"}},
		}})
	ring := logins(t, [3]string{"m.example", "pod", "pw"})
	ref := reference.MustParse("reg.example/app:v1")
	names, err := c.MirrorNames(t.Context(), ref)
	require.NoError(t, err)
	assert.Empty(t, names)
	for _, cred := range []credentials.Credential{robot, {IdentityToken: credentials.Conceal("t")}, {RegistryToken: credentials.Conceal("t")}} {
		doc, err := c.Manifest(t.Context(), content.Repo{Ref: ref, Cred: cred, Mirrors: ring}, "")
		require.NoError(t, err)
		assert.Zero(t, doc.Opening)
		_, err = read(t.Context(), c, content.Repo{Ref: ref, Cred: cred, Mirrors: ring}, helloBlob())
		require.NoError(t, err)
		for _, line := range w.asked() {
			assert.Contains(t, line, "https://reg.example")
		}
	}
	doc, err := c.Manifest(t.Context(), content.Repo{Ref: ref, Mirrors: ring}, "")
	require.NoError(t, err)
	assert.Equal(t, "m.example/app", doc.Opening.Mirror)
	assert.Equal(t, map[string][]string{"m.example": {"node:pw"}}, secretsSeen(w))

	_, err = c.Manifest(t.Context(), content.Repo{Ref: reference.MustParse("moved.example/app:v1"), Cred: robot}, "")
	assert.ErrorIs(t, err, content.ErrConfig)
	assert.ErrorContains(t, err, "NoMirrorForPrivate")
}

// A mirror whose host cannot be in an image name is asked without a credential, because a keyring
// could answer only for the registry, or for another host.
func TestAHostThatNoNameCanHaveGetsNoCredential(t *testing.T) {
	w := newWorld(map[string]http.HandlerFunc{"http://under_score": serveAll, "http://cache": serveAll, "https://reg.example": serveAll})
	get := func(host string, ring credentials.Keyring) map[string][]string {
		c := newClient(t, registry.Config{WrapTransport: instead(w), MirrorKeyring: ring, Registries: map[string]registry.Hosts{
			"reg.example": {Mirrors: []registry.Host{{URL: host}}}}})
		_, err := c.Manifest(t.Context(), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Mirrors: ring}, "")
		require.NoError(t, err)
		defer w.asked()
		return secretsSeen(w)
	}
	everywhere := logins(t, [3]string{"reg.example", "pod", "reg-pw"}, [3]string{"docker.io", "pod", "hub-pw"}, [3]string{"cache:80", "pod", "cache-pw"})
	assert.Empty(t, get("http://under_score", everywhere))
	assert.Empty(t, get("http://under_score/proxy", everywhere))
	w.servers["http://cache"] = needsLogin("pod", serveAll)
	assert.Equal(t, map[string][]string{"cache": {"pod:cache-pw"}}, get("http://cache", everywhere), "a name needs the port")
}
