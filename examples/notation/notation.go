// Package notation has a check of Notary Project signatures for puller.Config.Admission, to
// copy. A signature is what notation stores next to an image: a manifest that refers to the
// image, with one layer that is a signed envelope. It is read from the registry of the
// image, with the credential that opened the image, and verified by notation-go.
package notation

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/notaryproject/notation-go"
	"github.com/notaryproject/notation-go/registry"
	"github.com/notaryproject/notation-go/verifier"
	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/notaryproject/notation-go/verifier/truststore"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/verify"
)

// New returns the check. policy says which identities may sign which images, and stores has
// the certificates of its trust stores by their names, such as "ca:team". The error says
// what is wrong with the policy. A policy that only logs what is wrong with a signature, as
// the levels skip and audit do, is refused: it would admit every image.
func New(policy trustpolicy.Document, stores map[string][]*x509.Certificate) (content.Check, error) {
	if err := policy.Validate(); err != nil {
		return nil, fmt.Errorf("notation: %w", err)
	}
	var identities []string
	for _, p := range policy.TrustPolicies {
		level, err := p.SignatureVerification.GetVerificationLevel()
		if err != nil {
			return nil, fmt.Errorf("notation: policy %q: %w", p.Name, err)
		}
		for _, must := range []trustpolicy.ValidationType{trustpolicy.TypeIntegrity, trustpolicy.TypeAuthenticity} {
			if level.Enforcement[must] != trustpolicy.ActionEnforce {
				return nil, fmt.Errorf("notation: policy %q: level %s does not enforce %s, so it would admit every image", p.Name, level.Name, must)
			}
		}
		for _, name := range p.TrustStores {
			if len(stores[name]) == 0 {
				return nil, fmt.Errorf("notation: policy %q: there are no certificates for the trust store %q", p.Name, name)
			}
		}
		identities = append(identities, p.TrustedIdentities...)
	}
	v, err := verifier.New(&policy, trusted(stores), nil)
	if err != nil {
		return nil, fmt.Errorf("notation: %w", err)
	}
	version, err := fingerprint(policy, stores)
	if err != nil {
		return nil, fmt.Errorf("notation: %w", err)
	}
	name := "notation, " + strings.Join(identities, " or ")
	return verify.Func(name, version, func(ctx context.Context, image content.Admission) (string, error) {
		return verify.Signed(ctx, image, registry.ArtifactTypeNotation, func(sig verify.Signature) (string, error) {
			return judge(ctx, v, image, sig)
		})
	}), nil
}

// judge verifies one signature.
func judge(ctx context.Context, v notation.Verifier, image content.Admission, sig verify.Signature) (string, error) {
	if len(sig.Layers) != 1 {
		return "", fmt.Errorf("a signature is one layer, and this manifest has %d", len(sig.Layers))
	}
	target := ocispec.Descriptor{MediaType: image.Top.MediaType, Digest: image.Top.Digest, Size: image.Top.Size}
	outcome, err := v.Verify(ctx, target, sig.Layers[0], notation.VerifierVerifyOptions{
		ArtifactReference:  image.Ref.Name() + "@" + string(image.Top.Digest),
		SignatureMediaType: sig.Manifest.Layers[0].MediaType,
	})
	var inconclusive notation.VerificationInconclusiveError
	switch {
	case errors.As(err, &inconclusive):
		return "", &content.Error{Reason: content.ErrCheckFailed, Err: signer(outcome, err)}
	case err != nil:
		return "", signer(outcome, err)
	}
	return subject(outcome), nil
}

// signer returns err as one line, with the name of the signer if the signature has one.
func signer(outcome *notation.VerificationOutcome, err error) error {
	text := strings.Join(strings.Fields(err.Error()), " ")
	if name := subject(outcome); name != "" {
		return fmt.Errorf("signed by %s: %s", name, text)
	}
	return errors.New(text)
}

// subject returns the subject of the signer's certificate, or "" if it is not known.
func subject(outcome *notation.VerificationOutcome) string {
	if outcome == nil || outcome.EnvelopeContent == nil || len(outcome.EnvelopeContent.SignerInfo.CertificateChain) == 0 {
		return ""
	}
	return outcome.EnvelopeContent.SignerInfo.CertificateChain[0].Subject.String()
}

// trusted is a trust store in memory.
type trusted map[string][]*x509.Certificate

func (t trusted) GetCertificates(_ context.Context, kind truststore.Type, name string) ([]*x509.Certificate, error) {
	certs := t[string(kind)+":"+name]
	if len(certs) == 0 {
		return nil, fmt.Errorf("there are no certificates for the trust store %s:%s", kind, name)
	}
	return certs, nil
}

// fingerprint returns a hash of the policy and the certificates.
func fingerprint(policy trustpolicy.Document, stores map[string][]*x509.Certificate) (string, error) {
	text, err := json.Marshal(policy)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	h.Write(text)
	for _, name := range slices.Sorted(maps.Keys(stores)) {
		fmt.Fprintf(h, "%q\n", name)
		for _, cert := range stores[name] {
			fmt.Fprintf(h, "%x\n", sha256.Sum256(cert.Raw))
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
