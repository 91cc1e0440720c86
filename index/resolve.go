package index

import (
	"context"
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/mediatype"
	"github.com/pullkit/pullkit/internal/verify"
)

const (
	// MaxDepth is how many levels of indexes Resolve follows below the first.
	MaxDepth = 4
	// MaxDocuments is how many manifests, indexes and configs one Resolve fetches.
	MaxDocuments = 64
)

// ErrSkip makes Resolve pass over a candidate.
var ErrSkip = errors.New("skip this candidate")

// A Resolved is the manifest that a document leads to for a platform.
type Resolved struct {
	// Choice is the manifest. CheckConfig is set if the document itself is the manifest,
	// because then no index has named its platform. Registries have many images whose
	// config names a wrong platform, so the caller decides whether a mismatch is an error
	// (see ConfigPlatform and Selector.Match). For an Accept, CheckConfig is also set if
	// the entry in the index has no platform.
	Choice
	Manifest *ocispec.Manifest
	// Platform is the platform of the entry in the index, or of the config if the entry has
	// none. It is normalised. It is zero if CheckConfig is set.
	Platform ocispec.Platform
	// Through are the nested indexes on the way, the outermost first.
	Through []ocispec.Descriptor
}

// A Resolver walks from a document to the manifest for a platform. Fetch must be set if
// documents may be indexes.
type Resolver struct {
	Selector Selector
	// Fetch returns the content of a manifest, an index or an image's config. Resolve
	// verifies the result. Fetch needs to read at most one byte more than desc.Size,
	// which is at most MaxSize. An error that wraps [ErrSkip] makes Resolve go on to the
	// next candidate.
	Fetch func(ctx context.Context, desc ocispec.Descriptor) ([]byte, error)
	// Accept reports whether Resolve should return the manifest in r. If Accept returns
	// false, Resolve goes on to the next candidate; if it returns an error, Resolve returns
	// that error. If r.CheckConfig is set, Accept must compare the config itself. A nil
	// Accept takes every manifest, except that the platform in the config must fit if the
	// entry in the index has none.
	Accept func(ctx context.Context, r Resolved) (bool, error)
}

// Resolve returns the manifest for the platform want that a document leads to. It follows
// nested indexes, at most MaxDepth levels down, each once. For an entry without platform it
// compares the platform in the image's config. If a candidate leads to no match, Resolve
// goes on to the next one.
//
// root describes doc. Each document that Fetch returns is verified against its descriptor
// and must be of the kind that the descriptor says. The error is that of Fetch or of
// Accept, or one of those that Select returns; a NoMatchError has the platforms of all
// indexes on the way. With Accept, want may be incomplete if the document is a manifest.
func (rv Resolver) Resolve(ctx context.Context, root ocispec.Descriptor, doc *Document, want ocispec.Platform) (Resolved, error) {
	var t target
	err := t.prepare(rv.Selector, &want)
	r := resolver{
		ctx: ctx, fetch: rv.Fetch, accept: rv.Accept, target: &t, left: MaxDocuments,
		seen: map[digest.Digest]bool{root.Digest: true},
		none: &NoMatchError{Want: want},
	}
	var found *Resolved
	switch {
	case doc.Manifest != nil && rv.Accept != nil:
		found, err = r.accepted(Resolved{Choice: Choice{Descriptor: root, CheckConfig: true}, Manifest: doc.Manifest})
	case err != nil:
	case doc.Manifest != nil:
		return Resolved{Choice: Choice{Descriptor: root, CheckConfig: true}, Manifest: doc.Manifest}, nil
	case doc.Index == nil:
		err = invalid(ErrMediaType, "neither an index nor a manifest")
	default:
		r.none.Empty = len(doc.Index.Manifests) == 0
		found, err = r.walk(doc.Index, nil)
	}
	if err == nil && found == nil {
		err = r.none
	}
	if err != nil {
		return Resolved{}, err
	}
	return *found, nil
}

// A resolver is the state of one call of Resolve.
type resolver struct {
	ctx    context.Context // of the call
	fetch  func(ctx context.Context, desc ocispec.Descriptor) ([]byte, error)
	accept func(context.Context, Resolved) (bool, error)
	target *target
	left   int                    // documents that may still be fetched
	seen   map[digest.Digest]bool // indexes walked through
	none   *NoMatchError          // collects what the indexes have
}

// walk returns the manifest below an index, or nil if none fits. through are the nested
// indexes on the way to idx; the last of them is idx itself.
func (r *resolver) walk(idx *ocispec.Index, through []ocispec.Descriptor) (*Resolved, error) {
	r.none.add(*idx)
	for _, c := range r.target.ranking(*idx) {
		found, err := r.try(choice(&idx.Manifests[c.entry], c.score), through)
		if errors.Is(err, ErrSkip) {
			continue
		}
		if found != nil || err != nil {
			return found, err
		}
	}
	return nil, nil
}

// try returns the manifest that one candidate leads to, or nil if there is none.
func (r *resolver) try(c Choice, through []ocispec.Descriptor) (*Resolved, error) {
	desc := c.Descriptor
	if err := checkDescriptor(&desc, ErrBadIndex); err != nil {
		return nil, err
	}
	nested := mediatype.ClassOf(desc.MediaType) == mediatype.Index
	if nested {
		if r.seen[desc.Digest] {
			return nil, nil
		}
		r.seen[desc.Digest] = true
		if len(through) == MaxDepth {
			return nil, invalid(ErrTooDeep, "index %s is nested more than %d levels deep", desc.Digest, MaxDepth)
		}
	}
	body, err := r.get(desc)
	if err != nil {
		return nil, err
	}
	doc, err := Parse(desc.MediaType, body)
	if err != nil {
		return nil, inDocument(desc, err)
	}
	if nested {
		return r.walk(doc.Index, append(slices.Clip(through), desc))
	}
	found := Resolved{Choice: c, Manifest: doc.Manifest, Through: through}
	if !c.CheckConfig {
		found.Platform = Normalize(*desc.Platform)
	}
	switch {
	case r.accept != nil:
		return r.accepted(found)
	case c.CheckConfig:
		return r.byConfig(found)
	}
	return &found, nil
}

// accepted returns the manifest if Accept takes it, and nil otherwise.
func (r *resolver) accepted(found Resolved) (*Resolved, error) {
	ok, err := r.accept(r.ctx, found)
	if err != nil || !ok {
		return nil, err
	}
	return &found, nil
}

// byConfig returns the manifest if its config is for the platform, and nil otherwise.
func (r *resolver) byConfig(found Resolved) (*Resolved, error) {
	config := found.Manifest.Config
	if !mediatype.IsConfig(config.MediaType) { // not an image, so it fits no platform
		r.none.leaveOut(ReasonArtifact, &found.Descriptor)
		return nil, nil
	}
	body, err := r.get(config)
	if err != nil {
		return nil, err
	}
	p, err := ConfigPlatform(body)
	if err != nil {
		return nil, inDocument(config, err)
	}
	sc, why := r.target.rate(&p)
	if why != "" {
		r.none.add(ocispec.Index{Manifests: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageManifest, Platform: &p}}})
		return nil, nil
	}
	found.Exact, found.CheckConfig = sc.fallback == 0, false
	found.Platform = Normalize(p)
	return &found, nil
}

// get fetches content and verifies it.
func (r *resolver) get(desc ocispec.Descriptor) ([]byte, error) {
	if r.left--; r.left < 0 {
		return nil, invalid(ErrTooDeep, "more than %d documents would be fetched", MaxDocuments)
	}
	if desc.Size > MaxSize {
		return nil, invalid(ErrTooLarge, "%s has %d bytes, at most %d are read", desc.Digest, desc.Size, MaxSize)
	}
	body, err := r.fetch(r.ctx, desc)
	if err != nil {
		return nil, err
	}
	if int64(len(body)) != desc.Size {
		return nil, invalid(ErrSizeMismatch, "%s has %d bytes, its descriptor says %d", desc.Digest, len(body), desc.Size)
	}
	if !verify.Bytes(desc.Digest, body) {
		return nil, invalid(ErrDigestMismatch, "content fetched as %s has another digest", desc.Digest)
	}
	return body, nil
}

// inDocument adds to an InvalidError the digest of the document that it is about.
func inDocument(desc ocispec.Descriptor, err error) error {
	var bad *InvalidError
	if errors.As(err, &bad) {
		bad.Detail = string(desc.Digest) + ": " + bad.Detail
	}
	return err
}

// Match reports whether a machine of platform want runs an image for platform p, and
// whether it does so without a fallback. It compares p as Select compares the platform of
// an entry. Use it for platforms that do not come from an index, such as that of an image's
// config.
func (s Selector) Match(p, want ocispec.Platform) (exact, ok bool) {
	var t target
	if t.prepare(s, &want) != nil {
		return false, false
	}
	sc, why := t.rate(&p)
	return why == "" && sc.fallback == 0, why == ""
}
