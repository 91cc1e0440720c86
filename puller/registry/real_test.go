package registry_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/reference"
)

// realImage is a manifest with a config and one layer.
type realImage struct {
	manifest []byte
	blobs    [][]byte
	descs    []ocispec.Descriptor
}

func newRealImage(t *testing.T, layer int) realImage {
	random := make([]byte, layer)
	_, err := io.ReadFull(rand.NewChaCha8([32]byte{7}), random)
	require.NoError(t, err)
	im := realImage{blobs: [][]byte{[]byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`), random}}
	for i, b := range im.blobs {
		im.descs = append(im.descs, ocispec.Descriptor{
			MediaType: []string{ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayer}[i],
			Digest:    digest.Digest(fmt.Sprintf("sha256:%x", sha256.Sum256(b))), Size: int64(len(b)),
		})
	}
	im.manifest, err = json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "config": im.descs[0], "layers": im.descs[1:]})
	require.NoError(t, err)
	return im
}

// seed fills the storage of a registry without authentication, and returns the storage, so
// that a registry with authentication can be started on it.
func (im realImage) seed(t *testing.T) (dir string) {
	open := realtest.StartRegistry(t, realtest.RegistryConfig{})
	im.push(t, open)
	open.Stop()
	return open.Dir
}

func (im realImage) push(t *testing.T, r *realtest.DockerRegistry) {
	r.Push(t, "team/app", "v1", ocispec.MediaTypeImageManifest, im.manifest, im.blobs...)
}

func (im realImage) pull(t *testing.T, c *registry.Client, repo content.Repo) error {
	doc, err := c.Manifest(t.Context(), repo, "")
	if err != nil {
		return err
	}
	assert.Equal(t, im.manifest, doc.Body)
	assert.True(t, verify.Bytes(doc.Desc.Digest, doc.Body))
	again, err := c.Manifest(t.Context(), repo, doc.Desc.Digest)
	if err != nil {
		return err
	}
	assert.Nil(t, again.Body)
	assert.Equal(t, doc.Desc, again.Desc)
	for i, d := range im.descs {
		data, err := read(t.Context(), c, repo, d)
		if err != nil {
			return err
		}
		assert.True(t, bytes.Equal(im.blobs[i], data), "blob %d", i)
	}
	return nil
}

// The registry serves HTTP/2 over TLS, with a certificate of its own authority.
func TestPullFromDockerRegistryWithPasswords(t *testing.T) {
	im := newRealImage(t, 3<<20)
	ca := realtest.NewCA(t)
	r := realtest.StartRegistry(t, realtest.RegistryConfig{Dir: im.seed(t), CA: ca, Htpasswd: map[string]string{"robot": "s3cret-pass"}})
	ref := reference.MustParse(r.Host + "/team/app:v1")

	var tr trace
	c := newClient(t, registry.Config{RootCAs: ca.Pool, Logger: tr.logger()})
	defer c.CloseIdleConnections()
	require.NoError(t, im.pull(t, c, content.Repo{Ref: ref, Cred: robot}))
	assert.Equal(t, []string{"HTTP/2.0", "HTTP/1.1"}, tr.protocols, "HTTP/1.1 is for the layer")

	assert.ErrorIs(t, im.pull(t, c, content.Repo{Ref: ref, Cred: noCredential}), content.ErrUnauthorized)
	wrong := credentials.Credential{Username: "robot", Password: credentials.Conceal("wrong-pass")}
	assert.ErrorIs(t, im.pull(t, c, content.Repo{Ref: ref, Cred: wrong}), content.ErrUnauthorized)
	absent := reference.MustParse(r.Host + "/team/app:absent")
	assert.ErrorIs(t, im.pull(t, c, content.Repo{Ref: absent, Cred: robot}), content.ErrNotFound)

	stranger := newClient(t, registry.Config{})
	defer stranger.CloseIdleConnections()
	assert.ErrorIs(t, im.pull(t, stranger, content.Repo{Ref: ref, Cred: robot}), content.ErrTLS, "the authority is not known, and plain http is not tried")
}

// The tokens are from a token server on another port, over TLS.
func TestPullFromDockerRegistryWithTokens(t *testing.T) {
	im := newRealImage(t, 1<<20)
	ca := realtest.NewCA(t)
	issuer := realtest.StartIssuer(t, ca, map[string]string{"robot": "s3cret-pass"})
	r := realtest.StartRegistry(t, realtest.RegistryConfig{Dir: im.seed(t), CA: ca, Issuer: issuer})
	ref := reference.MustParse(r.Host + "/team/app:v1")
	c := newClient(t, registry.Config{RootCAs: ca.Pool})
	defer c.CloseIdleConnections()

	require.NoError(t, im.pull(t, c, content.Repo{Ref: ref, Cred: robot}))
	all, posts := issuer.Requests()
	assert.Equal(t, []int{1, 0}, []int{all, posts}, "one token for all requests, by GET")

	identity := credentials.Credential{IdentityToken: credentials.Conceal("identity:s3cret-pass")}
	require.NoError(t, im.pull(t, c, content.Repo{Ref: ref, Cred: identity}))
	all, posts = issuer.Requests()
	assert.Equal(t, []int{2, 1}, []int{all, posts}, "the identity token is exchanged by POST")

	wrong := credentials.Credential{Username: "robot", Password: credentials.Conceal("wrong-pass")}
	assert.ErrorIs(t, im.pull(t, c, content.Repo{Ref: ref, Cred: wrong}), content.ErrUnauthorized)
	assert.ErrorIs(t, im.pull(t, c, content.Repo{Ref: ref, Cred: noCredential}), content.ErrUnauthorized, "an anonymous token opens no repository of this registry")
}

// A pull-through cache is killed in the middle of a blob. The registry is asked for the rest.
func TestTheRegistryGoesOnWhereAKilledCacheStopped(t *testing.T) {
	im := newRealImage(t, 32<<20)
	origin := realtest.StartRegistry(t, realtest.RegistryConfig{})
	im.push(t, origin)
	cache := realtest.StartRegistry(t, realtest.RegistryConfig{Remote: origin.URL})
	ref := reference.MustParse(origin.Host + "/team/app:v1")
	var tr trace
	c := newClient(t, registry.Config{PlainHTTP: []string{origin.Host}, Logger: tr.logger(),
		Registries: map[string]registry.Hosts{origin.Host: {Mirrors: []registry.Host{{URL: cache.URL}}}}})
	defer c.CloseIdleConnections()

	doc, err := c.Manifest(t.Context(), content.Repo{Ref: ref, Cred: noCredential}, "")
	require.NoError(t, err)
	assert.Equal(t, im.manifest, doc.Body)
	layer := im.descs[1]
	body, err := c.Blob(t.Context(), content.Repo{Ref: ref, Cred: noCredential}, layer, 0, -1)
	require.NoError(t, err)
	assert.Zero(t, body.Start)
	data := make([]byte, 1<<20)
	_, err = io.ReadFull(body, data)
	require.NoError(t, err)
	cache.Stop()
	rest, err := io.ReadAll(body)
	require.NoError(t, err)
	require.NoError(t, body.Close())
	assert.True(t, bytes.Equal(im.blobs[1], append(data, rest...)))

	tr.mu.Lock()
	defer tr.mu.Unlock()
	assert.Equal(t, []string{"GET manifest 200", "GET blob 200", "GET blob", "GET blob 206"}, tr.requests, "the cache, the cache after it was killed, then the registry for the rest")
}

// A registry and its mirror have different users. Each Pod opens the mirror only with its own
// secret for the mirror.
func TestPodsOpenARealMirrorWithTheirOwnSecrets(t *testing.T) {
	im := newRealImage(t, 1<<20)
	ca := realtest.NewCA(t)
	dir := im.seed(t)
	origin := realtest.StartRegistry(t, realtest.RegistryConfig{Dir: dir, CA: ca, Htpasswd: map[string]string{"robot": "s3cret-pass"}})
	mirror := realtest.StartRegistry(t, realtest.RegistryConfig{Dir: dir, CA: ca, Htpasswd: map[string]string{"alice": "mirror-a", "bob": "mirror-b"}})
	ref := reference.MustParse(origin.Host + "/team/app:v1")
	c := newClient(t, registry.Config{RootCAs: ca.Pool, Registries: map[string]registry.Hosts{origin.Host: {Mirrors: []registry.Host{{URL: mirror.URL}}}}})
	defer c.CloseIdleConnections()
	for range 2 {
		for user, password := range map[string]string{"alice": "mirror-a", "bob": "mirror-b"} {
			repo := content.Repo{Ref: ref, Mirrors: logins(t, [3]string{mirror.Host, user, password}, [3]string{origin.Host, user, "not this one"})}
			require.NoError(t, im.pull(t, c, repo))
			doc, err := c.Manifest(t.Context(), repo, "")
			require.NoError(t, err)
			assert.Equal(t, user, doc.Opening.Credential.Username)
		}
		// A Pod without a secret for the mirror, or with a wrong one, gets content only from the
		// registry.
		for _, ring := range []credentials.Keyring{nil, logins(t, [3]string{mirror.Host, "alice", "guess"}), logins(t, [3]string{origin.Host, "alice", "mirror-a"})} {
			assert.ErrorIs(t, im.pull(t, c, content.Repo{Ref: ref, Mirrors: ring}), content.ErrUnauthorized)
			require.NoError(t, im.pull(t, c, content.Repo{Ref: ref, Cred: robot, Mirrors: ring}))
		}
	}
}
