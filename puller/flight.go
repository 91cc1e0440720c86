package puller

import (
	"context"
	"sync"
	"time"

	"github.com/pullkit/pullkit/internal/panics"
	"github.com/pullkit/pullkit/reference"
)

// A flightKey is what two pulls must have in common to be one: then each
// candidate that one of them would try, the other would try too.
type flightKey struct {
	ref      reference.Reference
	written  string // under Kubelet.NameAsWritten only
	platform string
	print    ringPrint
	alone    uint64 // the call's number where it can be shared with nobody
}

// A flight is one pull that runs, for everybody who waits for it.
type flight struct {
	key    flightKey
	task   *task // of the call that began it
	print  *ringPrint
	ctx    context.Context
	cancel context.CancelFunc
	begin  chan struct{} // closed when the first one's event has been told
	done   chan struct{} // closed when result or panicked is set

	mu      sync.Mutex
	waiters []*waiter // those that have not left

	result   result
	panicked *panics.Error // by a callback; then there is no result
}

// A result is what a flight ended with.
type result struct {
	image  Image
	answer *Answer // to the credential that brought the image
	err    *failure
	took   time.Duration // without the time in the queue
}

// A waiter is one call that waits for a flight.
type waiter struct {
	task   *task
	shared bool

	mu     sync.Mutex
	listen bool   // is told what happens: from its own Pulling event until it leaves
	err    *Error // the flight's, for this waiter; set before done is closed
}

// join pulls the image, or waits for a pull of it that is under way.
func (p *Puller) join(ctx context.Context, t *task, print *ringPrint) (Image, *Error) {
	f, w := p.board(ctx, t, print)
	waiting := true
	defer func() {
		if waiting { // Config.Events panicked
			p.leave(f, w)
		}
	}()
	if !w.shared {
		go p.fly(f)
	}
	p.announce(t, f, w)
	select {
	case <-f.done:
		waiting = false
		w.setListen(false)
		f.panicked.Raise()
	case <-ctx.Done():
		waiting = false
		p.leave(f, w)
		err := t.ended(ctx)
		p.emitFailed(t, w.shared, err)
		return Image{}, err
	}
	if w.err != nil {
		p.emitFailed(t, w.shared, w.err)
		return Image{}, w.err
	}
	p.emitPulled(t, w.shared, f.result)
	return f.result.image, nil
}

// announce tells that w's pull begins, and lets it begin if w is the first: its
// event comes before all others. Should Config.Events panic, others may wait for
// the pull already, so it begins all the same.
func (p *Puller) announce(t *task, f *flight, w *waiter) {
	if !w.shared {
		defer close(f.begin)
	}
	p.emitPulling(t, w.shared)
	w.setListen(true)
}

// board finds the flight to wait for, or makes one that the caller has to start.
func (p *Puller) board(ctx context.Context, t *task, print *ringPrint) (*flight, *waiter) {
	key := flightKey{ref: t.ref, platform: platformKey(t.platform)}
	if p.config.Kubelet.NameAsWritten {
		key.written = t.written
	}
	if print == nil {
		key.alone = t.call
	} else {
		key.print = *print
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	w := &waiter{task: t}
	if f, ok := p.flights[key]; ok {
		w.shared = true
		f.mu.Lock()
		f.waiters = append(f.waiters, w)
		f.mu.Unlock()
		return f, w
	}
	f := &flight{key: key, task: t, print: print, begin: make(chan struct{}), done: make(chan struct{}), waiters: []*waiter{w}}
	// The pull goes on when the first one leaves and others still wait.
	f.ctx, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
	p.flights[key] = f
	return f, w
}

// leave takes w from f; the last one to leave ends the pull.
func (p *Puller) leave(f *flight, w *waiter) {
	w.setListen(false)
	p.mu.Lock()
	f.mu.Lock()
	for i, other := range f.waiters {
		if other == w {
			f.waiters = append(f.waiters[:i:i], f.waiters[i+1:]...)
			break
		}
	}
	last := len(f.waiters) == 0
	if last && p.flights[f.key] == f {
		delete(p.flights, f.key)
	}
	f.mu.Unlock()
	p.mu.Unlock()
	if !last {
		return
	}
	f.cancel()
	within(f.ctx, f.done)
}

// setListen(false) makes sure that w is told nothing any more.
func (w *waiter) setListen(on bool) {
	w.mu.Lock()
	w.listen = on
	w.mu.Unlock()
}

// tell calls say for everybody who still waits.
func (f *flight) tell(say func(w *waiter)) {
	f.mu.Lock()
	waiters := append([]*waiter(nil), f.waiters...)
	f.mu.Unlock()
	for _, w := range waiters {
		w.tell(say)
	}
}

func (w *waiter) tell(say func(w *waiter)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.listen {
		say(w)
	}
}

// fly runs the pull and settles what it means for the back-off of all waiters, before
// any of them is told. After a panic nothing is settled: it is no answer of a registry.
func (p *Puller) fly(f *flight) {
	panics.Catch(func() {
		<-f.begin
		f.result = p.attempt(f)
	}, func(panicked *panics.Error) {
		f.cancel()
		f.panicked = panicked
		p.mu.Lock()
		if p.flights[f.key] == f {
			delete(p.flights, f.key)
		}
		f.mu.Lock()
		if panicked == nil {
			p.settle(f)
		}
		f.mu.Unlock()
		p.mu.Unlock()
		close(f.done)
	})
}

// settle counts the result once for each key, however many waited with it, and
// for none of those that have left.
func (p *Puller) settle(f *flight) {
	counted := map[backoffKey]*Error{}
	print := f.print
	if f.result.err != nil && len(f.result.err.attempts) == 0 {
		print = nil // nothing was tried, such as beyond QPS
	}
	for _, w := range f.waiters {
		key := w.task.key
		if f.result.err == nil {
			if !p.config.Kubelet.KeepStreak {
				p.windows.succeed(key)
			}
			continue
		}
		err, ok := counted[key]
		if !ok {
			err = f.result.err.errorFor(w.task)
			err.RetryAfter = p.windows.fail(key, print, err, f.result.err.after)
			counted[key] = err
		}
		w.err = err
	}
}
