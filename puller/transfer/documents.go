package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
)

// stored reads a document, or a config, from the Store; the error wraps
// fs.ErrNotExist if it is not there.
func (r *Runtime) stored(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if err := checkReadable(desc); err != nil {
		return nil, err
	}
	f, err := r.store.Open(ctx, desc)
	if err != nil {
		return nil, storeError("open "+string(desc.Digest), err)
	}
	defer f.Close()
	body := make([]byte, desc.Size)
	_, err = io.ReadFull(f, body)
	if err != nil {
		return nil, storeError("read "+string(desc.Digest), err)
	}
	if !verify.Bytes(desc.Digest, body) {
		return nil, failf(content.ErrStore, "stored content is not %s", desc.Digest)
	}
	return body, nil
}

// checkReadable finds what is wrong with a descriptor of something that is read into memory.
func checkReadable(desc ocispec.Descriptor) error {
	if err := checkDescriptor(desc); err != nil {
		return err
	}
	if desc.Size > index.MaxSize {
		return failf(content.ErrTooLarge, "%s has %d bytes, at most %d are read", desc.Digest, desc.Size, index.MaxSize)
	}
	return nil
}

// storedDocument reads and parses a document from the Store.
func (r *Runtime) storedDocument(ctx context.Context, desc ocispec.Descriptor) (document, error) {
	body, err := r.stored(ctx, desc)
	if err != nil {
		return document{}, err
	}
	return parse(desc, body)
}

// topDocument is what the image's name points to. The registry is always asked; what
// it gives is in the Store already if have, once looked up, is what it names.
// last says whether no other credential follows, so that the reason of a refusal
// is worth another request.
func (r *Runtime) topDocument(ctx context.Context, o origin, last func() bool) (document, error) {
	have, err := r.store.Lookup(ctx, o.ref)
	if err != nil && !absent(err) {
		return document{}, storeError("look up the name", err)
	}
	var kept []byte
	if err == nil {
		// A document that cannot be read is fetched anew.
		if kept, err = r.stored(ctx, have); err != nil {
			have.Digest = ""
		}
	}
	if err := ctx.Err(); err != nil {
		return document{}, context.Cause(ctx)
	}
	desc, body, err := r.askManifest(ctx, o, have.Digest)
	if headRefused(err) && last != nil && last() {
		desc, body, err = r.askManifest(ctx, o, "")
	}
	if err != nil {
		return document{}, err
	}
	if body == nil {
		if kept == nil || desc.Digest != have.Digest {
			return document{}, failf(content.ErrBadManifest, "the source gave no manifest for %s", desc.Digest)
		}
		have.MediaType = desc.MediaType
		desc, body = have, kept
	}
	if pinned := o.ref.Digest(); pinned != "" && desc.Digest != pinned {
		return document{}, failf(content.ErrDigestMismatch, "the source gave manifest %s for %s", desc.Digest, pinned)
	}
	return r.believe(desc, desc, body)
}

func headRefused(err error) bool {
	var e *content.Error
	return errors.As(err, &e) && e.HeadRefused
}

// child is a document that an index names: from the Store, the descriptor's own
// data, or the registry.
func (r *Runtime) child(ctx context.Context, o origin, desc ocispec.Descriptor) (document, error) {
	has, err := r.store.Has(ctx, desc)
	if err != nil {
		return document{}, storeError("look for "+string(desc.Digest), err)
	}
	if has {
		if doc, err := r.storedDocument(ctx, desc); err == nil || content.KindOf(err) != content.ErrStore {
			return doc, err
		}
	}
	if int64(len(desc.Data)) == desc.Size && verify.Bytes(desc.Digest, desc.Data) {
		return parse(desc, desc.Data)
	}
	ref, err := o.ref.WithoutTag().WithDigest(desc.Digest)
	if err != nil {
		return document{}, &content.Error{Kind: content.ErrBadDigest, Err: err}
	}
	o.ref = ref
	got, body, err := r.askManifest(ctx, o, "")
	if err != nil {
		return document{}, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	return r.believe(desc, got, body)
}

// believe checks what a Source gave against the descriptor that named it: a
// Source may be anybody's, and these bytes decide all that follows.
func (r *Runtime) believe(want, got ocispec.Descriptor, body []byte) (document, error) {
	if err := checkDescriptor(want); err != nil {
		return document{}, err
	}
	if int64(len(body)) != want.Size {
		return document{}, failf(content.ErrSizeMismatch, "manifest %s has %d bytes, its descriptor says %d", want.Digest, len(body), want.Size)
	}
	if !verify.Bytes(want.Digest, body) {
		return document{}, failf(content.ErrDigestMismatch, "manifest is not %s", want.Digest)
	}
	doc, err := parse(want, body)
	if err != nil {
		return document{}, err
	}
	if got.MediaType != "" && want.MediaType != got.MediaType {
		// The server's word and the index's must lead to the same reading.
		if _, err := index.Parse(got.MediaType, body); err != nil {
			return document{}, documentError(err)
		}
	}
	return doc, nil
}
