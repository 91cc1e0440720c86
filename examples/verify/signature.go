package main

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/verify"
)

// signatureType is the artifact type of the signatures of this example. A signature is a
// manifest that refers to the image. Its one layer has the 64 bytes of an Ed25519 signature
// of the image's digest. No other tool makes such signatures. For those of cosign and
// notation see examples/sigstore and examples/notation.
const signatureType = "application/vnd.example.pullkit.ed25519.v1"

// signed returns a check that admits images with a signature by the key.
func signed(name string, key ed25519.PublicKey) content.Check {
	sum := sha256.Sum256(key)
	return verify.Func("key "+name, hex.EncodeToString(sum[:]), func(ctx context.Context, image content.Admission) (string, error) {
		return verify.Signed(ctx, image, signatureType, func(sig verify.Signature) (string, error) {
			if len(sig.Layers) != 1 || len(sig.Layers[0]) != ed25519.SignatureSize {
				return "", errors.New("the signature is malformed")
			}
			if !ed25519.Verify(key, signedText(image.Top.Digest), sig.Layers[0]) {
				return "", errors.New("the signature is by another key, or for another image")
			}
			return "signature " + string(sig.Descriptor.Digest[:19]), nil
		})
	})
}

// signedText returns the bytes that are signed: the digest, after a word that says what it is
// the digest of.
func signedText(d digest.Digest) []byte { return fmt.Appendf(nil, "image %s", d) }
