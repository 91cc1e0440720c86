package puller

import (
	"context"
	"iter"
	"sync"
	"time"
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

// maxAsleep is how many images of PullAll may wait for a back-off's window, beside
// those that are pulled.
const maxAsleep = 256

// PullAll pulls the images of reqs, as many at a time as Config.Parallel says (64
// if it says no limit), and yields each result as it comes: not in the order of
// reqs. It takes one request more than it can begin with, so a sequence may be as
// long as it likes. Images that wait for a back-off's window (Request.Wait) let
// others go ahead, up to 256 of them.
//
// Breaking off cancels the pulls that run, and waits until they have stopped.
// When ctx ends, those that run yield their error and no more are begun. reqs is
// called from another goroutine; where it blocks, it is left alone.
func (p *Puller) PullAll(ctx context.Context, reqs iter.Seq[Request]) iter.Seq2[Request, Result] {
	return func(yield func(Request, Result) bool) {
		if reqs == nil {
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		results := p.pullAll(ctx, reqs)
		defer func() { // also where the loop's body panics
			cancel()
			for range results { // until all have stopped
			}
		}()
		for r := range results {
			if !yield(r.req, r.Result) {
				return
			}
		}
	}
}

type requestResult struct {
	req Request
	Result
}

// pullAll begins with the requests as there is room for them. The channel is
// closed when all that were begun have ended; somebody must read it until then.
func (p *Puller) pullAll(ctx context.Context, reqs iter.Seq[Request]) <-chan requestResult {
	next := make(chan Request)
	go func() {
		defer close(next)
		for req := range reqs {
			select {
			case next <- req:
			case <-ctx.Done():
				return
			}
		}
	}()
	results := make(chan requestResult)
	go func() {
		defer close(results)
		var pulls sync.WaitGroup
		defer pulls.Wait()
		room := &room{awake: newSlots(p.allAtOnce()), asleep: newSlots(maxAsleep)}
		for {
			// First the request: a place that waits for one is lost to those who
			// have slept enough.
			req, ok := receive(ctx, next)
			if !ok || room.awake.acquire(ctx) != nil {
				return
			}
			pulls.Go(func() {
				// The place is given up when the result is taken: who is slow to
				// take results holds up the pulls, and not ever more results.
				results <- requestResult{req, p.pullOne(ctx, req, room)}
				room.awake.release()
			})
		}
	}()
	return results
}

func receive(ctx context.Context, next <-chan Request) (Request, bool) {
	if ctx.Err() != nil {
		return Request{}, false
	}
	select {
	case req, ok := <-next:
		return req, ok
	case <-ctx.Done():
		return Request{}, false
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
