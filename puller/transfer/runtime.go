package transfer

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"log/slog"
	"time"

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
// once. Store must be set, but to Resolve names alone; all else may be zero.
type Config struct {
	// Store keeps the images.
	Store content.Store
	// Source is what images are read from; nil means a new registry.Client with
	// nothing set but Logger.
	Source content.Source
	// Blobs is how many blobs are fetched at once, over all pulls, and as many
	// manifests. Beside as many large blobs one of less than 2 MiB is fetched, so
	// that small images do not wait for large ones. Zero means 10.
	Blobs int
	// Ranges is how many connections fetch parts of one large blob at most. There
	// is one to begin with; others are added one at a time while bytes come slower
	// than they can be hashed and written, and each one more brings more. Zero means
	// 8; 1 means that blobs are never fetched in parts.
	Ranges int
	// Memory bounds the buffers of all transfers, in bytes. Zero means 4 MiB;
	// less than 1 MiB means that.
	Memory int64
	// Stall is how long the Source may take for an answer, or for the next bytes
	// of one, before that call is given up. It is for Sources that do not look
	// after that themselves, as a registry.Client does with its own Stall: that
	// one is not watched. Zero means 2 minutes, negative no limit.
	Stall time.Duration
	// NewHash makes the hash for an algorithm (sha256, sha384, sha512), where a
	// program brings a faster one. Write must be done with its argument when it
	// returns. Nil, or a nil result, means the standard library's.
	NewHash func(digest.Algorithm) hash.Hash
	// Admit is asked before any blob is fetched whether the image may be pulled;
	// its error ends the pull as a failed signature validation. ref has the
	// digest of what the name points to, often an index; desc and manifest are
	// the platform's manifest. It may be called concurrently, and more than once
	// for a pull if an index names several manifests for a platform. An image that
	// is there is asked about when it is pulled again, and not by Status. Nil
	// admits all.
	Admit func(ctx context.Context, ref reference.Reference, desc ocispec.Descriptor, manifest []byte) error
	// RequirePlatform refuses an image that is not in an index and whose config
	// names another platform than the one asked for. If false, such an image is
	// pulled, as the kubelet's runtimes do. Artifacts, whose config names no
	// platform, are always pulled.
	RequirePlatform bool
	// Logger is told of tries that failed (debug); nil means silent.
	Logger *slog.Logger
}

// A Runtime pulls images from a Source into a Store. It is a puller.Runtime, a
// puller.Planner and a puller.Resolver. Its methods may be called concurrently;
// one Runtime for one Store is what lets pulls share blobs that are under way.
type Runtime struct {
	store           content.Store
	source          content.Source
	stall           time.Duration
	newHash         func(digest.Algorithm) hash.Hash
	admit           func(ctx context.Context, ref reference.Reference, desc ocispec.Descriptor, manifest []byte) error
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

// maxBlobs is what a larger Config.Blobs means.
const maxBlobs = 1 << 16

// New returns a Runtime. It does no I/O. Without a Store all its methods but
// Resolve fail.
func New(conf Config) *Runtime {
	r := &Runtime{
		store:           conf.Store,
		source:          conf.Source,
		stall:           conf.Stall,
		newHash:         conf.NewHash,
		admit:           conf.Admit,
		requirePlatform: conf.RequirePlatform,
		log:             conf.Logger,
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.source == nil {
		r.source = &registry.Client{Logger: conf.Logger}
	}
	if _, watchful := r.source.(*registry.Client); watchful {
		r.stall = -1
	} else if r.stall == 0 {
		r.stall = 2 * time.Minute
	}
	blobs, conns := min(orDefault(conf.Blobs, 10), maxBlobs), orDefault(conf.Ranges, 8)
	r.documents = make(chan struct{}, blobs)
	r.flights.limit = blobs
	r.flights.fetch = r.fetchBlob
	r.fetcher = fetch.New(fetch.Config{
		Memory:          orDefault(conf.Memory, 4<<20),
		MaxConns:        max(blobs, conns),
		MaxConnsPerBlob: conns,
		NewHash:         r.hashFor,
		Queue:           &r.flights,
		Log:             r.log,
	})
	r.flights.fetcher = r.fetcher
	return r
}

// orDefault is n if that is positive.
func orDefault[T int | int64](n, standard T) T {
	if n > 0 {
		return n
	}
	return standard
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
		return nil, &content.Error{Kind: content.ErrBadDigest, Err: err}
	}
	return h, nil
}

// check returns an error if a call cannot work at all.
func (r *Runtime) check(spec puller.Spec) error {
	if r.store == nil {
		return errors.New("transfer: Config.Store is nil; give one, such as layout.Open's")
	}
	if spec.Ref.IsZero() {
		return &content.Error{Kind: content.ErrBadReference, Err: errors.New("the reference is empty")}
	}
	return nil
}

// runtimeError turns an error into what a puller.Runtime has to return, without secrets.
func (r *Runtime) runtimeError(ctx context.Context, spec puller.Spec, err error) error {
	return withMeaning(r.masked(withEnd(ctx, err), spec.Credential))
}

// withMeaning wraps an error in what its kind means to a Puller. The kinds of package
// content stay in it.
//
// Another credential is tried after not found, unauthorized and denied, because
// registries say each of these to strangers, and after answers of a broken registry,
// because some registries fail in this way at a wrong password. Nothing else that can
// happen depends on the credential.
func withMeaning(err error) error {
	kind := content.KindOf(err)
	switch kind {
	case content.ErrUnavailable, content.ErrNetwork, content.ErrTimeout:
		err = &reasonError{puller.ErrRegistryUnavailable, err}
	case content.ErrRefused:
		err = &reasonError{puller.ErrSignatureValidation, err}
	}
	var answer *content.Error
	if errors.As(err, &answer) && (kind == content.ErrRateLimited || answer.RetryAfter > 0) {
		return credentials.Stop(&puller.RetryError{After: answer.RetryAfter, Err: err})
	}
	switch kind {
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
func (r *Runtime) masked(err error, cred credentials.Credential) error {
	said := err.Error()
	text := redact.Secrets(said, cred.Password.Reveal(), cred.IdentityToken.Reveal(), cred.RegistryToken.Reveal())
	if m, ok := r.source.(content.Masker); ok {
		text = m.Mask(cred, text)
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
