package notation_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/notaryproject/notation-core-go/signature"
	"github.com/notaryproject/notation-core-go/signature/jws"
	"github.com/notaryproject/notation-go"
	notationregistry "github.com/notaryproject/notation-go/registry"
	"github.com/notaryproject/notation-go/signer"
	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	check "github.com/pullkit/pullkit/examples/notation"
	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// An identity is a certificate with its key and its authority.
type identity struct {
	key   *ecdsa.PrivateKey
	chain []*x509.Certificate
}

func newIdentity(t *testing.T, authority *identity, name string, until time.Time) *identity {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: until,
		Subject: pkix.Name{CommonName: name, Country: []string{"NL"}, Province: []string{"NH"}, Organization: []string{"Team"}},
	}
	parent, parentKey := template, key
	if authority == nil {
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	} else {
		template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
		parent, parentKey = authority.chain[0], authority.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	id := &identity{key: key, chain: []*x509.Certificate{cert}}
	if authority != nil {
		id.chain = append(id.chain, authority.chain...)
	}
	return id
}

// A world is a docker-registry with a password, over TLS. It has no referrers API.
type world struct {
	*realtest.DockerRegistry
	ca   *realtest.CA
	repo *remote.Repository
}

func newWorld(t *testing.T) *world {
	ca := realtest.NewCA(t)
	w := &world{ca: ca, DockerRegistry: realtest.StartRegistry(t, realtest.RegistryConfig{CA: ca, Htpasswd: map[string]string{"robot": "s3cret-pass"}})}
	var err error
	w.repo, err = remote.NewRepository(w.Host + "/team/app")
	require.NoError(t, err)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool}}
	t.Cleanup(transport.CloseIdleConnections)
	w.repo.Client = &auth.Client{Client: &http.Client{Transport: transport}, Credential: auth.StaticCredential(w.Host, auth.Credential{Username: "robot", Password: "s3cret-pass"})}
	return w
}

// image stores an image under a tag.
func (w *world) image(t *testing.T, tag string) ocispec.Descriptor {
	push := func(mediaType string, data []byte) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
		require.NoError(t, w.repo.Blobs().Push(t.Context(), d, bytes.NewReader(data)))
		return d
	}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: push(ocispec.MediaTypeImageConfig, []byte(`{"architecture":"amd64","os":"linux"}`)),
		Layers: []ocispec.Descriptor{push(ocispec.MediaTypeImageLayer, []byte("layer of "+tag))}}
	m.SchemaVersion = 2
	data, err := json.Marshal(m)
	require.NoError(t, err)
	d := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	require.NoError(t, w.repo.Manifests().PushReference(t.Context(), d, bytes.NewReader(data), tag))
	return d
}

// sign signs an image as the command notation does.
func (w *world) sign(t *testing.T, tag string, by *identity) {
	s, err := signer.NewGenericSigner(by.key, by.chain)
	require.NoError(t, err)
	_, err = notation.Sign(t.Context(), s, notationregistry.NewRepository(w.repo), notation.SignOptions{
		SignerSignOptions: notation.SignerSignOptions{SignatureMediaType: jws.MediaTypeEnvelope, ExpiryDuration: time.Hour},
		ArtifactReference: w.Host + "/team/app:" + tag,
	})
	require.NoError(t, err)
}

// attach stores a signature of target, made at a time, next to an image.
func (w *world) attach(t *testing.T, image, target ocispec.Descriptor, by *identity, at, until time.Time) {
	local, err := signature.NewLocalSigner(by.chain, by.key)
	require.NoError(t, err)
	env, err := signature.NewEnvelope(jws.MediaTypeEnvelope)
	require.NoError(t, err)
	payload, err := json.Marshal(map[string]any{"targetArtifact": target})
	require.NoError(t, err)
	data, err := env.Sign(&signature.SignRequest{Payload: signature.Payload{ContentType: "application/vnd.cncf.notary.payload.v1+json", Content: payload},
		Signer: local, SigningTime: at, Expiry: until, SigningScheme: signature.SigningSchemeX509, SigningAgent: "test"})
	require.NoError(t, err)
	_, _, err = notationregistry.NewRepository(w.repo).PushSignature(t.Context(), jws.MediaTypeEnvelope, data, image, map[string]string{"io.cncf.notary.x509chain.thumbprint#S256": "[]"})
	require.NoError(t, err)
}

func (w *world) pull(t *testing.T, store content.Store, c content.Check, tag string) (puller.Image, error) {
	source, err := registry.New(registry.Config{RootCAs: w.ca.Pool, Retries: -1})
	require.NoError(t, err)
	defer source.CloseIdleConnections()
	rt, err := transfer.New(transfer.Config{Store: store, Source: source})
	require.NoError(t, err)
	data, err := credentials.DockerConfig{Server: w.Host, Username: "robot", Password: credentials.Conceal("s3cret-pass")}.JSON()
	require.NoError(t, err)
	node, err := credentials.ParseFile(data, "config.json", credentials.Rules{})
	require.NoError(t, err)
	p, err := puller.New(puller.Config{Runtime: rt, Keyring: node, Admission: c})
	require.NoError(t, err)
	return p.Pull(t.Context(), puller.Request{Image: w.Host + "/team/app:" + tag})
}

const teamSubject = "x509.subject: C=NL, ST=NH, O=Team, CN=release"

func policy(level string) trustpolicy.Document {
	return trustpolicy.Document{Version: "1.0", TrustPolicies: []trustpolicy.TrustPolicy{{Name: "team", RegistryScopes: []string{"*"},
		SignatureVerification: trustpolicy.SignatureVerification{VerificationLevel: level}, TrustStores: []string{"ca:team"}, TrustedIdentities: []string{teamSubject}}}}
}

// Signatures are made and stored by notation-go and oras-go. The registry has no referrers
// API, so they are found by the tag.
func TestOnlyImagesThatTheTeamHasSignedAreUsed(t *testing.T) {
	w := newWorld(t)
	later := time.Now().Add(time.Hour)
	ca := newIdentity(t, nil, "authority", later)
	release, intern := newIdentity(t, ca, "release", later), newIdentity(t, ca, "intern", later)
	stranger := newIdentity(t, newIdentity(t, nil, "authority", later), "release", later)
	old := newIdentity(t, ca, "release", time.Now().Add(-time.Hour))
	c, err := check.New(policy("strict"), map[string][]*x509.Certificate{"ca:team": {ca.chain[0]}})
	require.NoError(t, err)

	now, other := time.Now().Add(-time.Minute), ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("other"), Size: 5}
	for tag, tt := range map[string]struct {
		sign func(image ocispec.Descriptor)
		want error
		why  string
	}{
		"signed":         {func(ocispec.Descriptor) { w.sign(t, "signed", release) }, nil, "CN=release,O=Team,ST=NH,C=NL"},
		"unsigned":       {nil, puller.ErrSignatureValidation, "the image is not signed"},
		"stranger":       {func(ocispec.Descriptor) { w.sign(t, "stranger", stranger) }, puller.ErrSignatureValidation, "does not contain any trusted certificate"},
		"intern":         {func(ocispec.Descriptor) { w.sign(t, "intern", intern) }, puller.ErrSignatureValidation, "signed by CN=intern"},
		"expired":        {func(d ocispec.Descriptor) { w.attach(t, d, d, release, now.Add(-2*time.Hour), now) }, puller.ErrSignatureValidation, "expired"},
		"old":            {func(d ocispec.Descriptor) { w.attach(t, d, d, old, now.Add(-24*time.Hour), later) }, puller.ErrSignatureValidation, "signed by CN=release"},
		"another-digest": {func(d ocispec.Descriptor) { w.attach(t, d, other, release, now, later) }, puller.ErrSignatureValidation, "content descriptor mismatch"},
	} {
		t.Run(tag, func(t *testing.T) {
			image := w.image(t, tag)
			if tt.sign != nil {
				tt.sign(image)
			}
			store := &pullertest.MemStore{}
			img, err := w.pull(t, store, c, tag)
			if tt.want == nil {
				require.NoError(t, err)
				assert.Contains(t, img.AdmittedBy, tt.why)
				return
			}
			refused(t, store, err, tt.want, tt.why, tag)
		})
	}
}

// refused checks the error of an image that was not admitted, and that nothing of it is
// stored.
func refused(t *testing.T, store content.Store, err, want error, why, tag string) {
	assert.ErrorIs(t, err, want)
	assert.ErrorContains(t, err, why)
	assert.ErrorContains(t, err, "notation, "+teamSubject, "the line names the identity")
	assert.NotContains(t, err.Error(), "\n")
	t.Log(err)
	layer := []byte("layer of " + tag)
	has, err := store.Has(context.Background(), ocispec.Descriptor{Digest: digest.FromBytes(layer), Size: int64(len(layer))})
	require.NoError(t, err)
	assert.False(t, has)
}

// The registry has lost the envelope of a signature.
func TestASignatureThatCannotBeReadIsNotARefusal(t *testing.T) {
	w := newWorld(t)
	later := time.Now().Add(time.Hour)
	ca := newIdentity(t, nil, "authority", later)
	release := newIdentity(t, ca, "release", later)
	c, err := check.New(policy("strict"), map[string][]*x509.Certificate{"ca:team": {ca.chain[0]}})
	require.NoError(t, err)
	image := w.image(t, "v1")
	w.sign(t, "v1", release)
	var envelope ocispec.Descriptor
	err = notationregistry.NewRepository(w.repo).ListSignatures(t.Context(), image, func(list []ocispec.Descriptor) (err error) {
		for _, d := range list {
			_, envelope, err = notationregistry.NewRepository(w.repo).FetchSignatureBlob(t.Context(), d)
		}
		return err
	})
	require.NoError(t, err)
	require.NotEmpty(t, envelope.Digest)
	hash := envelope.Digest.Encoded()
	require.NoError(t, os.RemoveAll(filepath.Join(w.Dir, "docker/registry/v2/blobs/sha256", hash[:2], hash)))
	require.NoError(t, os.RemoveAll(filepath.Join(w.Dir, "docker/registry/v2/repositories/team/app/_layers/sha256", hash)))
	store := &pullertest.MemStore{}
	_, err = w.pull(t, store, c, "v1")
	refused(t, store, err, content.ErrCheckFailed, "cannot be read", "v1")
	assert.NotErrorIs(t, err, puller.ErrSignatureValidation)
}

func TestPoliciesThatEnforceNothingAreRefused(t *testing.T) {
	ca := newIdentity(t, nil, "authority", time.Now().Add(time.Hour))
	stores := map[string][]*x509.Certificate{"ca:team": {ca.chain[0]}}
	skip := policy("skip")
	skip.TrustPolicies[0].TrustStores, skip.TrustPolicies[0].TrustedIdentities = nil, nil
	for name, doc := range map[string]trustpolicy.Document{"audit": policy("audit"), "skip": skip, "empty": {}, "unknown": policy("unknown")} {
		_, err := check.New(doc, stores)
		assert.Error(t, err, name)
	}
	_, err := check.New(policy("strict"), nil)
	assert.ErrorContains(t, err, "there are no certificates")
	strict, err := check.New(policy("strict"), stores)
	require.NoError(t, err)
	permissive, err := check.New(policy("permissive"), stores)
	require.NoError(t, err)
	assert.NotEmpty(t, strict.Fingerprint())
	assert.NotEqual(t, strict.Fingerprint(), permissive.Fingerprint())
}
