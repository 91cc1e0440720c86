package puller

import (
	"context"
	"iter"
	"sync"
)

// A Result is what became of one image of PullAll.
type Result struct {
	Image Image
	Err   error // an [*Error]; nil if the image is there
}

// allUnlimited is how many images PullAll has in hand when Config.Parallel sets
// no limit.
const allUnlimited = 64

// PullAll pulls the images of reqs, as many at a time as Config.Parallel says (64
// if it says no limit), and yields each result as it comes: not in the order of
// reqs. It takes a request only when it can begin with it, so a sequence may be
// as long as it likes.
//
// Breaking off cancels the pulls that run, and waits until they have stopped.
// When ctx ends, those that run yield their error and no more are begun. reqs is
// called from another goroutine; where it blocks, it is left alone.
func (p *Puller) PullAll(ctx context.Context, reqs iter.Seq[Request]) iter.Seq2[Request, Result] {
	return func(yield func(Request, Result) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		results := p.pullAll(ctx, reqs)
		for r := range results {
			if !yield(r.req, r.Result) {
				break
			}
		}
		cancel()
		for range results { // until all have stopped
		}
	}
}

type requestResult struct {
	req Request
	Result
}

// pullAll starts the workers; they end when reqs has, or when ctx ends, and then
// the channel is closed. Somebody must read it until then.
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
	var workers sync.WaitGroup
	for range p.allWorkers() {
		workers.Go(func() {
			for {
				select {
				case req, ok := <-next:
					if !ok || ctx.Err() != nil {
						return
					}
					results <- requestResult{req, p.pullOne(ctx, req)}
				case <-ctx.Done():
					return
				}
			}
		})
	}
	go func() {
		workers.Wait()
		close(results)
	}()
	return results
}

func (p *Puller) allWorkers() int {
	switch n := p.config.Parallel; {
	case n < 0:
		return allUnlimited
	case n == 0:
		return 1
	default:
		return n
	}
}

func (p *Puller) pullOne(ctx context.Context, req Request) Result {
	pull := p.Pull
	if req.Wait {
		pull = p.PullWait
	}
	img, err := pull(ctx, req)
	return Result{Image: img, Err: err}
}
