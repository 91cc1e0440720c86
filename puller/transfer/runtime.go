package transfer

import (
	"context"
	"errors"
	"hash"
	"log/slog"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/registry"
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
	store     content.Store
	source    content.Source
	ranges    int
	stall     time.Duration
	hashes    func(digest.Algorithm) hash.Hash
	admit     func(ctx context.Context, ref reference.Reference, desc ocispec.Descriptor, manifest []byte) error
	strict    bool
	log       *slog.Logger
	pool      *pool
	hashing   *limiter
	documents chan struct{} // one for each manifest that is asked for
	lanes     *lanes
	flights   flights
}

var (
	_ puller.Runtime = (*Runtime)(nil)
	_ puller.Planner = (*Runtime)(nil)
)

// New returns a Runtime. It does no I/O. Without a Store all its methods but
// Resolve fail.
func New(conf Config) *Runtime {
	r := &Runtime{
		store:   conf.Store,
		source:  conf.Source,
		ranges:  orDefault(conf.Ranges, 8),
		stall:   conf.Stall,
		hashes:  conf.NewHash,
		admit:   conf.Admit,
		strict:  conf.RequirePlatform,
		log:     conf.Logger,
		pool:    newPool(orDefault(conf.Memory, 4<<20)),
		hashing: newLimiter(),
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
	blobs := min(orDefault(conf.Blobs, 10), maxBlobs)
	r.documents = make(chan struct{}, blobs)
	r.lanes = newLanes(max(blobs, r.ranges), r.hashing)
	r.flights = flights{limit: blobs, lanes: r.lanes, fetch: r.fetch, byKey: map[flightKey]*flight{}}
	return r
}

// maxBlobs is what a larger Config.Blobs means.
const maxBlobs = 1 << 16

// orDefault is n if that is positive.
func orDefault[T int | int64](n, standard T) T {
	if n > 0 {
		return n
	}
	return standard
}

// newHash makes the hash for d, which is good.
func (r *Runtime) newHash(d digest.Digest) (hash.Hash, error) {
	if r.hashes != nil {
		if h := r.hashes(d.Algorithm()); h != nil {
			return h, nil
		}
	}
	h, err := verify.New(d)
	if err != nil {
		return nil, &content.Error{Kind: content.ErrBadDigest, Err: err}
	}
	return h, nil
}

// check finds what is wrong with a call before anything is done.
func (r *Runtime) check(spec puller.Spec) error {
	if r.store == nil {
		return errors.New("transfer: Config.Store is nil; give one, such as layout.Open's")
	}
	if spec.Ref.IsZero() {
		return &content.Error{Kind: content.ErrBadReference, Err: errors.New("the reference is empty")}
	}
	return nil
}
