package verify

import (
	"context"
	"errors"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/internal/checked"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
)

// A Signature is a manifest that refers to an image, with the contents of its layers. It
// is verified that the manifest and the layers have their digests. Nothing else is
// verified.
type Signature struct {
	Descriptor ocispec.Descriptor
	Manifest   ocispec.Manifest
	Layers     [][]byte
}

const (
	// maxSignatures is how many signatures of an image are read at most.
	maxSignatures = 32
	// maxSignatureLayers is how many layers a signature may have.
	maxSignatureLayers = 32
	// maxSignatureBytes is how many bytes the layers of a signature may have in total.
	maxSignatureBytes = 4 << 20
)

// Signed reads the signatures of an image from image.Source, with the credential of
// image.Repo. It calls judge with one signature after another, until judge admits the
// image, and returns the answer of judge. Call Signed in the function of a [Func].
//
// artifactType is the type of the signatures; see registry.Client.Referrers. The
// signatures refer to image.Top, which is the index if the image has one. So judge must
// compare the digest of image.Top with the digest that was signed.
//
// Signed returns an error that matches content.ErrCheckFailed if the Source is not a
// content.ReferrerLister. The error also makes the check undecided if the Source cannot
// list or read the signatures, and judge admits the image by no signature that was read.
// At most 32 signatures of at most 4 MiB are read. If an image has more, and judge admits
// the image by none of the 32, the check is undecided too.
//
// If the image has no signature, and the credential opens the image, the error is a
// refusal. If judge refuses all signatures, the error is a refusal with the reason for the
// last signature.
func Signed(ctx context.Context, image content.Admission, artifactType string, judge func(Signature) (by string, err error)) (by string, err error) {
	lister, ok := image.Source.(content.ReferrerLister)
	if !ok {
		return "", undecided("a source of type %T cannot list signatures", image.Source)
	}
	list, err := lister.Referrers(ctx, image.Repo, image.Top.Digest, artifactType)
	if err != nil {
		return "", fmt.Errorf("the signatures cannot be listed: %w", err)
	}
	if len(list) == 0 {
		// Some registries hide an image from a credential that does not open it, and then list
		// nothing.
		if _, err := image.Source.Manifest(ctx, image.Repo, image.Top.Digest); err != nil {
			return "", fmt.Errorf("the registry lists no signature, and does not show the image either: %w", err)
		}
		return "", errors.New("the image is not signed")
	}
	var unknown, refusal error
	for i, d := range list {
		if i == maxSignatures {
			unknown = undecided("the first %d of %d signatures do not admit the image, and the others are not read", maxSignatures, len(list))
			break
		}
		sig, err := readSignature(ctx, image, d)
		step := "read"
		if err == nil {
			step = "judged"
			if by, err = judge(sig); err == nil {
				return by, nil
			}
		}
		switch {
		case ctx.Err() != nil:
			return "", context.Cause(ctx)
		case checked.Undecided(err):
			unknown = fmt.Errorf("signature %s cannot be %s: %w", d.Digest, step, err)
		default:
			refusal = fmt.Errorf("signature %s: %w", d.Digest, err)
		}
	}
	if unknown != nil {
		return "", unknown
	}
	return "", refusal
}

// readSignature reads one signature. An error without a content.Reason says that the
// signature is malformed.
func readSignature(ctx context.Context, image content.Admission, d ocispec.Descriptor) (Signature, error) {
	sig := Signature{Descriptor: d}
	repo := image.Repo
	var err error
	if repo.Ref, err = repo.Ref.WithoutTag().WithDigest(d.Digest); err != nil {
		return sig, err
	}
	doc, err := image.Source.Manifest(ctx, repo, "")
	switch {
	case err != nil:
		return sig, err
	case !verify.Bytes(d.Digest, doc.Body):
		return sig, &content.Error{Reason: content.ErrDigestMismatch}
	}
	parsed, err := index.Parse(d.MediaType, doc.Body)
	switch {
	case err != nil:
		return sig, errors.New(redact.Text(err.Error())) // not an error of the Source
	case parsed.Manifest == nil:
		return sig, errors.New("it is an index, not a manifest")
	}
	sig.Manifest = *parsed.Manifest
	if s := sig.Manifest.Subject; s != nil && s.Digest != image.Top.Digest {
		return sig, fmt.Errorf("it is a signature of %s, not of %s", redact.Quote(string(s.Digest), maxReason), image.Top.Digest)
	}
	if len(sig.Manifest.Layers) > maxSignatureLayers {
		return sig, fmt.Errorf("it has more than %d layers", maxSignatureLayers)
	}
	size := int64(0)
	for _, layer := range sig.Manifest.Layers {
		if layer.Size > maxSignatureBytes-size {
			return sig, fmt.Errorf("its layers have more than %d bytes", maxSignatureBytes)
		}
		size += layer.Size
	}
	for _, layer := range sig.Manifest.Layers {
		data, err := readBlob(ctx, image, layer)
		if err != nil {
			return sig, err
		}
		sig.Layers = append(sig.Layers, data)
	}
	return sig, nil
}

func readBlob(ctx context.Context, image content.Admission, d ocispec.Descriptor) ([]byte, error) {
	body, err := image.Source.Blob(ctx, image.Repo, d, 0, -1)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, d.Size+1))
	switch {
	case err != nil && content.ReasonOf(err) == "":
		return nil, &content.Error{Reason: content.ErrNetwork, Err: err}
	case err != nil:
		return nil, err
	case int64(len(data)) != d.Size:
		return nil, &content.Error{Reason: content.ErrSizeMismatch}
	case !verify.Bytes(d.Digest, data):
		return nil, &content.Error{Reason: content.ErrDigestMismatch}
	}
	return data, nil
}
