package transfer

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/panics"
	"github.com/pullkit/pullkit/reference"
)

// A flight is the fetch of one blob for everybody in the process who wants it.
// It lives as long as somebody waits for it, whoever began it.
type flight struct {
	key    flightKey
	desc   ocispec.Descriptor
	from   origin
	ctx    context.Context // of the goroutine that fetches; the flight's own
	cancel context.CancelFunc

	// How far it is; read by the pulls that wait.
	got, resumed, restarts atomic.Int64
	begun                  atomic.Bool // resumed is known

	// Guarded by flights.mu.
	waiters  map[*batch]struct{}
	running  bool
	fetching bool // counts against the limit of fetches

	done     chan struct{} // closed when it is over; then these are set:
	err      error
	panicked *panics.Error // of the Source, the Store or a hash
	config   []byte        // what was fetched and verified, if it is a small config
	present  bool          // nothing was fetched: somebody else had stored it
}

// Equal digests with unlike sizes are two flights: one of them is wrong, and
// must not spoil the other. One that brings its data need not fail with one
// that asks for it; the Store lets them in one after the other.
type flightKey struct {
	digest digest.Digest
	size   int64
	data   bool
}

// An origin is where and as whom a blob is asked for.
type origin struct {
	ref  reference.Reference
	cred credentials.Credential
}

// same reports whether a registry must answer both alike.
func (o origin) same(p origin) bool {
	return o.ref.Name() == p.ref.Name() && o.cred.Same(p.cred)
}

// flights are all blobs that are wanted and not there yet: some are fetched, the
// others wait in a queue, without a goroutine.
type flights struct {
	limit int // fetches at once
	lanes *lanes
	fetch func(*flight) error

	mu       sync.Mutex
	byKey    map[flightKey]*flight
	small    []*flight // in the queue
	large    []*flight // the same, of those that need a lane
	fetching int
	bulky    int // large ones of those
	running  int
}

// committing is how many flights may be past their last byte, waiting for the
// disk, beside those that are fetching: their connections go on with other
// blobs, and a Store can make many blobs durable in one go.
const committing = 32

// A batch is the flights that one pull waits for.
type batch struct {
	from     origin
	finished chan *flight // room for all of them
	waiting  map[flightKey]*flight
}

// want makes b wait for desc's flight, begun if there is none. fs.mu is held.
func (fs *flights) want(ctx context.Context, b *batch, desc ocispec.Descriptor) *flight {
	key := flightKey{desc.Digest, desc.Size, len(desc.Data) > 0}
	f := fs.byKey[key]
	if f == nil {
		f = &flight{key: key, desc: desc, from: b.from, waiters: map[*batch]struct{}{}, done: make(chan struct{})}
		f.ctx, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
		fs.byKey[key] = f
		if desc.Size < pipeFrom {
			fs.small = append(fs.small, f)
		} else {
			fs.large = append(fs.large, f)
		}
	}
	f.waiters[b] = struct{}{}
	b.waiting[key] = f
	return f
}

// start lets as many flights run as may. fs.mu is held.
func (fs *flights) start() {
	for fs.running < fs.limit+committing {
		switch {
		case fs.largeMay() && fs.lanes.take(true):
			fs.bulky++
			fs.large = fs.launch(fs.large)
		// Small ones are soon over, and do not wait for the end of a large one.
		case len(fs.small) > 0 && (fs.fetching < fs.limit || fs.fetching == fs.bulky):
			fs.small = fs.launch(fs.small)
		default:
			return
		}
	}
}

// largeMay reports whether a large flight waits that leaves enough for small
// ones, if any wait. fs.mu is held.
func (fs *flights) largeMay() bool {
	fs.small, fs.large = queued(fs.small), queued(fs.large)
	spare := 0
	if len(fs.small) > 0 {
		spare = min(2, fs.limit-1)
	}
	return len(fs.large) > 0 && fs.fetching < fs.limit && fs.bulky < fs.limit-spare
}

// queued drops flights from the head of a queue that everybody has left.
func queued(queue []*flight) []*flight {
	for len(queue) > 0 && len(queue[0].waiters) == 0 {
		queue[0] = nil
		queue = queue[1:]
	}
	return queue
}

// launch runs the first flight of a queue.
func (fs *flights) launch(queue []*flight) []*flight {
	f := queue[0]
	queue[0] = nil
	f.running, f.fetching = true, true
	fs.fetching++
	fs.running++
	go fs.run(f)
	return queue[1:]
}

// needLane reports whether a large flight waits for nothing but a lane.
func (fs *flights) needLane() bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.running < fs.limit+committing && fs.largeMay()
}

// widen lets a large flight use a free lane; false if none waits for nothing else.
func (fs *flights) widen() bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	before := fs.bulky
	fs.start()
	return fs.bulky > before
}

func (fs *flights) run(f *flight) {
	panics.Catch(func() { f.err = fs.fetch(f) }, func(panicked *panics.Error) {
		f.panicked = panicked
		errors.As(f.err, &f.panicked) // of one of its connections
		f.cancel()
		fs.mu.Lock()
		defer fs.mu.Unlock()
		fs.forget(f)
		fs.landed(f)
		fs.running--
		close(f.done)
		for b := range f.waiters {
			b.finished <- f
		}
		fs.start()
	})
}

// fetched says that f needs no connection any more.
func (fs *flights) fetched(f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.landed(f)
	fs.start()
}

func (fs *flights) landed(f *flight) {
	if f.fetching {
		f.fetching = false
		fs.fetching--
		if f.desc.Size >= pipeFrom {
			fs.bulky--
			fs.lanes.leave(1, true)
		}
	}
}

// forget lets a later pull begin another flight for the same blob.
func (fs *flights) forget(f *flight) {
	if fs.byKey[f.key] == f {
		delete(fs.byKey, f.key)
	}
}

// leave makes b wait for nothing any more. Flights that nobody waits for end
// before leave returns.
func (fs *flights) leave(b *batch) {
	var ending []*flight
	fs.mu.Lock()
	for key, f := range b.waiting {
		delete(b.waiting, key)
		delete(f.waiters, b)
		if len(f.waiters) > 0 {
			continue
		}
		fs.forget(f)
		f.cancel()
		if f.running {
			ending = append(ending, f)
		}
	}
	fs.mu.Unlock()
	for _, f := range ending {
		<-f.done
	}
}
