package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/panics"
	"github.com/pullkit/pullkit/internal/share"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/transfer/internal/fetch"
	"github.com/pullkit/pullkit/reference"
)

// maxCommitting is how many flights may have all their bytes and wait for the disk, in
// addition to those that are fetching. In the meantime their connections go on with other
// blobs, and a Store can make many blobs durable at once.
const maxCommitting = 32

// A flightKey is what two pulls' blobs must have in common to share a flight. Equal
// digests with different sizes are two flights: one of the sizes is wrong, and its flight
// must not make the other flight fail. A blob whose data is in its descriptor is a
// separate flight too, because it does not fail if the registry does; the Store ingests
// the two one after another.
type flightKey struct {
	digest digest.Digest
	size   int64
	inData bool
}

// A flight is the fetch of one blob for all pulls of the Runtime that need it. It goes on
// as long as one of these pulls waits for it, even if the pull that started it has left
// it.
type flight struct {
	key      flightKey
	desc     ocispec.Descriptor
	repo     content.Repo // where it is asked for
	run      *share.Run[flightKey, *batch, *flight]
	progress fetch.Progress

	// Guarded by flights.mu.
	running  bool
	fetching bool // counts against the limit of fetches

	// Set when the run has ended.
	err     error
	present bool // nothing was fetched: another process had stored the blob
	// anonymous says that all bytes of the blob came in this flight, and without a credential.
	anonymous bool
}

// A batch has the flights that one pull waits for.
type batch struct {
	repo     content.Repo
	finished chan *flight // has room for all of them
	waiting  map[flightKey]*flight
}

// flights has the flights of all blobs that are needed and not stored yet. Some are
// fetched; the others wait in a queue, without a goroutine. flights is a fetch.Queue.
type flights struct {
	limit   int // of fetches at the same time
	tiny    int // how many tiny blobs are fetched beyond the limit
	fetcher *fetch.Fetcher
	fetch   func(context.Context, *flight) (present bool, err error)
	group   share.Group[flightKey, *batch, *flight]

	mu            sync.Mutex
	small         []*flight // the queue
	large         []*flight // the queue of those that need a connection of the Fetcher
	fetching      int
	fetchingLarge int // the large ones of those
	running       int
}

// join makes b wait for the flight of desc, which is put into the queue if there is
// none. fs.mu is held.
func (fs *flights) join(ctx context.Context, b *batch, desc ocispec.Descriptor) *flight {
	key := flightKey{desc.Digest, desc.Size, len(desc.Data) > 0}
	if f := b.waiting[key]; f != nil {
		return f
	}
	run, first := fs.group.Join(ctx, key, b, func() *flight { return &flight{key: key, desc: desc, repo: b.repo} })
	f := run.Value
	if first {
		f.run = run
		if fetch.Large(desc.Size) {
			fs.large = append(fs.large, f)
		} else {
			fs.small = append(fs.small, f)
		}
	}
	b.waiting[key] = f
	return f
}

// start starts as many flights of the queues as the limits allow. fs.mu is held.
func (fs *flights) start() {
	for fs.running < fs.limit+maxCommitting {
		switch {
		case fs.largeMayStart() && fs.fetcher.AcquireConn():
			fs.fetchingLarge++
			fs.large = fs.startFirst(fs.large)
		// Small blobs take little time, and do not wait for a large blob to end.
		case len(fs.small) > 0 && (fs.fetching < fs.limit || fs.fetching == fs.fetchingLarge || fs.mayExceed(fs.small[0])):
			fs.small = fs.startFirst(fs.small)
		default:
			return
		}
	}
}

// tinySize is the largest size of a blob that takes no longer than its round trip, as a
// config does.
const tinySize = 64 << 10

// mayExceed reports whether a small flight may start although the limit is reached: it has
// its data already, or it is tiny and the limit leaves room for it. So the config of an
// image with ten layers does not wait for one of them. fs.mu is held.
func (fs *flights) mayExceed(f *flight) bool {
	return f.key.inData || fs.fetching < fs.limit+fs.tiny && f.desc.Size <= tinySize
}

// largeMayStart reports whether a large flight waits and can start without taking the
// places of small ones that wait. fs.mu is held.
func (fs *flights) largeMayStart() bool {
	fs.small, fs.large = dropAbandoned(fs.small), dropAbandoned(fs.large)
	forSmall := 0
	if len(fs.small) > 0 {
		forSmall = min(2, fs.limit-1)
	}
	return len(fs.large) > 0 && fs.fetching < fs.limit && fs.fetchingLarge < fs.limit-forSmall
}

// dropAbandoned removes flights that all pulls have left from the head of a queue.
func dropAbandoned(queue []*flight) []*flight {
	for len(queue) > 0 && queue[0].run.Context().Err() != nil {
		queue[0] = nil
		queue = queue[1:]
	}
	return queue
}

// startFirst starts the first flight of a queue and returns the rest of the queue. fs.mu
// is held.
func (fs *flights) startFirst(queue []*flight) []*flight {
	f := queue[0]
	queue[0] = nil
	f.running, f.fetching = true, !f.key.inData
	if f.fetching {
		fs.fetching++
	}
	fs.running++
	f.run.Go(func(ctx context.Context) {
		defer fs.ended(f)
		f.present, f.err = fs.fetch(ctx, f)
	}, func(waiters []*batch, _ *panics.Error) {
		for _, b := range waiters {
			b.finished <- f
		}
	})
	return queue[1:]
}

// ended removes f from the running flights.
func (fs *flights) ended(f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.releaseConn(f)
	fs.running--
	fs.start()
}

// fetched gives back the connection of f, which has all its bytes.
func (fs *flights) fetched(f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.releaseConn(f)
	fs.start()
}

// releaseConn removes f from the fetching flights. fs.mu is held.
func (fs *flights) releaseConn(f *flight) {
	if !f.fetching {
		return
	}
	f.fetching = false
	fs.fetching--
	if fetch.Large(f.desc.Size) {
		fs.fetchingLarge--
		fs.fetcher.ReleaseConn()
	}
}

// Waiting reports whether a large flight waits only for a connection.
func (fs *flights) Waiting() bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.running < fs.limit+maxCommitting && fs.largeMayStart()
}

// Next starts a large flight that waits only for a connection. It returns false if there
// is no such flight or no free connection.
func (fs *flights) Next() bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	before := fs.fetchingLarge
	fs.start()
	return fs.fetchingLarge > before
}

// leave removes b from all flights that it waits for. Flights that no other pull waits
// for have ended when leave returns.
func (fs *flights) leave(b *batch) {
	var ending []*flight
	fs.mu.Lock()
	for key, f := range b.waiting {
		delete(b.waiting, key)
		if f.run.Leave(b) && f.running {
			ending = append(ending, f)
		}
	}
	fs.mu.Unlock()
	for _, f := range ending {
		<-f.run.Done()
	}
}

// outstanding returns how many bytes all flights have yet to write, at most
// math.MaxInt64. For flights that have not begun, kept returns how many bytes an earlier
// fetch left. fs.mu is held.
func (fs *flights) outstanding(kept func(ocispec.Descriptor) int64) int64 {
	var n int64
	for _, f := range fs.group.Values() {
		written := f.progress.Got.Load() + f.progress.Resumed.Load()
		if !f.progress.Begun.Load() {
			written = kept(f.desc)
		}
		if n += max(0, f.desc.Size-written); n < 0 {
			return math.MaxInt64
		}
	}
	return n
}

// fetchAll returns when all of descs are in the Store. It waits for flights of other
// pulls, or starts its own flights. After an error it has left all flights; those that no
// other pull needs have ended.
func (r *Runtime) fetchAll(ctx context.Context, c *call, descs []ocispec.Descriptor, m *meter) error {
	repo := c.repo()
	missing, err := r.missing(ctx, descs, m)
	if err != nil || len(missing) == 0 {
		return err
	}
	b := &batch{repo: repo, finished: make(chan *flight, len(missing)), waiting: make(map[flightKey]*flight, len(missing))}
	defer r.flights.leave(b)
	if err := r.joinAll(ctx, b, missing, m); err != nil {
		return err
	}
	tick, stop := m.ticks()
	defer stop()
	for len(b.waiting) > 0 {
		select {
		case f := <-b.finished:
			delete(b.waiting, f.key)
			f.run.Raise()
			switch {
			case f.err == nil:
				m.stored(f, c.named && f.anonymous)
				if f.anonymous {
					c.show(f.key.digest)
				}
			case r.sameAnswer(ctx, f.repo, repo) || content.ReasonOf(f.err) == content.ErrStore:
				// The registry would have answered this pull in the same way, or
				// the Store failed.
				return f.err
			default:
				if err := r.joinAll(ctx, b, []ocispec.Descriptor{f.desc}, m); err != nil {
					return err
				}
			}
		case <-tick:
			m.poll()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// sameAnswer reports whether a registry and its mirrors must give the same answer about a blob
// to requests for a and for b.
func (r *Runtime) sameAnswer(ctx context.Context, a, b content.Repo) bool {
	if a.Ref.Name() != b.Ref.Name() || !a.Cred.Same(b.Cred) {
		return false
	}
	if a.Mirrors == nil && b.Mirrors == nil {
		return true
	}
	ringA, okA := a.Mirrors.(credentials.Fingerprinter)
	ringB, okB := b.Mirrors.(credentials.Fingerprinter)
	names, err := r.MirrorNames(ctx, a.Ref)
	return okA && okB && err == nil && !slices.ContainsFunc(names, func(name reference.Reference) bool {
		return ringA.Fingerprint(name) != ringB.Fingerprint(name)
	})
}

// missing asks the Store which of descs it has. It returns the missing ones, the largest
// first, because the blob that takes longest must not begin last. If a returned
// descriptor has Data, that is the verified blob.
func (r *Runtime) missing(ctx context.Context, descs []ocispec.Descriptor, m *meter) ([]ocispec.Descriptor, error) {
	var missing []ocispec.Descriptor
	for _, d := range descs {
		if err := fetch.CheckDescriptor(d); err != nil {
			return nil, err
		}
		has, err := r.has(ctx, d)
		if err != nil {
			return nil, err
		}
		if has {
			m.present(d)
			continue
		}
		if int64(len(d.Data)) != d.Size || !verify.Bytes(d.Digest, d.Data) {
			d.Data = nil
		}
		missing = append(missing, d)
	}
	slices.SortStableFunc(missing, func(a, b ocispec.Descriptor) int { return int(min(1, max(-1, b.Size-a.Size))) })
	return missing, nil
}

// joinAll makes b wait for the flights of descs, if there is room for all of them.
func (r *Runtime) joinAll(ctx context.Context, b *batch, descs []ocispec.Descriptor, m *meter) error {
	fs := &r.flights
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, d := range descs {
		m.follow(fs.join(ctx, b, d))
	}
	if err := r.checkSpace(ctx); err != nil {
		return err // fetchAll leaves the flights, and ends those that only b waits for
	}
	fs.start()
	return nil
}

// checkSpace returns an error if the Store has too little room for the blobs that all
// pulls need now. It is called before the first byte is fetched. r.flights.mu is held.
func (r *Runtime) checkSpace(ctx context.Context) error {
	store, ok := r.store.(content.SpaceReporter)
	if !ok {
		return nil
	}
	free, err := store.Free(ctx)
	if err != nil {
		r.log.Debug("the free space is not known", "error", err)
		return nil
	}
	need := r.flights.outstanding(func(ocispec.Descriptor) int64 { return 0 })
	if need <= free {
		return nil
	}
	// Bytes that earlier fetches left take up room already.
	if partials, ok := r.store.(content.PartialReporter); ok {
		need = r.flights.outstanding(func(desc ocispec.Descriptor) int64 {
			kept, err := partials.Kept(ctx, desc)
			if err != nil {
				r.log.Debug("a partial is not known", "digest", desc.Digest, "error", err)
			}
			return kept
		})
	}
	if need <= free {
		return nil
	}
	return fetch.Errorf(content.ErrStore, "%d bytes are missing and %d are free: %w", need, free, content.ErrNoSpace)
}

// fetchBlob fetches the blob of f into the Store.
func (r *Runtime) fetchBlob(ctx context.Context, f *flight) (present bool, err error) {
	var bodies provenances
	present, err = r.fetcher.Fetch(ctx, fetch.Blob{
		Desc: f.desc,
		Open: func(ctx context.Context, off, n int64) (content.Body, error) {
			body, err := r.source.Blob(ctx, f.repo, f.desc, off, n)
			if err == nil {
				bodies.add(body.Provenance)
			}
			return body, err
		},
		Ingest:   func(ctx context.Context) (content.Ingest, error) { return r.store.Ingest(ctx, f.desc) },
		Has:      func(ctx context.Context) (bool, error) { return r.store.Has(ctx, f.desc) },
		Fetched:  func() { r.flights.fetched(f) },
		Progress: &f.progress,
	})
	if err != nil {
		advice := ""
		if len(f.desc.URLs) > 0 && errors.Is(err, fs.ErrNotExist) {
			advice = "; the manifest lists other addresses for it (urls), which are not followed"
		}
		return false, fmt.Errorf("blob %s: %w%s", f.desc.Digest, err, advice)
	}
	f.anonymous = !present && !f.key.inData && f.progress.Resumed.Load() == 0 && bodies.anonymous()
	return present, nil
}
