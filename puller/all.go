package puller

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/pullkit/pullkit/internal/panics"
)

// A Result is what became of one image of PullAll.
type Result struct {
	Image Image
	// Present says that the image was in the store already, and the registry was
	// not asked.
	Present bool
	Err     error // an [*Error]; nil if the image is there
}

// allUnlimited is how many images PullAll has in hand when Config.Parallel sets
// no limit.
const allUnlimited = 64

// sequenceGrace is how long the loop of PullAll waits for a sequence whose own code
// blocks.
const sequenceGrace = 5 * time.Second

// maxAsleep is how many images of PullAll may wait for a back-off's window, beside
// those that are pulled.
const maxAsleep = 256

// PullAll pulls the images of reqs, as many at a time as Config.Parallel says (64
// if it says no limit), and yields each result as it comes: not in the order of
// reqs. It takes one request more than it can begin with, so a sequence may be as
// long as it likes. Images that wait for a back-off's window (Request.Wait) let
// others go ahead, up to 256 of them.
//
// When ctx ends, those that run yield their error and no more are begun. If that leaves
// images of reqs that were not begun, or if there was no result at all, there is one last
// result: with the zero Request and an error that wraps ctx's cause. So a loop that sees
// no error has seen all images that reqs gave.
//
// Breaking off cancels the pulls that run, and waits until they have stopped. PullAll
// calls reqs from another goroutine, and its yield returns false from then on. The loop
// ends when reqs has returned too, so reqs and the code behind the loop may share
// variables without a lock. One limit remains: if the code of reqs itself blocks, between
// two calls of yield, for more than 5 s after the break or the end of ctx, the loop ends
// without it. After a panic of reqs or of another callback the loop panics with a
// [*PanicError], when the pulls that run have ended.
func (p *Puller) PullAll(ctx context.Context, reqs iter.Seq[Request]) iter.Seq2[Request, Result] {
	return func(yield func(Request, Result) bool) {
		if reqs == nil {
			reqs = func(func(Request) bool) {}
		}
		cause := func() error { return context.Cause(ctx) }
		ctx, cancel := context.WithCancel(ctx)
		all := p.pullAll(ctx, reqs)
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
			if looping { // its body panicked
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
			// The caller learns of the end at once, even if the sequence blocks.
			stopPulls()
			all.feed.wait(leaveGrace)
			panicked = cmp.Or(panicked, all.feed.panic())
			// A sequence that ends itself because ctx has ended looks complete.
			if panicked == nil && (all.dropped || !yielded || !all.feed.complete()) {
				rest := &Error{Reason: ErrImagePull, Err: fmt.Errorf("the images that remained were not begun: %w", err)}
				yield(Request{}, Result{Err: rest})
			}
		}
		looping = false
		stopAll()
		panicked.Raise()
	}
}

type requestResult struct {
	req Request
	Result
	panicked *panics.Error
}

// An allPulls is what one PullAll has in hand.
type allPulls struct {
	feed    *feed
	results chan requestResult // closed when all that were begun have ended
	dropped bool               // a request was taken and not begun; set before results is closed
}

// pullAll begins with the requests as there is room for them. Its results must be read
// until they end.
func (p *Puller) pullAll(ctx context.Context, reqs iter.Seq[Request]) *allPulls {
	all := &allPulls{feed: newFeed(ctx, reqs), results: make(chan requestResult)}
	go func() {
		defer close(all.results)
		var pulls sync.WaitGroup
		defer pulls.Wait()
		room := &room{awake: newSlots(p.allAtOnce()), asleep: newSlots(maxAsleep)}
		for {
			// First the request: a place that waits for one is lost to those who
			// have slept enough.
			req, ok := all.feed.take(ctx)
			if !ok {
				return
			}
			if room.awake.acquire(ctx) != nil {
				all.dropped = true
				return
			}
			r := requestResult{req: req}
			pulls.Go(func() {
				panics.Catch(func() { r.Result = p.pullOne(ctx, req, room) }, func(panicked *panics.Error) {
					r.panicked = panicked
					// The place is given up when the result is taken: who is slow to
					// take results holds up the pulls, and not ever more results.
					all.results <- r
					room.awake.release()
				})
			})
		}
	}()
	return all
}

// A feed takes requests out of a sequence, which runs in a goroutine of its own: where
// its code blocks, those that are pulled go on.
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

// take returns the next request; ok is false if there is none, or ctx has ended.
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

// panic returns the panic of a sequence that has ended by one.
func (f *feed) panic() *panics.Error {
	select {
	case <-f.done:
		return f.panicked
	default:
		return nil
	}
}

// complete reports whether the sequence came to its own end.
func (f *feed) complete() bool {
	select {
	case <-f.done:
		return !f.cut
	default:
		return false
	}
}

func (p *Puller) allAtOnce() int {
	switch n := p.config.Parallel; {
	case n < 0:
		return allUnlimited
	case n == 0:
		return 1
	default:
		return n
	}
}

func (p *Puller) pullOne(ctx context.Context, req Request, room *room) Result {
	pull := p.pull
	if req.Wait {
		pull = func(ctx context.Context, req Request) (had, error) { return p.pullWait(ctx, req, room.sleep) }
	}
	h, err := pull(ctx, req)
	return Result{Image: h.image, Present: h.present, Err: err}
}

// A room bounds how many images are in hand.
type room struct{ awake, asleep *slots }

// sleep makes room for another image meanwhile, and waits for room again.
func (r *room) sleep(ctx context.Context, d time.Duration) error {
	until := time.Now().Add(d)
	// Where too many sleep already, this one keeps its place.
	if !r.asleep.tryAcquire() {
		return sleep(ctx, d)
	}
	r.awake.release()
	err := sleep(ctx, time.Until(until))
	r.asleep.release()
	if again := r.awake.acquire(context.WithoutCancel(ctx)); err == nil {
		err = again
	}
	return err
}
