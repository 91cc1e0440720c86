package verify_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/verify"
	"github.com/pullkit/pullkit/reference"
)

const sigType = "application/vnd.example.signature"

// signedImage is a private registry with an image, and the Admission of that image.
func signedImage(t testing.TB) (*pullertest.Registry, content.Admission) {
	reg, err := pullertest.Start(pullertest.Config{Auth: pullertest.AuthBasic, Users: []pullertest.User{{Name: "robot", Password: "s3cret-pass"}}})
	require.NoError(t, err)
	t.Cleanup(func() { reg.Close() })
	put, err := reg.PutImage("team/app:v1", pullertest.ImageSpec{})
	require.NoError(t, err)
	source, err := registry.New(registry.Config{PlainHTTP: []string{reg.Host()}, Retries: -1})
	require.NoError(t, err)
	t.Cleanup(source.CloseIdleConnections)
	ref, err := reference.MustParse(reg.Host() + "/team/app:v1").WithDigest(put.Descriptor.Digest)
	require.NoError(t, err)
	cred := credentials.Credential{Username: "robot", Password: credentials.Conceal("s3cret-pass")}
	return reg, content.Admission{Ref: ref, Top: put.Descriptor, Descriptor: put.Descriptor, Source: source, Repo: content.Repo{Ref: ref, Cred: cred}}
}

func sign(t testing.TB, reg *pullertest.Registry, subject ocispec.Descriptor, layers ...string) ocispec.Descriptor {
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: sigType,
		Config: reg.PutBlob("team/app", ocispec.MediaTypeEmptyJSON, []byte("{}")), Layers: []ocispec.Descriptor{}, Subject: &subject}
	for _, text := range layers {
		m.Layers = append(m.Layers, reg.PutBlob("team/app", "text/plain", []byte(text)))
	}
	data, err := json.Marshal(m)
	require.NoError(t, err)
	return reg.PutManifest("team/app", ocispec.MediaTypeImageManifest, data)
}

// is returns a judge that admits a signature with the text want.
func is(want string) func(verify.Signature) (string, error) {
	return func(sig verify.Signature) (string, error) {
		for _, layer := range sig.Layers {
			if string(layer) == want {
				return "text " + want, nil
			}
		}
		return "", fmt.Errorf("not %s", want)
	}
}

func TestSignedReadsTheSignaturesOfAPrivateImage(t *testing.T) {
	reg, image := signedImage(t)
	_, err := verify.Signed(t.Context(), image, sigType, is("good"))
	assert.EqualError(t, err, "the image is not signed")
	assert.Empty(t, content.ReasonOf(err))

	bad := sign(t, reg, image.Top, "bad")
	_, err = verify.Signed(t.Context(), image, sigType, is("good"))
	assert.EqualError(t, err, "signature "+string(bad.Digest)+": not good")
	assert.Empty(t, content.ReasonOf(err), "a refusal")

	sign(t, reg, image.Top, "more", "good")
	by, err := verify.Signed(t.Context(), image, sigType, is("good"))
	require.NoError(t, err)
	assert.Equal(t, "text good", by)

	_, err = verify.Signed(t.Context(), image, "application/other", is("good"))
	assert.EqualError(t, err, "the image is not signed")
}

// A signature that cannot be read is not a refusal, and does not hide another signature
// that is good.
func TestSignedIsUndecidedIfASignatureCannotBeRead(t *testing.T) {
	reg, image := signedImage(t)
	lost := sign(t, reg, image.Top, "lost")
	sign(t, reg, image.Top, "bad")
	reg.Remove("team/app@" + string(digest.FromString("lost")))
	_, err := verify.Signed(t.Context(), image, sigType, is("good"))
	assert.Equal(t, content.ErrNotFound, content.ReasonOf(err))
	assert.ErrorContains(t, err, string(lost.Digest))
	sign(t, reg, image.Top, "good")
	_, err = verify.Signed(t.Context(), image, sigType, is("good"))
	assert.NoError(t, err)

	anonymous := image
	anonymous.Repo.Cred = credentials.Credential{}
	_, err = verify.Signed(t.Context(), anonymous, sigType, is("good"))
	assert.Equal(t, content.ErrUnauthorized, content.ReasonOf(err))

	_, err = verify.Signed(t.Context(), content.Admission{}, sigType, is("good"))
	assert.Equal(t, content.ErrCheckFailed, content.ReasonOf(err), "a Source that cannot list signatures")

	require.NoError(t, reg.Close())
	_, err = verify.Signed(t.Context(), image, sigType, is("good"))
	assert.Equal(t, content.ErrNetwork, content.ReasonOf(err))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = verify.Signed(ctx, image, sigType, is("good"))
	assert.ErrorIs(t, err, context.Canceled)
}

// If a credential does not open the image, the registry lists no signature. That does not
// mean that the image is unsigned, because another credential may open it.
func TestAnImageThatTheRegistryHidesIsUndecided(t *testing.T) {
	_, image := signedImage(t)
	image.Source = lists{image.Source, nil, nil}
	_, err := verify.Signed(t.Context(), image, sigType, is("good"))
	assert.EqualError(t, err, "the image is not signed")
	image.Repo.Cred = credentials.Credential{}
	_, err = verify.Signed(t.Context(), image, sigType, is("good"))
	assert.Equal(t, content.ErrUnauthorized, content.ReasonOf(err))
	assert.ErrorContains(t, err, "does not show the image")
}

// If judge refuses one signature and cannot decide about another, the check is undecided.
func TestSignedIsUndecidedIfTheJudgeIs(t *testing.T) {
	reg, image := signedImage(t)
	good, bad := sign(t, reg, image.Top, "good"), sign(t, reg, image.Top, "bad")
	for _, list := range [][]ocispec.Descriptor{{good, bad}, {bad, good}} {
		listed := image
		listed.Source = lists{image.Source, list, nil}
		_, err := verify.Signed(t.Context(), listed, sigType, func(sig verify.Signature) (string, error) {
			if string(sig.Layers[0]) == "good" {
				return "", fmt.Errorf("the revocation list: %w", context.DeadlineExceeded)
			}
			return "", errors.New("bad")
		})
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.ErrorContains(t, err, "cannot be judged: the revocation list")
	}
}

// A Source that sends other bytes, or that lists manifests which are not signatures of the
// image, admits no image.
func TestSignedUsesOnlyVerifiedBytesOfThisImage(t *testing.T) {
	reg, image := signedImage(t)
	foreign := sign(t, reg, ocispec.Descriptor{MediaType: image.Top.MediaType, Digest: digest.FromString("other"), Size: 1}, "good")
	huge := sign(t, reg, image.Top, strings.Repeat("x", 4<<20), "good")
	deep := sign(t, reg, image.Top, strings.Split(strings.Repeat("good,", 33), ",")[:33]...)
	idx := reg.PutManifest("team/app", ocispec.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"mediaType":"`+ocispec.MediaTypeImageIndex+`","manifests":[]}`))
	broken := reg.PutManifest("team/app", ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"config":{}}`))
	for what, d := range map[string]ocispec.Descriptor{"it is a signature of": foreign, "more than 4194304 bytes": huge, "more than 32 layers": deep, "is an index": idx, "no config or no layers": broken} {
		lying := image
		lying.Source = lists{image.Source, []ocispec.Descriptor{d}, nil}
		_, err := verify.Signed(t.Context(), lying, sigType, is("good"))
		assert.ErrorContains(t, err, what)
		assert.Empty(t, content.ReasonOf(err), what)
	}
	good := sign(t, reg, image.Top, "gone")
	lying := image
	lying.Source = lists{image.Source, []ocispec.Descriptor{good}, []byte("good")}
	_, err := verify.Signed(t.Context(), lying, sigType, is("good"))
	assert.Equal(t, content.ErrDigestMismatch, content.ReasonOf(err))
	many := make([]ocispec.Descriptor, 33)
	for i := range many {
		many[i] = good
	}
	lying.Source = lists{image.Source, many, nil}
	_, err = verify.Signed(t.Context(), lying, sigType, is("good"))
	assert.Equal(t, content.ErrCheckFailed, content.ReasonOf(err))
	_, err = verify.Signed(t.Context(), lying, sigType, func(verify.Signature) (string, error) {
		return "", &content.Error{Reason: content.ErrRefused, Err: errors.New("revoked")}
	})
	assert.Error(t, err)
}

// A lists is a Source with its own list of signatures, and its own bytes for blobs.
type lists struct {
	content.Source
	list []ocispec.Descriptor
	blob []byte
}

func (l lists) Referrers(context.Context, content.Repo, digest.Digest, string) ([]ocispec.Descriptor, error) {
	return l.list, nil
}

func (l lists) Blob(ctx context.Context, repo content.Repo, d ocispec.Descriptor, off, n int64) (content.Body, error) {
	if l.blob == nil {
		return l.Source.Blob(ctx, repo, d, off, n)
	}
	return content.Body{ReadCloser: nopCloser{strings.NewReader(string(l.blob))}}, nil
}

type nopCloser struct{ *strings.Reader }

func (nopCloser) Close() error { return nil }
