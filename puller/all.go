package puller

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pullkit/pullkit/internal/await"
	"github.com/pullkit/pullkit/internal/keylock"
	"github.com/pullkit/pullkit/internal/panics"
)

// A Result is the result of PullAll for one image.
type Result struct {
	Image Image
	// Present says that the image was in the store already, so that the registry was not
	// asked.
	Present bool
	Err     error // an [*Error]; nil if the image is in the store
}

// allUnlimited is how many images PullAll pulls at a time when Config.Parallel sets no
// limit.
const allUnlimited = 64

// sequenceGrace is how long the loop of PullAll waits at its end for a sequence that
// blocks in its own code.
const sequenceGrace = 5 * time.Second

// maxAsleep is how many images of PullAllWait may wait for the end of a back-off window,
// in addition to the images that are pulled. It is also how many images may wait for
// another image of their Pod.
const maxAsleep = 256

// allPulls are the pulls of one PullAll.
type allPulls struct {
	pull func(context.Context, Request, *turn) outcome

	awake, asleep slots         // limit how many images are pulled, and how many wait for a back-off window
	queued        slots         // limits how many images wait for another image of their Pod
	pods          keylock.Locks // by Pod.UID: one image of a Pod is pulled at a time

	feed    *feed
	results chan requestResult // closed when all started pulls have ended
	dropped atomic.Bool        // a request was taken, but its pull was not started; set before results is closed
}

// A turn is the right of one image to be pulled. It consists of a slot and, if the request
// has a Pod, the lock of that Pod. Only one goroutine uses a turn.
type turn struct {
	all    *allPulls
	pod    string // Pod.UID; "" needs no lock
	unlock func() // releases the lock of the Pod; nil while the turn does not have the lock
}

// tryPod takes the lock of the Pod, if no other image of the Pod is pulled or waits.
func (t *turn) tryPod() (ok bool) {
	if t.pod == "" {
		return true
	}
	t.unlock, ok = t.all.pods.TryLock(t.pod)
	return ok
}

// lockPod takes the lock of the Pod. It waits for the images of the Pod that came before.
func (t *turn) lockPod(ctx context.Context) (err error) {
	if t.pod != "" {
		t.unlock, err = t.all.pods.Lock(ctx, t.pod)
	}
	return err
}

func (t *turn) unlockPod() {
	if t.unlock != nil {
		t.unlock()
		t.unlock = nil
	}
}

// acquireSlot takes a slot for a turn that has the lock of its Pod. After an error, the
// turn has neither slot nor lock.
func (t *turn) acquireSlot(ctx context.Context) error {
	err := t.all.awake.acquire(ctx)
	if err != nil {
		t.unlockPod()
	}
	return err
}

type requestResult struct {
	req Request
	Result
	panicked *panics.Error
}

// run is the loop of PullAll.
func (all *allPulls) run(ctx context.Context, reqs iter.Seq[Request], yield func(Request, Result) bool) {
	cause := func() error { return context.Cause(ctx) }
	ctx, cancel := context.WithCancel(ctx)
	all.feed = newFeed(ctx, reqs)
	go all.begin(ctx)
	var panicked *panics.Error // in a callback
	stopPulls := func() {
		cancel()
		for r := range all.results { // until all have stopped
			panicked = cmp.Or(panicked, r.panicked)
		}
	}
	stopAll := func() {
		stopPulls()
		all.feed.wait(sequenceGrace)
		panicked = cmp.Or(panicked, all.feed.panic())
	}
	looping := true
	defer func() {
		if looping { // the body of the caller's loop panicked
			stopAll()
		}
	}()
	broken, yielded := false, false
	for r := range all.results {
		yielded = true
		if r.panicked != nil {
			panicked = r.panicked
			break
		}
		if broken = !yield(r.req, r.Result); broken {
			break
		}
	}
	err := cause()
	if !broken && panicked == nil && err != nil {
		// The caller gets the last result at once, even if the sequence blocks.
		stopPulls()
		all.feed.wait(await.Grace)
		panicked = cmp.Or(panicked, all.feed.panic())
		// A sequence that ends by itself because ctx has ended looks complete, so yielded counts
		// too.
		if panicked == nil && (all.dropped.Load() || !yielded || !all.feed.complete()) {
			rest := &Error{Reason: ErrImagePull, Err: fmt.Errorf("the remaining images were not started: %w", err)}
			yield(Request{}, Result{Err: rest})
		}
	}
	looping = false
	stopAll()
	panicked.Raise()
}

// begin starts a pull for each request as soon as it gets its turn. The caller must
// receive from results until begin closes that channel.
func (all *allPulls) begin(ctx context.Context) {
	defer close(all.results)
	var pulls sync.WaitGroup
	defer pulls.Wait()
	for {
		// The request is taken before the slot. If the slot came first, pulls whose sleep
		// is over could not use it while the sequence has no next request.
		req, ok := all.feed.take(ctx)
		if !ok {
			return
		}
		t := &turn{all: all, pod: req.Pod.UID}
		mine := t.tryPod()
		if !mine && all.queued.tryAcquire() {
			// Images of other Pods do not wait for this Pod.
			pulls.Go(func() {
				err := t.lockPod(ctx)
				all.queued.release()
				if err != nil || t.acquireSlot(ctx) != nil {
					all.dropped.Store(true)
					return
				}
				all.pullInTurn(ctx, req, t)
			})
			continue
		}
		if !mine && t.lockPod(ctx) != nil || t.acquireSlot(ctx) != nil {
			all.dropped.Store(true)
			return
		}
		pulls.Go(func() { all.pullInTurn(ctx, req, t) })
	}
}

// pullInTurn pulls one image that has its turn, and sends the result.
func (all *allPulls) pullInTurn(ctx context.Context, req Request, t *turn) {
	r := requestResult{req: req}
	panics.Catch(func() { r.Result = all.pullOne(ctx, req, t) }, func(panicked *panics.Error) {
		t.unlockPod()
		r.panicked = panicked
		// The slot is released only when the result was received. So a caller that receives
		// results slowly delays the pulls, and results do not pile up.
		all.results <- r
		all.awake.release()
	})
}

func (all *allPulls) pullOne(ctx context.Context, req Request, t *turn) Result {
	o := all.pull(ctx, req, t)
	img, err := o.result()
	return Result{Image: img, Present: o.present, Err: err}
}

// sleep gives up the turn, sleeps, and waits until the image has its turn again.
func (t *turn) sleep(ctx context.Context, d time.Duration) error {
	until := time.Now().Add(d)
	// If too many images sleep already, this image keeps its turn.
	if !t.all.asleep.tryAcquire() {
		return sleep(ctx, d)
	}
	t.all.awake.release()
	t.unlockPod()
	err := sleep(ctx, time.Until(until))
	t.all.asleep.release()
	// Both waits end, because each pull ends. The lock of the Pod is taken first, so that no
	// image holds a slot while it waits for its Pod.
	always := context.WithoutCancel(ctx)
	return cmp.Or(err, t.lockPod(always), t.all.awake.acquire(always))
}

// A feed takes requests from a sequence, which runs in a separate goroutine. While the
// sequence blocks, the running pulls go on.
type feed struct {
	next chan Request
	done chan struct{} // closed when the sequence has returned

	cut      bool          // yield has returned false; read after done
	panicked *panics.Error // read after done
}

func newFeed(ctx context.Context, reqs iter.Seq[Request]) *feed {
	f := &feed{next: make(chan Request), done: make(chan struct{})}
	if ctx.Err() != nil {
		f.cut = true
		close(f.done)
		return f
	}
	go panics.Catch(func() {
		reqs(func(req Request) bool {
			select {
			case f.next <- req:
				return true
			case <-ctx.Done():
				f.cut = true
				return false
			}
		})
	}, func(panicked *panics.Error) {
		f.panicked = panicked
		close(f.done)
	})
	return f
}

// take returns the next request. ok is false if the sequence has ended or ctx has ended.
func (f *feed) take(ctx context.Context) (req Request, ok bool) {
	if ctx.Err() != nil {
		return Request{}, false
	}
	select {
	case req := <-f.next:
		return req, true
	case <-f.done:
	case <-ctx.Done():
	}
	return Request{}, false
}

// wait waits until the sequence has returned, at most for limit.
func (f *feed) wait(limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-f.done:
	case <-timer.C:
	}
}

// panic returns the panic that ended the sequence; nil if the sequence has not panicked.
func (f *feed) panic() *panics.Error {
	select {
	case <-f.done:
		return f.panicked
	default:
		return nil
	}
}

// complete reports whether the sequence has ended without a refused request.
func (f *feed) complete() bool {
	select {
	case <-f.done:
		return !f.cut
	default:
		return false
	}
}
