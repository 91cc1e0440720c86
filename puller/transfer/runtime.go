package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"log/slog"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer/internal/fetch"
	"github.com/pullkit/pullkit/reference"
)

// A Config says where images come from, where they go, and how much is done at
// once. A field that is zero means its default.
type Config struct {
	// Store keeps the images. Without a Store, a Runtime can only Resolve. If it is a
	// content.SpaceReporter, a pull that does not fit fails before its first blob; if
	// it is a content.PartialReporter too, what earlier pulls left counts.
	Store content.Store
	// Source is what images are read from; nil means a new registry.Client with
	// nothing set but Logger. A Source limits how long it waits for a server. If it is
	// a content.Resolver, Resolve asks without fetching the manifest.
	Source content.Source
	// MaxBlobs is how many blobs are fetched at once, over all pulls, and as many
	// manifests. While that many large blobs are fetched, one of less than 2 MiB is
	// fetched as well, so that small images do not wait for large ones. Zero means 10.
	MaxBlobs int
	// MaxConnsPerBlob is how many connections fetch parts of one large blob at most.
	// There is one to begin with; others are added one at a time while bytes come slower
	// than they can be hashed and written, and each one more brings more. Zero means
	// 8; 1 means that blobs are never fetched in parts.
	MaxConnsPerBlob int
	// MaxMemory bounds the buffers of all transfers, in bytes. Zero means 4 MiB;
	// less than 1 MiB means that.
	MaxMemory int64
	// NewHash makes the hash for an algorithm (sha256, sha384, sha512), where a
	// program brings a faster one. Write must be done with its argument when it
	// returns. Nil, or a nil result, means the standard library's.
	NewHash func(digest.Algorithm) hash.Hash
	// Admit is asked before any blob is fetched whether the image may be pulled;
	// its error ends the pull as a failed signature validation. It may be called
	// concurrently, and more than once for a pull if an index names several manifests
	// for a platform. An image that is there is asked about when it is pulled again,
	// and not by Status. Nil admits all.
	Admit func(ctx context.Context, image Admission) error
	// RequirePlatform refuses an image that is not in an index and whose config
	// names another platform than the one asked for. If false, such an image is
	// pulled, as the kubelet's runtimes do. Artifacts, whose config names no
	// platform, are always pulled.
	RequirePlatform bool
	// Logger receives attempts that failed (debug); nil means silent.
	Logger *slog.Logger
}

// An Admission is the image that Config.Admit is asked about.
type Admission struct {
	// Ref is the name of the image with the digest of what the name points to, which
	// often is an index.
	Ref reference.Reference
	// Descriptor and Manifest are the platform's manifest.
	Descriptor ocispec.Descriptor
	Manifest   []byte
}

// A Runtime pulls images from a Source into a Store. It is a puller.Runtime, a
// puller.Planner and a puller.Resolver. Its methods may be called concurrently;
// one Runtime for one Store is what lets pulls share blobs that are under way.
type Runtime struct {
	store           content.Store
	source          content.Source
	newHash         func(digest.Algorithm) hash.Hash
	admit           func(context.Context, Admission) error
	requirePlatform bool
	log             *slog.Logger
	documents       chan struct{} // has one element for each manifest that is asked for
	fetcher         *fetch.Fetcher
	flights         flights
}

var (
	_ puller.Runtime  = (*Runtime)(nil)
	_ puller.Planner  = (*Runtime)(nil)
	_ puller.Resolver = (*Runtime)(nil)
)

// maxBlobs is what a larger Config.MaxBlobs means.
const maxBlobs = 1 << 16

// New returns a Runtime. It does no I/O. A limit that is negative is an error.
func New(conf Config) (*Runtime, error) {
	for _, limit := range []struct {
		field string
		value int64
	}{{"MaxBlobs", int64(conf.MaxBlobs)}, {"MaxConnsPerBlob", int64(conf.MaxConnsPerBlob)}, {"MaxMemory", conf.MaxMemory}} {
		if limit.value < 0 {
			return nil, fmt.Errorf("transfer: Config.%s is %d; give a positive number, or zero for the default", limit.field, limit.value)
		}
	}
	r := &Runtime{
		store:           conf.Store,
		source:          conf.Source,
		newHash:         conf.NewHash,
		admit:           conf.Admit,
		requirePlatform: conf.RequirePlatform,
		log:             conf.Logger,
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.source == nil {
		client, err := registry.New(registry.Config{Logger: conf.Logger})
		if err != nil {
			return nil, err
		}
		r.source = client
	}
	blobs, conns := min(cmp.Or(conf.MaxBlobs, 10), maxBlobs), cmp.Or(conf.MaxConnsPerBlob, 8)
	r.documents = make(chan struct{}, blobs)
	r.flights.limit = blobs
	r.flights.fetch = r.fetchBlob
	r.fetcher = fetch.New(fetch.Config{
		Memory:          cmp.Or(conf.MaxMemory, 4<<20),
		MaxConns:        max(blobs, conns),
		MaxConnsPerBlob: conns,
		NewHash:         r.hashFor,
		Queue:           &r.flights,
		Log:             r.log,
	})
	r.flights.fetcher = r.fetcher
	return r, nil
}

// hashFor returns a hash for d, which is well-formed.
func (r *Runtime) hashFor(d digest.Digest) (hash.Hash, error) {
	if r.newHash != nil {
		if h := r.newHash(d.Algorithm()); h != nil {
			return h, nil
		}
	}
	h, err := verify.New(d)
	if err != nil {
		return nil, &content.Error{Reason: content.ErrBadDigest, Err: err}
	}
	return h, nil
}

// check returns an error if a call cannot work at all.
func (r *Runtime) check(c *call) error {
	if r.store == nil {
		return errors.New("transfer: Config.Store is nil; give one, such as layout.Open's")
	}
	return c.checkRef()
}

// A call is one call of a Runtime that may ask the registry.
type call struct {
	spec  puller.Spec
	masks []func(text string) string // content.Document's Mask, of each document that came
}

// repo is where the registry is asked.
func (c *call) repo() content.Repo { return content.Repo{Ref: c.spec.Ref, Cred: c.spec.Credential} }

// isLast reports whether no other credential is tried after the call's.
func (c *call) isLast() bool { return c.spec.Last != nil && c.spec.Last() }

func (c *call) checkRef() error {
	if c.spec.Ref.IsZero() {
		return &content.Error{Reason: content.ErrBadReference, Err: errors.New("the reference is empty")}
	}
	return nil
}

// checkPinned returns an error if the reference names a digest and got has another one.
func (c *call) checkPinned(got ocispec.Descriptor) error {
	if pinned := c.spec.Ref.Digest(); pinned != "" && got.Digest != pinned {
		return fetch.Errorf(content.ErrDigestMismatch, "the source gave manifest %s for %s", got.Digest, pinned)
	}
	return nil
}

// runtimeError turns an error into what a puller.Runtime has to return, without secrets.
func (c *call) runtimeError(ctx context.Context, err error) error {
	return withMeaning(c.masked(withEnd(ctx, err)))
}

// withMeaning wraps an error in what its reason means to a Puller. The reasons of package
// content stay in it.
//
// Another credential is tried after not found, unauthorized and denied, because
// registries say each of these to strangers, and after answers of a broken registry,
// because some registries fail in this way at a wrong password. Nothing else that can
// happen depends on the credential.
func withMeaning(err error) error {
	reason := content.ReasonOf(err)
	switch reason {
	case content.ErrUnavailable, content.ErrNetwork, content.ErrTimeout:
		err = &reasonError{puller.ErrRegistryUnavailable, err}
	case content.ErrRefused:
		err = &reasonError{puller.ErrSignatureValidation, err}
	}
	var answer *content.Error
	if errors.As(err, &answer) && (reason == content.ErrRateLimited || answer.RetryAfter > 0) {
		return credentials.Stop(&puller.RetryError{After: answer.RetryAfter, Err: err})
	}
	switch reason {
	case content.ErrNotFound, content.ErrUnauthorized, content.ErrDenied, content.ErrUnavailable:
		return err
	}
	return credentials.Stop(err)
}

// A reasonError adds one of the kubelet's reasons to an error and changes no text.
type reasonError struct {
	reason puller.Reason
	err    error
}

func (e *reasonError) Error() string   { return e.err.Error() }
func (e *reasonError) Unwrap() []error { return []error{e.err, e.reason} }

// masked removes the credential's secrets, and the tokens that the Source got for it, from
// an error's text. A registry may repeat them in a manifest, whose faults the error quotes.
func (c *call) masked(err error) error {
	said := err.Error()
	cred := c.spec.Credential
	text := redact.Secrets(said, cred.Password.Reveal(), cred.IdentityToken.Reveal(), cred.RegistryToken.Reveal())
	for _, mask := range c.masks {
		text = mask(text)
	}
	if text == said {
		return err
	}
	return &maskedError{text, err}
}

type maskedError struct {
	text string
	err  error
}

func (e *maskedError) Error() string { return e.text }
func (e *maskedError) Unwrap() error { return e.err }

// withEnd makes the error of a call whose context has ended say so.
func withEnd(ctx context.Context, err error) error {
	if ctx.Err() == nil || errors.Is(err, ctx.Err()) {
		return err
	}
	return fmt.Errorf("%w: %w", ctx.Err(), err)
}

// absent reports whether err says that the Store does not have something.
func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) }
