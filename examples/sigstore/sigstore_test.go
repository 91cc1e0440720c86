package sigstore_test

import (
	"bytes"
	"context"
	"crypto"

	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/examples/sigstore"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	pullregistry "github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/sign"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
)

const (
	issuer = "https://accounts.example"
	team   = "release@team.example"
)

// A server is the registry of go-containerregistry, with the referrers API and a password.
type server struct {
	*httptest.Server
	host string
	fail atomic.Pointer[string] // requests whose path has this text get 503
}

func startServer(t *testing.T) *server {
	s := &server{}
	inner := registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "robot" || password != "s3cret-pass" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if fail := s.fail.Load(); fail != nil && strings.Contains(r.URL.Path, *fail) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	s.host = strings.TrimPrefix(s.URL, "http://")
	return s
}

func (s *server) put(t *testing.T, method, path, mediaType string, body []byte) {
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, bytes.NewReader(body))
	require.NoError(t, err)
	req.SetBasicAuth("robot", "s3cret-pass")
	req.Header.Set("Content-Type", mediaType)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusCreated, res.StatusCode, path)
}

func (s *server) blob(t *testing.T, mediaType string, data []byte) ocispec.Descriptor {
	d := digest.FromBytes(data)
	s.put(t, http.MethodPost, "/v2/team/app/blobs/uploads/?digest="+url.QueryEscape(string(d)), "application/octet-stream", data)
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
}

func (s *server) manifest(t *testing.T, tag string, m ocispec.Manifest) ocispec.Descriptor {
	m.SchemaVersion, m.MediaType = 2, ocispec.MediaTypeImageManifest
	data, err := json.Marshal(m)
	require.NoError(t, err)
	d := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if tag == "" {
		tag = string(d.Digest)
	}
	s.put(t, http.MethodPut, "/v2/team/app/manifests/"+tag, m.MediaType, data)
	return d
}

// image stores an image under a tag.
func (s *server) image(t *testing.T, tag string) ocispec.Descriptor {
	layer := s.blob(t, ocispec.MediaTypeImageLayer, []byte("layer of "+tag))
	config := s.blob(t, ocispec.MediaTypeImageConfig, []byte(`{"architecture":"amd64","os":"linux"}`))
	return s.manifest(t, tag, ocispec.Manifest{Config: config, Layers: []ocispec.Descriptor{layer}})
}

// attach stores a bundle next to an image.
func (s *server) attach(t *testing.T, subject ocispec.Descriptor, bundle []byte) ocispec.Descriptor {
	layer := s.blob(t, sigstore.BundleType, bundle)
	empty := s.blob(t, ocispec.MediaTypeEmptyJSON, []byte("{}"))
	s.manifest(t, "", ocispec.Manifest{ArtifactType: sigstore.BundleType, Config: empty, Layers: []ocispec.Descriptor{layer}, Subject: &subject})
	return layer
}

// An authority issues certificates as Fulcio does. It is a root.TrustedMaterial.
type authority struct {
	root.BaseTrustedMaterial
	fulcio *root.FulcioCertificateAuthority
	issue  func(identity string, from time.Time, key *sign.EphemeralKeypair) []byte
}

func (a *authority) FulcioCertificateAuthorities() []root.CertificateAuthority {
	return []root.CertificateAuthority{a.fulcio}
}

func newAuthority(t *testing.T) *authority {
	rootCert, rootKey, err := ca.GenerateRootCa()
	require.NoError(t, err)
	cert, key, err := ca.GenerateFulcioIntermediate(rootCert, rootKey)
	require.NoError(t, err)
	a := &authority{fulcio: &root.FulcioCertificateAuthority{Root: rootCert, Intermediates: []*x509.Certificate{cert}}}
	a.issue = func(identity string, from time.Time, pair *sign.EphemeralKeypair) []byte {
		leaf, err := ca.GenerateLeafCert(identity, issuer, from, publicOnly{pair}, cert, key)
		require.NoError(t, err)
		return leaf.Raw
	}
	return a
}

// bundle returns a bundle as cosign makes it: a signed statement whose subject is the digest
// of an image.
func (a *authority) bundle(t *testing.T, image digest.Digest, identity string, from time.Time) []byte {
	pair, err := sign.NewEphemeralKeypair(nil)
	require.NoError(t, err)
	b, err := sign.Bundle(statement(image), pair, sign.BundleOptions{CertificateProvider: certificates(func() []byte { return a.issue(identity, from, pair) })})
	require.NoError(t, err)
	data, err := protojson.Marshal(b)
	require.NoError(t, err)
	return data
}

func statement(image digest.Digest) *sign.DSSEData {
	return &sign.DSSEData{PayloadType: "application/vnd.in-toto+json", Data: fmt.Appendf(nil, `{"_type": "https://in-toto.io/Statement/v1",
		"subject": [{"digest": {"sha256": %q}}], "predicateType": "https://sigstore.dev/cosign/sign/v1", "predicate": {}}`, image.Encoded())}
}

type certificates func() []byte

func (c certificates) GetCertificate(context.Context, sign.Keypair, *sign.CertificateProviderOptions) ([]byte, error) {
	return c(), nil
}

// publicOnly is a crypto.Signer of which only the public key is asked for.
type publicOnly struct{ *sign.EphemeralKeypair }

func (p publicOnly) Public() crypto.PublicKey { return p.GetPublicKey() }

func (publicOnly) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.ErrUnsupported
}

func (s *server) pull(t *testing.T, store content.Store, check content.Check, tag string, policy pullpolicy.Policy) (puller.Image, error) {
	source, err := pullregistry.New(pullregistry.Config{PlainHTTP: []string{s.host}, Retries: -1})
	require.NoError(t, err)
	defer source.CloseIdleConnections()
	rt, err := transfer.New(transfer.Config{Store: store, Source: source})
	require.NoError(t, err)
	data, err := credentials.DockerConfig{Server: s.host, Username: "robot", Password: credentials.Conceal("s3cret-pass")}.JSON()
	require.NoError(t, err)
	node, err := credentials.ParseFile(data, "config.json", credentials.Rules{})
	require.NoError(t, err)
	p, err := puller.New(puller.Config{Runtime: rt, Keyring: node, Admission: check})
	require.NoError(t, err)
	return p.Pull(t.Context(), puller.Request{Image: s.host + "/team/app:" + tag, Policy: policy})
}

func ofTeam(t *testing.T, trusted root.TrustedMaterial) content.Check {
	identity, err := verify.NewShortCertificateIdentity(issuer, "", team, "")
	require.NoError(t, err)
	check, err := sigstore.New(sigstore.Config{Trusted: trusted, Verifier: []verify.VerifierOption{verify.WithCurrentTime()},
		Identities: []verify.CertificateIdentity{identity}, Name: team, Version: "1"})
	require.NoError(t, err)
	return check
}

// The registry is private, so the bundle is read with the credential of the pull.
func TestOnlyImagesThatTheTeamHasSignedAreUsed(t *testing.T) {
	s, ours, strangers := startServer(t), newAuthority(t), newAuthority(t)
	check := ofTeam(t, ours)
	now := time.Now().Add(-time.Minute)
	other := digest.FromString("another image")
	for tag, tt := range map[string]struct {
		bundle func(image digest.Digest) []byte
		fault  func(bundle ocispec.Descriptor) // of the registry
		want   error                           // nil means that the image is used
		why    string
	}{
		"signed":            {func(d digest.Digest) []byte { return ours.bundle(t, d, team, now) }, nil, nil, team + ", verified by " + issuer},
		"unsigned":          {nil, nil, puller.ErrSignatureValidation, "the image is not signed"},
		"stranger":          {func(d digest.Digest) []byte { return strangers.bundle(t, d, team, now) }, nil, puller.ErrSignatureValidation, `certificate of ["release@team.example"] by an authority that is not trusted`},
		"another-identity":  {func(d digest.Digest) []byte { return ours.bundle(t, d, "intern@team.example", now) }, nil, puller.ErrSignatureValidation, "intern@team.example"},
		"expired":           {func(d digest.Digest) []byte { return ours.bundle(t, d, team, now.Add(-time.Hour)) }, nil, puller.ErrSignatureValidation, `certificate of ["release@team.example"] by a trusted authority, valid until ` + now.Add(-50*time.Minute).UTC().Format(time.RFC3339)},
		"another-digest":    {func(digest.Digest) []byte { return ours.bundle(t, other, team, now) }, nil, puller.ErrSignatureValidation, "digest"},
		"malformed":         {func(digest.Digest) []byte { return []byte(`{"mediaType": 7}`) }, nil, puller.ErrSignatureValidation, "the bundle is malformed"},
		"unreachable":       {func(d digest.Digest) []byte { return ours.bundle(t, d, team, now) }, func(b ocispec.Descriptor) { part := string(b.Digest); s.fail.Store(&part) }, content.ErrCheckFailed, "503"},
		"unreachable-lists": {func(d digest.Digest) []byte { return ours.bundle(t, d, team, now) }, func(ocispec.Descriptor) { part := "/referrers/"; s.fail.Store(&part) }, content.ErrCheckFailed, "503"},
	} {
		t.Run(tag, func(t *testing.T) {
			image := s.image(t, tag)
			if tt.bundle != nil {
				layer := s.attach(t, image, tt.bundle(image.Digest))
				if tt.fault != nil {
					tt.fault(layer)
					defer s.fail.Store(nil)
				}
			}
			store := &pullertest.MemStore{}
			img, err := s.pull(t, store, check, tag, pullpolicy.Always)
			if tt.want == nil {
				require.NoError(t, err)
				assert.Contains(t, img.AdmittedBy, tt.why)
				return
			}
			assert.ErrorIs(t, err, tt.want)
			assert.ErrorContains(t, err, tt.why)
			assert.ErrorContains(t, err, "sigstore, "+team, "the line names the identity")
			assert.NotContains(t, err.Error(), "\n")
			assert.Equal(t, tt.want == puller.ErrSignatureValidation, isRefusal(err))
			t.Log(err)
			for _, blob := range []string{"layer of " + tag} {
				has, err := store.Has(t.Context(), ocispec.Descriptor{Digest: digest.FromString(blob), Size: int64(len(blob))})
				require.NoError(t, err)
				assert.False(t, has, "nothing of a refused image is stored")
			}
		})
	}
}

func isRefusal(err error) bool { return content.ReasonOf(err) == content.ErrRefused }

// An image that was stored before there was a check is checked too.
func TestAPresentImageIsCheckedBySigstore(t *testing.T) {
	s, ours := startServer(t), newAuthority(t)
	s.image(t, "v1")
	store := &pullertest.MemStore{}
	_, err := s.pull(t, store, nil, "v1", pullpolicy.Always)
	require.NoError(t, err)
	_, err = s.pull(t, store, ofTeam(t, ours), "v1", pullpolicy.Never)
	assert.ErrorIs(t, err, puller.ErrSignatureValidation)
	assert.ErrorContains(t, err, "the image is not signed")
}

// A long-lived key needs no certificate.
func TestAKeyAdmitsImages(t *testing.T) {
	s := startServer(t)
	pair, err := sign.NewEphemeralKeypair(nil)
	require.NoError(t, err)
	other, err := sign.NewEphemeralKeypair(nil)
	require.NoError(t, err)
	byKey := func(pair *sign.EphemeralKeypair) content.Check {
		verifier, err := signature.LoadVerifier(pair.GetPublicKey(), crypto.SHA256)
		require.NoError(t, err)
		check, err := sigstore.New(sigstore.Config{Name: "key of the team", Version: "1", Verifier: []verify.VerifierOption{verify.WithNoObserverTimestamps()},
			Trusted: root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) {
				return root.NewExpiringKey(verifier, time.Time{}, time.Time{}), nil
			})})
		require.NoError(t, err)
		return check
	}
	image := s.image(t, "v1")
	b, err := sign.Bundle(statement(image.Digest), pair, sign.BundleOptions{})
	require.NoError(t, err)
	data, err := protojson.Marshal(b)
	require.NoError(t, err)
	s.attach(t, image, data)
	img, err := s.pull(t, &pullertest.MemStore{}, byKey(pair), "v1", pullpolicy.Always)
	require.NoError(t, err)
	assert.Equal(t, "sigstore, key of the team => key", img.AdmittedBy)
	_, err = s.pull(t, &pullertest.MemStore{}, byKey(other), "v1", pullpolicy.Always)
	assert.ErrorIs(t, err, puller.ErrSignatureValidation)
}

// The lists of go-containerregistry's registry are read: with a filter, for another subject,
// and without referrers.
func TestReferrersOfGoContainerregistry(t *testing.T) {
	s := startServer(t)
	image := s.image(t, "v1")
	s.attach(t, image, []byte("bundle"))
	s.manifest(t, "", ocispec.Manifest{ArtifactType: "application/spdx+json", Config: s.blob(t, ocispec.MediaTypeEmptyJSON, []byte("{}")),
		Layers: []ocispec.Descriptor{s.blob(t, "text/plain", []byte("sbom"))}, Subject: &image})
	source, err := pullregistry.New(pullregistry.Config{PlainHTTP: []string{s.host}})
	require.NoError(t, err)
	defer source.CloseIdleConnections()
	repo := content.Repo{Ref: reference.MustParse(s.host + "/team/app:v1"), Cred: credentials.Credential{Username: "robot", Password: credentials.Conceal("s3cret-pass")}}
	for filter, want := range map[string]int{"": 2, sigstore.BundleType: 1, "application/spdx+json": 1, "application/other": 0} {
		list, err := source.Referrers(t.Context(), repo, image.Digest, filter)
		require.NoError(t, err)
		assert.Len(t, list, want, filter)
		for _, d := range list {
			repo := repo
			repo.Ref, err = repo.Ref.WithoutTag().WithDigest(d.Digest)
			require.NoError(t, err)
			doc, err := source.Manifest(t.Context(), repo, "")
			require.NoError(t, err)
			var m ocispec.Manifest
			require.NoError(t, json.Unmarshal(doc.Body, &m))
			if filter != "" {
				assert.Equal(t, filter, d.ArtifactType, "this registry gives the type of the config instead")
				assert.Equal(t, filter, m.ArtifactType)
			}
			assert.Equal(t, image.Digest, m.Subject.Digest)
		}
	}
	list, err := source.Referrers(t.Context(), repo, digest.FromString("x"), "")
	require.NoError(t, err)
	assert.Empty(t, list)
	repo.Cred = credentials.Credential{}
	_, err = source.Referrers(t.Context(), repo, image.Digest, "")
	assert.ErrorIs(t, err, content.ErrUnauthorized)
}

func TestNewRefusesAConfigThatWouldProveNothing(t *testing.T) {
	trusted := newAuthority(t)
	proofs := []verify.VerifierOption{verify.WithCurrentTime()}
	for _, config := range []sigstore.Config{
		{},
		{Trusted: trusted, Name: "x"},
		{Trusted: trusted, Verifier: proofs},
		{Trusted: trusted, Name: "x", Verifier: []verify.VerifierOption{verify.WithTransparencyLog(0)}},
	} {
		_, err := sigstore.New(config)
		assert.Error(t, err)
	}
}
