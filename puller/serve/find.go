package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/reference"
)

// A found is content that the client may have.
type found struct {
	target target
	desc   ocispec.Descriptor
	data   []byte // the bytes of a manifest or an index; nil for a blob, which send opens
	public bool   // every client may have it, not only this client
}

// errPrivate is the reason why stored content is not served. It is for the log.
var errPrivate = errors.New("it is not public: the records have no pull that got it from the registry itself without a credential")

// find finds the content that a request asks for, and pulls it if it is missing. The error
// is the answer if the content is not found, or if the client may not have it.
func (h *Handler) find(r *http.Request, t target) (found, error) {
	if t.blob {
		return h.findBlob(r, t)
	}
	return h.findDocument(r, t)
}

func (h *Handler) findDocument(r *http.Request, t target) (found, error) {
	began := time.Now()
	ref, err := t.ref()
	if err != nil {
		return found{}, badName("NAME_INVALID", "%w", err)
	}
	f := found{target: t}
	f.desc, f.data, err = h.document(r.Context(), ref)
	if errors.Is(err, fs.ErrNotExist) {
		if err := h.pull(r.Context(), t, ref, err); err != nil {
			return found{}, err
		}
		began = time.Now()
		f.desc, f.data, err = h.document(r.Context(), ref)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return found{}, t.notFound(err)
	}
	if err != nil {
		return found{}, err
	}
	leaves, err := h.catalog.leaves(r.Context(), f.desc)
	if err != nil {
		return found{}, err
	}
	for _, leaf := range leaves {
		if f.public, err = h.public.has(r.Context(), t.repo.Name(), leaf, f.desc.Digest, began); f.public || err != nil {
			break
		}
	}
	if f.public {
		return f, nil
	}
	if no := h.allowed(r, ref); no != nil {
		return found{}, t.notFound(errors.Join(no, err))
	}
	return f, nil
}

// document returns the stored manifest or index that has the name ref. The error wraps
// fs.ErrNotExist if the Store has none.
func (h *Handler) document(ctx context.Context, ref reference.Reference) (ocispec.Descriptor, []byte, error) {
	desc, err := h.store.Lookup(ctx, ref)
	if err != nil {
		return desc, nil, err
	}
	data, err := ocilayout.ReadBlob(ctx, h.store, desc)
	if err != nil {
		return desc, nil, err
	}
	if !verify.Bytes(desc.Digest, data) {
		return desc, nil, fmt.Errorf("the stored bytes of %s have another digest", desc.Digest)
	}
	// Another tool can have written another media type into the descriptor. The media type in
	// the document counts, as in a pull.
	doc, err := index.Parse(desc.MediaType, data)
	if err != nil {
		return desc, nil, fmt.Errorf("the stored document %s: %w", desc.Digest, err)
	}
	desc.MediaType = doc.MediaType
	return desc, data, nil
}

// allowed returns nil if Config.Allow accepts an image that is not public. Otherwise it
// returns the reason for the log.
func (h *Handler) allowed(r *http.Request, image reference.Reference) error {
	if h.allow == nil {
		return errPrivate
	}
	if err := h.allow(r, image); err != nil {
		return fmt.Errorf("Config.Allow: %w", err)
	}
	return nil
}

func (h *Handler) findBlob(r *http.Request, t target) (found, error) {
	began := time.Now()
	list, err := h.catalog.lists.now(r.Context())
	if err != nil {
		return found{}, err
	}
	f, first := h.findHeld(r, t, list, began)
	if first == nil {
		return f, nil
	}
	// An image may have got its name after the Store was listed.
	list, err = h.catalog.lists.since(r.Context(), began)
	if err != nil {
		return found{}, err
	}
	f, err = h.findHeld(r, t, list, began)
	var missing *missingError
	if !errors.As(err, &missing) {
		return f, err
	}
	if err := h.pull(r.Context(), t, missing.ref, err); err != nil {
		return found{}, err
	}
	return h.findHeld(r, t, list, time.Now())
}

// errNotNamed is the reason why a blob is not served. It is for the log.
var errNotNamed = errors.New("no image of this repository names it")

// findHeld finds a blob in the images of a listing that name it. The error is the answer
// to the client. It wraps a missingError if the client may have an image, and the blob is
// missing from it.
func (h *Handler) findHeld(r *http.Request, t target, list *listing, began time.Time) (found, error) {
	ctx := r.Context()
	holders, err := list.holding(ctx, t.repo.Name(), t.digest)
	if err != nil {
		return found{}, err
	}
	why := errNotNamed
	asked := map[reference.Reference]error{} // the answers of Config.Allow, which is called once for each name
	for _, held := range holders {
		// The image may have been removed since the Store was listed.
		now, err := h.store.Lookup(ctx, held.ref)
		if errors.Is(err, fs.ErrNotExist) || err == nil && now.Digest != held.top.Digest {
			continue
		}
		if err != nil {
			return found{}, err
		}
		f := found{target: t, desc: held.blob}
		f.public, err = h.public.has(ctx, t.repo.Name(), held.leaf, t.digest, began)
		if !f.public {
			no, ok := asked[held.ref]
			if !ok {
				no = h.allowed(r, held.ref)
				asked[held.ref] = no
			}
			if no != nil {
				why = errors.Join(no, err)
				continue
			}
		}
		has, err := h.catalog.has(ctx, held.blob)
		if err != nil {
			return found{}, err
		}
		if has {
			return f, nil
		}
		why = &missingError{held.ref, t.digest}
	}
	return found{}, t.notFound(why)
}

// A missingError says that a blob of a stored image is missing.
type missingError struct {
	ref  reference.Reference
	blob digest.Digest
}

func (e *missingError) Error() string {
	return fmt.Sprintf("blob %s of %s is not stored", e.blob, e.ref)
}
