package puller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/pullkit/pullkit/backoff"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/internal/await"
	"github.com/pullkit/pullkit/internal/share"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/pullpolicy"
)

// A Puller gets images as the kubelet does: policy, verification, credentials
// one after the other, back-off. It is made by [New]; its methods may be called
// concurrently. A Puller holds no resource that has to be closed.
type Puller struct {
	config  Config // with its defaults
	slots   slots
	rate    *bucket
	backoff *backoffWindows
	access  *accessChecker // nil: who may use an image is not checked
	events  reporter
	calls   atomic.Uint64
	pulls   share.Group[pullKey, *waiter, *sharedPull]
}

// New returns a Puller. The error says which field of config cannot be used.
func New(config Config) (*Puller, error) {
	switch {
	case config.Runtime == nil:
		return nil, errors.New("puller: Config.Runtime is nil; give one, such as transfer.New's")
	case config.Records == nil && !config.Verify.IsZero():
		return nil, errors.New("puller: Config.Verify needs Config.Records")
	case config.QPS < 0 || config.QPS != config.QPS:
		return nil, fmt.Errorf("puller: Config.QPS is %v; it must be 0 or more", config.QPS)
	}
	if config.AsKubelet {
		config.Kubelet = asKubelet()
	}
	if isZeroPlatform(config.Platform) {
		config.Platform = index.Host()
	} else if err := checkPlatform(config.Platform); err != nil {
		return nil, fmt.Errorf("puller: Config.Platform: %w", err)
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	windows, err := newBackoffWindows(&config)
	if err != nil {
		return nil, fmt.Errorf("puller: Config.Backoff: %w", err)
	}
	p := &Puller{
		config:  config,
		slots:   newSlots(config.Parallel),
		rate:    newBucket(config.QPS, config.Burst),
		backoff: windows,
		events:  reporter{send: config.Events, accessChecked: config.Records != nil},
	}
	if config.Records != nil {
		p.access = newAccessChecker(&p.config)
	}
	return p, nil
}

func (p *Puller) newTask(req Request) (*task, *Error) {
	return newTask(req, &p.config, p.calls.Add(1))
}

// Pull gets the image: from the store where the policy allows it, from the
// registry otherwise. It makes one attempt, with one credential after the other,
// and never waits for a back-off window; it does wait for its turn (see
// Config.Parallel). What it does is what the kubelet's image manager does:
//
//  1. The name is parsed (InvalidImageName).
//  2. Unless the policy is Always, the store is asked (ImageInspectError). An
//     image that is present, and that the Pod may use, is returned.
//  3. Under Never that was all (ErrImageNeverPull); an image that the Pod may not
//     use looks like an absent one.
//  4. Within the back-off's window nothing is tried (ImagePullBackOff).
//  5. The image is pulled with each credential in turn, until one succeeds
//     (ErrImagePull, RegistryUnavailable, SignatureValidationFailed). A failure
//     starts, or lengthens, the window.
//
// Equal pulls in flight share one transfer: those of the same image and platform
// with the same secrets. The error is an [*Error]. When ctx ends, Pull returns at
// once with an error that wraps the cause; that counts as no failure. It waits 50 ms
// for a Runtime, Keyring or Records that go on after the end of ctx, and then leaves
// them alone.
//
// Where a callback panics (a method of the Runtime, a Keyring or the Records, Events),
// each caller that waits for the pull panics with the same value: with a [*PanicError]
// that holds it if the callback ran in another goroutine than the caller's. Such a pull
// counts as no failure, and the Puller can be used on by a caller that recovers.
func (p *Puller) Pull(ctx context.Context, req Request) (Image, error) {
	defer carryPanic()
	return p.pull(ctx, req).result()
}

// An outcome is what one attempt of a call ended with.
type outcome struct {
	image   Image
	present bool              // it was in the store already
	renewal *records.SecretID // the Secret that opened it, where the records do not know it yet

	asked  bool          // the registry was asked, or was going to be
	shared bool          // in the pull of another call
	answer *Answer       // to the credential that brought the image
	took   time.Duration // the pull, without the time in the queue

	began time.Time // the attempt
	err   *Error
}

func (o outcome) result() (Image, error) {
	if o.err != nil {
		return Image{}, o.err
	}
	return o.image, nil
}

func (p *Puller) pull(ctx context.Context, req Request) outcome {
	t, err := p.newTask(req)
	if err != nil {
		return p.conclude(ctx, t, outcome{err: err})
	}
	return p.conclude(ctx, t, p.ensure(ctx, t))
}

// ensure is one attempt: what the comment of Pull says, from step 2 on.
func (p *Puller) ensure(ctx context.Context, t *task) (o outcome) {
	began := time.Now()
	defer func() { o.began = began }()
	if ctx.Err() != nil {
		return outcome{err: t.ended(ctx)}
	}
	found, ok := await.Call(ctx, func() storeAnswer { return p.askStore(ctx, t) })
	switch {
	case !ok, found.err != nil && ctx.Err() != nil:
		return outcome{err: t.ended(ctx)}
	case found.err != nil:
		return outcome{err: t.fail(found.reason, found.err)}
	}
	switch found.action {
	case pullpolicy.Use:
		return outcome{image: found.image, present: true, renewal: found.access.renewal}
	case pullpolicy.Refuse:
		return outcome{err: t.fail(ErrImageNeverPull, nil)}
	}
	secrets := t.candidates.fingerprint(t.ref)
	if window := p.backoff.state(t.key, secrets); !window.open() {
		err := t.fail(ErrImagePullBackOff, nil)
		err.RetryAfter, err.Previous = window.wait, window.previous
		return outcome{err: err}
	}
	if p.config.Kubelet.FailOnBadSecret {
		err, ok := await.Call(ctx, func() error { return t.candidates.fault(ctx, t.ref) })
		switch {
		case !ok:
			return outcome{err: t.ended(ctx)}
		case err != nil:
			return outcome{err: t.fail("", err)}
		}
	}
	return p.pullShared(ctx, t, secrets)
}

// conclude writes down what an attempt means: a renewed secret in the records, and the
// call's last events. What a pull means for the records and the back-off is the same for
// all calls that share it, and does not depend on whether they wait for it: attempt and
// countForBackoff have written that already.
func (p *Puller) conclude(ctx context.Context, t *task, o outcome) outcome {
	if o.renewal != nil {
		p.access.renew(ctx, t, o)
	}
	p.events.outcome(t, o)
	if o.asked && o.err != nil && o.err.Reason == ErrImagePull && ctx.Err() == nil {
		p.events.problems(t)
	}
	return o
}

// ended is the error of a call whose context has ended.
func (t *task) ended(ctx context.Context) *Error {
	return t.fail(ErrImagePull, context.Cause(ctx))
}

// A storeAnswer is what the store and the records say about an image.
type storeAnswer struct {
	presence pullpolicy.Presence
	action   pullpolicy.Outcome // what the policy makes of that
	image    Image              // where it is present
	access   access             // where the records were asked
	err      error              // of the store, or of the Pod's secrets
	reason   Reason             // of err
}

// askStore asks the store for the image, and the records whether the Pod may use it.
// It changes nothing.
func (p *Puller) askStore(ctx context.Context, t *task) storeAnswer {
	if !t.policy.AsksStore() {
		return storeAnswer{action: t.policy.Decide(pullpolicy.Absent)}
	}
	a := storeAnswer{presence: pullpolicy.Absent}
	img, err := p.config.Runtime.Status(ctx, t.spec())
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return storeAnswer{presence: pullpolicy.Unknown, err: err, reason: ErrImageInspect}
	default:
		a.presence, a.image = pullpolicy.Present, img
		if p.access == nil {
			break
		}
		if a.access, a.err = p.access.mayUse(ctx, t, img); a.err != nil {
			return a
		}
		if !a.access.granted {
			a.presence = pullpolicy.NeedsProof
		}
	}
	a.action = t.policy.Decide(a.presence)
	return a
}

// PullWait pulls as Pull does, and when that fails waits for the end of the
// back-off's window, or for as long as the registry asked, and tries again: until
// the image is there, ctx ends, or the failure is one that waiting cannot mend:
// InvalidImageName, ErrImageNeverPull, ImageInspectError, or no reason at all.
//
// An image that does not exist, or that no credential opens, is waited for: it can
// still be pushed, and a Keyring can come to know another credential. Give ctx an
// end, or use Pull, where that is not wanted. When ctx ends the error wraps its
// cause and the last failure.
func (p *Puller) PullWait(ctx context.Context, req Request) (Image, error) {
	defer carryPanic()
	return p.pullWait(ctx, req, sleep).result()
}

// pullWait is PullWait with a way to sleep.
func (p *Puller) pullWait(ctx context.Context, req Request, sleep func(context.Context, time.Duration) error) outcome {
	t, err := p.newTask(req)
	if err != nil {
		return p.conclude(ctx, t, outcome{err: err})
	}
	var last *Error
	for {
		o := p.conclude(ctx, t, p.ensure(ctx, t))
		switch {
		case o.err == nil:
			return o
		case ctx.Err() != nil:
			return outcome{err: endedAfter(t.ended(ctx), cmp.Or(o.err.tried(), last))}
		case !o.err.waits():
			return o
		}
		last = o.err
		if last.Reason != ErrImagePullBackOff { // conclude has sent that event
			p.events.backOff(t, last)
		}
		pause := cmp.Or(max(last.RetryAfter, 0), p.config.Backoff.Initial, backoff.DefaultInitial)
		if sleep(ctx, pause) != nil {
			return outcome{err: endedAfter(t.ended(ctx), last)}
		}
	}
}

// waits reports whether the failure may go away by itself.
func (e *Error) waits() bool {
	switch e.Reason {
	case ErrImagePull, ErrImagePullBackOff, ErrRegistryUnavailable, ErrSignatureValidation:
		return true
	}
	return false
}

// tried returns e if the registry was asked, or would have been, and nil otherwise.
func (e *Error) tried() *Error {
	if len(e.Attempts) > 0 || e.Previous != nil {
		return e
	}
	return nil
}

// endedAfter adds to the error of a context's end what was waited for.
func endedAfter(err, last *Error) *Error {
	if last == nil {
		return err
	}
	if last.Previous != nil {
		last = last.Previous
	}
	return &Error{Reason: err.Reason, Image: err.Image, Err: err.Err, Previous: last}
}

// PullAll pulls the images of reqs, as many at a time as Config.Parallel says (64
// if it says no limit), and yields each result as it comes: not in the order of
// reqs. It takes one request more than it can begin with, so a sequence may be as
// long as it likes.
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
	return p.pullAll(ctx, reqs, func(ctx context.Context, req Request, _ *allPulls) outcome { return p.pull(ctx, req) })
}

// PullAllWait is PullAll with PullWait for each image. Images that wait for the end of a
// back-off's window let others go ahead, up to 256 of them.
func (p *Puller) PullAllWait(ctx context.Context, reqs iter.Seq[Request]) iter.Seq2[Request, Result] {
	return p.pullAll(ctx, reqs, func(ctx context.Context, req Request, all *allPulls) outcome { return p.pullWait(ctx, req, all.sleep) })
}

func (p *Puller) pullAll(ctx context.Context, reqs iter.Seq[Request], pull func(context.Context, Request, *allPulls) outcome) iter.Seq2[Request, Result] {
	return func(yield func(Request, Result) bool) {
		defer carryPanic()
		if reqs == nil {
			reqs = func(func(Request) bool) {}
		}
		all := &allPulls{
			pull:  pull,
			awake: newSlots(cmp.Or(max(p.config.Parallel, 0), 1)), asleep: newSlots(maxAsleep),
			results: make(chan requestResult),
		}
		if p.config.Parallel < 0 {
			all.awake = newSlots(allUnlimited)
		}
		all.run(ctx, reqs, yield)
	}
}

// Sweep lets Config.Records forget images that are stored no longer. stored
// reports whether an image with that ID (as in Image.ID) is in the store; before is
// the time at which the store was listed, so that an image pulled since then keeps
// its record. Without Records it does nothing. Call it now and then, as often as
// the store is pruned.
func (p *Puller) Sweep(ctx context.Context, before time.Time, stored func(id string) bool) error {
	defer carryPanic()
	if p.access == nil {
		return nil
	}
	return within(ctx, func() error { return p.access.sweep(ctx, before, stored) })
}

// sleep is the one place where a Puller sleeps. The error is the cause of the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
