// Package sigstore has a check of sigstore bundles for puller.Config.Admission, to copy. A
// bundle is what cosign 3 stores next to an image: a manifest that refers to the image, with
// one layer of the type application/vnd.dev.sigstore.bundle.v0.3+json. It is read from the
// registry of the image, with the credential that opened the image.
package sigstore

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pullkit/pullkit/puller/content"
	pullverify "github.com/pullkit/pullkit/puller/verify"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
)

// BundleType is the artifact type and the layer's media type of a bundle.
const BundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// A Config says which signatures admit an image.
type Config struct {
	// Trusted has the authorities, logs and keys that are trusted, such as what
	// root.FetchTrustedRoot returns for the public instance.
	Trusted root.TrustedMaterial
	// Verifier says which proofs a bundle must have. For the public instance these are
	// verify.WithTransparencyLog(1), verify.WithObserverTimestamps(1) and
	// verify.WithSignedCertificateTimestamps(1). At least one option is needed.
	Verifier []verify.VerifierOption
	// Identities are the signers, of which one must have signed. Each has the identity in
	// the certificate, and the issuer that has verified it. If Identities is empty, a key of
	// Trusted must have signed, without a certificate.
	Identities []verify.CertificateIdentity
	// Name is the signer in words, for errors.
	Name string
	// Version is the fingerprint of the check. Change it when Trusted, Verifier or
	// Identities changes: then the Puller asks the check again about images that it has
	// admitted.
	Version string
}

// New returns the check. The error says what is missing in config.
func New(config Config) (content.Check, error) {
	switch {
	case config.Trusted == nil:
		return nil, errors.New("sigstore: Config.Trusted is nil")
	case config.Name == "":
		return nil, errors.New("sigstore: Config.Name is empty")
	case len(config.Verifier) == 0:
		return nil, errors.New("sigstore: Config.Verifier is empty: no proof would be needed")
	}
	verifier, err := verify.NewVerifier(config.Trusted, config.Verifier...)
	if err != nil {
		return nil, fmt.Errorf("sigstore: %w", err)
	}
	var signers []verify.PolicyOption
	for _, identity := range config.Identities {
		signers = append(signers, verify.WithCertificateIdentity(identity))
	}
	if len(signers) == 0 {
		signers = append(signers, verify.WithKey())
	}
	j := judge{config.Trusted, verifier, signers}
	return pullverify.Func("sigstore, "+config.Name, config.Version, func(ctx context.Context, image content.Admission) (string, error) {
		return pullverify.Signed(ctx, image, BundleType, func(sig pullverify.Signature) (string, error) { return j.verify(image, sig) })
	}), nil
}

// A judge verifies bundles.
type judge struct {
	trusted  root.TrustedMaterial
	verifier *verify.Verifier
	signers  []verify.PolicyOption
}

// verify verifies one bundle, and returns the signer.
func (j judge) verify(image content.Admission, sig pullverify.Signature) (string, error) {
	if len(sig.Layers) != 1 {
		return "", fmt.Errorf("a bundle is one layer, and this manifest has %d", len(sig.Layers))
	}
	var b bundle.Bundle
	if err := b.UnmarshalJSON(sig.Layers[0]); err != nil {
		return "", fmt.Errorf("the bundle is malformed: %w", oneLine(err))
	}
	algorithm, hash, _ := strings.Cut(string(image.Top.Digest), ":")
	sum, err := hex.DecodeString(hash)
	if err != nil {
		return "", fmt.Errorf("the digest of the image: %w", err)
	}
	// The verifier compares the digest with the signature, or with the subjects of the
	// statement that is signed.
	result, err := j.verifier.Verify(&b, verify.NewPolicy(verify.WithArtifactDigest(algorithm, sum), j.signers...))
	if err != nil {
		return "", fmt.Errorf("%w%s", oneLine(err), j.certificate(&b))
	}
	if cert := result.Signature.Certificate; cert != nil {
		return fmt.Sprintf("%s, verified by %s", cert.SubjectAlternativeName, cert.Issuer), nil
	}
	return "key", nil
}

// certificate returns a text about the certificate of a bundle: its names, whether a trusted
// authority has issued it, and until when it was valid. The errors of the verifier do not say
// that. If the bundle has no certificate, the text is "".
func (j judge) certificate(b *bundle.Bundle) string {
	material, err := b.VerificationContent()
	if err != nil || material.Certificate() == nil {
		return ""
	}
	cert := material.Certificate()
	by := "by an authority that is not trusted"
	for _, authority := range j.trusted.FulcioCertificateAuthorities() {
		fulcio, ok := authority.(*root.FulcioCertificateAuthority)
		if ok && slices.ContainsFunc(append(slices.Clone(fulcio.Intermediates), fulcio.Root), func(issuer *x509.Certificate) bool {
			return issuer != nil && cert.CheckSignatureFrom(issuer) == nil
		}) {
			by = "by a trusted authority"
		}
	}
	names := append(slices.Clone(cert.EmailAddresses), cert.DNSNames...)
	for _, u := range cert.URIs {
		names = append(names, u.String())
	}
	return fmt.Sprintf(" (certificate of %q %s, valid until %s)", names, by, cert.NotAfter.UTC().Format(time.RFC3339))
}

// oneLine returns an error whose text is one line, and which wraps nothing. What err wraps
// could make this refusal look like a check that could not decide.
func oneLine(err error) error { return errors.New(strings.Join(strings.Fields(err.Error()), " ")) }
