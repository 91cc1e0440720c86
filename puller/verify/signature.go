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

// A Signature is a manifest that refers to an image, with the contents of its layers. All
// bytes have the digests that name them. Nothing else of it is verified.
type Signature struct {
	Descriptor ocispec.Descriptor
	Manifest   ocispec.Manifest
	Layers     [][]byte
}

const (
	// maxSignatures is how many signatures of an image are read.
	maxSignatures = 32
	// maxSignatureLayers is how many layers of a signature are read.
	maxSignatureLayers = 32
	// maxSignatureBytes bounds the layers of one signature together, in bytes.
	maxSignatureBytes = 4 << 20
)

// Signed reads the signatures of an image from its Source, with its credential, and calls
// judge with one after another until judge admits the image. It returns what judge returned
// for that signature. It is for the function of a [Func].
//
// artifactType is the type of the signatures; see registry.Client.Referrers. They refer to
// the image's Top, which is an index if the image has one, and the digest of that is what
// judge has to compare. A Source that is not a content.ReferrerLister, or that cannot
// list or give the signatures, makes the check undecided, unless judge admits the image by
// a signature that could be read. At most 32 signatures of at most 4 MiB are read: the
// check is undecided if an image has more, and none of these is good.
//
// If the image has no signature, although the credential shows the image, the error is a
// refusal. If judge refuses all signatures, it is a refusal with the reason of the last one.
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
		// Some registries hide an image from those who may not see it: then they list nothing.
		if _, err := image.Source.Manifest(ctx, image.Repo, image.Top.Digest); err != nil {
			return "", fmt.Errorf("no signature is listed, and the image cannot be seen: %w", err)
		}
		return "", errors.New("the image is not signed")
	}
	var unknown, refusal error
	for i, d := range list {
		if i == maxSignatures {
			unknown = undecided("none of the first %d signatures is good, and there are %d", maxSignatures, len(list))
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

// readSignature reads one signature. An error without a content.Reason says that it is
// malformed.
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
		return sig, errors.New("it is an index and not a manifest")
	}
	sig.Manifest = *parsed.Manifest
	if s := sig.Manifest.Subject; s != nil && s.Digest != image.Top.Digest {
		return sig, fmt.Errorf("it is of %s, and not of %s", redact.Quote(string(s.Digest), maxReason), image.Top.Digest)
	}
	if len(sig.Manifest.Layers) > maxSignatureLayers {
		return sig, fmt.Errorf("it has more than %d layers", maxSignatureLayers)
	}
	size := int64(0)
	for _, layer := range sig.Manifest.Layers {
		if layer.Size > maxSignatureBytes-size {
			return sig, fmt.Errorf("it has more than %d bytes", maxSignatureBytes)
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
