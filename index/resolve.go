package index

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/verify"
)

const (
	// MaxDepth is how many levels of indexes Resolve follows below the first.
	MaxDepth = 4
	// MaxDocuments is how many manifests, indexes and configs one Resolve fetches.
	MaxDocuments = 64
)

// A Fetch returns the content of a manifest, an index or an image's config.
// Resolve verifies what it returns. It must not return more than it needs to
// show that the content is longer than desc.Size, which is at most MaxSize.
type Fetch func(ctx context.Context, desc ocispec.Descriptor) ([]byte, error)

// A Resolved is the manifest that a document leads to for a platform.
type Resolved struct {
	// Choice is the manifest. CheckConfig is set only if the document itself is
	// the manifest, so that no index was there to vouch for it: registries hold
	// many images whose config names a wrong platform, so whether a mismatch is an
	// error is the caller's to say (see ConfigPlatform and Selector.Match).
	Choice
	Manifest *ocispec.Manifest
	// Platform is what the entry of the index says, or the config where no entry
	// does; normalised. It is zero if CheckConfig is set.
	Platform ocispec.Platform
	// Through are the nested indexes on the way, outermost first.
	Through []ocispec.Descriptor
}

// Resolve walks from a document to the manifest for want: through nested
// indexes, at most MaxDepth levels down, each once; for an entry without
// platform, by the platform in its image's config. After a no-match below one
// candidate it goes on to the next.
//
// root describes doc. What fetch returns is verified against its descriptor and
// must be of the kind its descriptor says. The error is that of fetch, or as for
// Select; a NoMatchError names what all indexes seen have.
func (s Selector) Resolve(ctx context.Context, root ocispec.Descriptor, doc *Document, want ocispec.Platform, fetch Fetch) (Resolved, error) {
	var w wish
	if err := w.prepare(s, &want); err != nil {
		return Resolved{}, err
	}
	switch {
	case doc.Manifest != nil:
		return Resolved{Choice: Choice{Descriptor: root, CheckConfig: true}, Manifest: doc.Manifest}, nil
	case doc.Index == nil:
		return Resolved{}, invalid(RuleMediaType, "neither an index nor a manifest")
	}
	r := resolver{
		ctx: ctx, fetch: fetch, wish: &w, left: MaxDocuments,
		seen: map[digest.Digest]bool{root.Digest: true},
		none: &NoMatchError{Want: want, Empty: len(doc.Index.Manifests) == 0},
	}
	found, err := r.walk(doc.Index, MaxDepth)
	if err != nil {
		return Resolved{}, err
	}
	if found == nil {
		return Resolved{}, r.none
	}
	return *found, nil
}

// A resolver is one Resolve at work.
type resolver struct {
	ctx   context.Context // of the one call this lives for
	fetch Fetch
	wish  *wish
	left  int                    // documents that may still be fetched
	seen  map[digest.Digest]bool // indexes walked through
	none  *NoMatchError          // what there was, should nothing fit
}

// walk returns the manifest below an index, nil if there is none. Indexes may be
// nested levels deep.
func (r *resolver) walk(idx *ocispec.Index, levels int) (*Resolved, error) {
	r.none.add(*idx)
	for _, c := range r.wish.ranking(*idx) {
		found, err := r.try(choice(&idx.Manifests[c.entry], c.score), levels)
		if found != nil || err != nil {
			return found, err
		}
	}
	return nil, nil
}

// try follows one candidate. It returns nil if the candidate leads nowhere.
func (r *resolver) try(c Choice, levels int) (*Resolved, error) {
	desc := c.Descriptor
	if err := checkDescriptor(&desc, RuleIndex); err != nil {
		return nil, err
	}
	nested := classify(desc.MediaType) == classIndex
	if nested {
		if r.seen[desc.Digest] {
			return nil, nil
		}
		r.seen[desc.Digest] = true
		if levels == 0 {
			return nil, invalid(RuleTooDeep, "index %s is nested more than %d levels deep", desc.Digest, MaxDepth)
		}
	}
	body, err := r.get(desc)
	if err != nil {
		return nil, err
	}
	doc, err := Parse(desc.MediaType, body)
	if err != nil {
		return nil, inside(desc, err)
	}
	if nested {
		found, err := r.walk(doc.Index, levels-1)
		if found != nil {
			found.Through = append([]ocispec.Descriptor{desc}, found.Through...)
		}
		return found, err
	}
	found := &Resolved{Choice: c, Manifest: doc.Manifest}
	if c.CheckConfig {
		return r.byConfig(found)
	}
	found.Platform = Normalize(*desc.Platform)
	return found, nil
}

// byConfig lets the config say whether a manifest is for the platform; nil if not.
func (r *resolver) byConfig(found *Resolved) (*Resolved, error) {
	config := found.Manifest.Config
	if !imageConfig(config.MediaType) {
		return nil, nil // no image, so for no platform
	}
	body, err := r.get(config)
	if err != nil {
		return nil, err
	}
	p, err := ConfigPlatform(body)
	if err != nil {
		return nil, inside(config, err)
	}
	sc, why := r.wish.rate(&p)
	if why != "" {
		r.none.add(ocispec.Index{Manifests: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageManifest, Platform: &p}}})
		return nil, nil
	}
	found.Exact, found.CheckConfig = sc.rung == 0, false
	found.Platform = Normalize(p)
	return found, nil
}

// get fetches content and verifies it.
func (r *resolver) get(desc ocispec.Descriptor) ([]byte, error) {
	if r.left--; r.left < 0 {
		return nil, invalid(RuleTooDeep, "more than %d documents looked at", MaxDocuments)
	}
	if desc.Size > MaxSize {
		return nil, invalid(RuleTooLarge, "%s has %d bytes, at most %d are read", desc.Digest, desc.Size, MaxSize)
	}
	body, err := r.fetch(r.ctx, desc)
	if err != nil {
		return nil, err
	}
	if int64(len(body)) != desc.Size {
		return nil, invalid(RuleSizeMismatch, "%s has %d bytes, its descriptor says %d", desc.Digest, len(body), desc.Size)
	}
	if !verify.Bytes(desc.Digest, body) {
		return nil, invalid(RuleDigestMismatch, "content fetched as %s is not that", desc.Digest)
	}
	return body, nil
}

// inside says which document an InvalidError is about.
func inside(desc ocispec.Descriptor, err error) error {
	var bad *InvalidError
	if errors.As(err, &bad) {
		bad.Reason = string(desc.Digest) + ": " + bad.Reason
	}
	return err
}

// Match reports whether a machine of platform want runs an image for platform
// p, and whether without a fallback. It is what Select does with each entry, for
// platforms that come from elsewhere, such as an image's config.
func (s Selector) Match(p, want ocispec.Platform) (exact, ok bool) {
	var w wish
	if w.prepare(s, &want) != nil {
		return false, false
	}
	sc, why := w.rate(&p)
	return why == "" && sc.rung == 0, why == ""
}
