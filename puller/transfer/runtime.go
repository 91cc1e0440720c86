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

// A Config has the settings of a Runtime: the source and the store of images, and the
// limits. A zero field means its default.
type Config struct {
	// Store keeps the images. Without a Store, a Runtime can only Resolve. If the Store
	// is a content.SpaceReporter, a pull for which there is too little room fails before
	// its first blob. If the Store is also a content.PartialReporter, bytes that earlier
	// pulls left need no further room. If the Store is a content.Holder, each Pull holds
	// content until it has named the image. A blob whose ingest is a content.OrderedIngest
	// is fetched over one connection. A blob whose ingest is a content.VerifyingIngest, and
	// verifies the blob, is not hashed.
	Store content.Store
	// Source is what images are read from. Nil means a new registry.Client whose only
	// setting is Logger. A Source has to limit how long it waits for a server. If the
	// Source is a content.Resolver, Resolve does not fetch the manifest.
	Source content.Source
	// MaxBlobs is how many blobs are fetched at the same time, over all pulls. At most as
	// many manifests are asked for at the same time. While that many large blobs are
	// fetched, one blob of less than 2 MiB is fetched as well, so that small images do
	// not wait for large ones. Zero means 10, and one more blob of at most 64 KiB, such
	// as a config.
	MaxBlobs int
	// MaxConnsPerBlob is the largest number of connections that fetch parts of one large
	// blob. A blob starts with one connection. Others are added one at a time, as long as
	// bytes come more slowly than they can be hashed and written, and each added
	// connection makes the transfer faster.
	//
	// A blob that comes over one connection is one request, or one for each gap between
	// bytes that an earlier pull left. A blob that comes over more connections is about
	// two requests for each connection, and one more for each 192 MiB: 4 GiB over 8
	// connections are about 30. After the registry has refused a request because
	// of their number (429 or 503), the rest of a blob is not divided any more.
	//
	// Zero means 8; 1 means that blobs are never fetched in parts.
	MaxConnsPerBlob int
	// MaxMemory is the limit for the buffers of all pulls together, in bytes. Zero means
	// 4 MiB. A value below 1 MiB means 1 MiB.
	MaxMemory int64
	// NewHash returns a hash for an algorithm (sha256, sha384, sha512), for programs that
	// have a faster one. The hash's Write must not use its argument after it has
	// returned. Nil, or a nil result, means the standard library's hash.
	NewHash func(digest.Algorithm) hash.Hash
	// RequirePlatform refuses an image that is not in an index and whose config
	// names another platform than the one asked for. If false, such an image is
	// pulled, as the kubelet's runtimes do. Artifacts, whose config names no
	// platform, are always pulled.
	RequirePlatform bool
	// Logger gets details such as failed attempts, at level debug. Nil means no log.
	Logger *slog.Logger
}

// A Runtime pulls images from a Source into a Store. It is a puller.Runtime, a
// puller.Planner, a puller.Resolver, a puller.Inspector and a content.MirrorNamer. Its methods
// may be called concurrently. Make one
// Runtime for each Store, because only pulls of the same Runtime share the fetches of
// blobs.
type Runtime struct {
	store           content.Store
	source          content.Source
	newHash         func(digest.Algorithm) hash.Hash
	requirePlatform bool
	log             *slog.Logger
	documents       chan struct{} // has one element for each manifest that is asked for
	fetcher         *fetch.Fetcher
	flights         flights
}

var (
	_ puller.Runtime   = (*Runtime)(nil)
	_ puller.Planner   = (*Runtime)(nil)
	_ puller.Resolver  = (*Runtime)(nil)
	_ puller.Inspector = (*Runtime)(nil)

	_ content.MirrorNamer = (*Runtime)(nil)
)

// maxBlobs is the value that is used instead of a larger Config.MaxBlobs.
const maxBlobs = 1 << 16

// New returns a Runtime. It does no I/O. The error names a limit in conf that is
// negative.
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
	if conf.MaxBlobs == 0 {
		r.flights.tiny = 1
	}
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

// MirrorNames returns the names that ref has at mirrors, if the Source is a content.MirrorNamer,
// such as a registry.Client. Otherwise it returns no name.
func (r *Runtime) MirrorNames(ctx context.Context, ref reference.Reference) ([]reference.Reference, error) {
	namer, ok := r.source.(content.MirrorNamer)
	if !ok {
		return nil, nil
	}
	return namer.MirrorNames(ctx, ref)
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

// check returns an error if the Runtime has no Store or the call has no reference.
func (r *Runtime) check(c *call) error {
	if r.store == nil {
		return errors.New("transfer: Config.Store is nil; set it, for example to what layout.Open returns")
	}
	if handler := c.spec.RuntimeHandler; handler != "" {
		return credentials.Stop(fmt.Errorf("%w: package transfer keeps the images of all runtime handlers in one store, so it cannot pull for the handler %s alone: leave RuntimeHandler empty, or use a Runtime for each handler", errors.ErrUnsupported, redact.Quote(handler, maxHandler)))
	}
	return c.checkRef()
}

// maxHandler is the most bytes of a runtime handler that an error quotes.
const maxHandler = 63

// A call is one call of a Runtime that may ask the registry.
type call struct {
	spec  puller.Spec
	masks []func(text string) string // content.Document's Mask, of each document that came
	named bool                       // the registry itself resolved the name without a credential
	shown map[digest.Digest]bool     // documents and blobs whose bytes came without a credential; see public
	// opening is the Opening of the content.Document that the name points to.
	opening content.Opening
	// confirmation is the Confirmation of the same content.Document.
	confirmation any
}

// repo returns the name and the credentials with which the Source is asked.
func (c *call) repo() content.Repo {
	return content.Repo{Ref: c.spec.Ref, Cred: c.spec.Credential, Mirrors: c.spec.Mirrors, Confirmation: c.confirmation}
}

// end calls Spec.Opened if the registry itself has not let the call have the image. The caller
// calls end only if the call has succeeded.
func (c *call) end() {
	if c.spec.Opened != nil && c.opening != (content.Opening{}) {
		c.spec.Opened(c.opening)
	}
}

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

// runtimeError turns an error into one that a puller.Runtime may return, without secrets.
func (c *call) runtimeError(ctx context.Context, err error) error {
	return withMeaning(c.masked(withEnd(ctx, err)))
}

// withMeaning wraps an error in the error by which a Puller knows what to do. The reasons
// of package content stay in it.
//
// Another credential is tried after not found, unauthorized and denied, because
// registries give each of these answers to a client without access. It is also tried
// after ErrUnavailable, because some registries answer a wrong password in this way. No
// other failure depends on the credential.
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

// withEnd adds the error of ctx to err if ctx has ended.
func withEnd(ctx context.Context, err error) error {
	if ctx.Err() == nil || errors.Is(err, ctx.Err()) {
		return err
	}
	return fmt.Errorf("%w: %w", ctx.Err(), err)
}

// absent reports whether err says that the Store does not have something.
func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) }
