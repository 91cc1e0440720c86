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

	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/internal/await"
	"github.com/pullkit/pullkit/internal/share"
	"github.com/pullkit/pullkit/pullpolicy"
)

// A Puller gets images as the kubelet does. [New] makes a Puller; the zero Puller cannot
// be used. Its methods may be called concurrently. A Puller holds no resource that has to
// be closed.
type Puller struct {
	config    Config // with its defaults
	slots     slots
	rate      *bucket
	backoff   *backoffWindows
	access    *accessChecker // nil: every Pod may use every present image
	admission *admitter      // nil: every image may be used
	events    reporter
	calls     atomic.Uint64
	pulls     share.Group[pullKey, *waiter, *sharedPull]
}

// New returns a Puller. The error names the field of config that is not valid.
func New(config Config) (*Puller, error) {
	switch {
	case config.Runtime == nil:
		return nil, errors.New("puller: Config.Runtime is nil; set it, for example to what transfer.New returns")
	case config.Records == nil && !config.Verify.IsZero():
		return nil, errors.New("puller: Config.Verify needs Config.Records")
	case config.QPS < 0 || config.QPS != config.QPS:
		return nil, fmt.Errorf("puller: Config.QPS is %v; it must be 0 or more", config.QPS)
	}
	if _, err := config.Parser.Parse("app"); err != nil {
		return nil, fmt.Errorf("puller: Config.Parser: %w", err)
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
	if p.admission, err = newAdmitter(&p.config); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Puller) newTask(req Request) (*task, *Error) {
	return newTask(req, &p.config, p.calls.Add(1))
}

// Pull gets the image from the store if the policy allows it, and otherwise from the
// registry. It makes one attempt, which tries one credential after another. It never waits
// for the end of a back-off window, but it waits for its turn (see Config.Parallel). Its
// steps are those of the kubelet's image manager:
//
//  1. The name is parsed (InvalidImageName).
//  2. Unless the policy is Always, the store is asked (ImageInspectError). If the
//     image is present and the Pod may use it, Config.Admission is asked
//     (SignatureValidationFailed), and then the image is returned.
//  3. Under Never an absent image is a failure (ErrImageNeverPull). An image that the
//     Pod may not use counts as absent.
//  4. Within a back-off window the registry is not asked (ImagePullBackOff).
//  5. The image is pulled with each credential in turn, until one succeeds
//     (ErrImagePull, RegistryUnavailable, SignatureValidationFailed). A failure
//     starts a back-off window. Each further failure starts a longer one.
//
// Equal pulls that run at the same time share one transfer. Pulls are equal if they have
// the same image, platform and secrets, and with Config.Admission the same namespace and
// Fingerprint. The error is an [*Error]. When ctx ends, Pull returns an error that wraps
// the cause. If the Runtime, a Keyring or the Records go on after the end of ctx, Pull
// waits 50 ms for them at most. The end of ctx is not counted as a failure for the
// back-off.
//
// If a callback panics (a method of the Runtime, a Keyring or the Records, or Events),
// each caller that waits for the pull panics too. It panics with the callback's value, or
// with a [*PanicError] that holds the value if the callback ran in another goroutine.
// Such a pull is not counted as a failure. A caller that recovers can go on using the
// Puller.
func (p *Puller) Pull(ctx context.Context, req Request) (Image, error) {
	defer carryPanic()
	return p.pull(ctx, req).result()
}

// An outcome is the result of one attempt of a call.
type outcome struct {
	image   Image
	present bool       // it was in the store already
	store   StoreState // what the store had when the attempt began; "" if that is not known

	asked  bool          // the call reached the step that asks the registry
	shared bool          // another call started the pull
	answer *Answer       // to the credential that opened the image
	took   time.Duration // how long the pull took, without the time in the queue

	began time.Time // when the attempt began
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

// ensure makes one attempt: the steps in the comment of Pull, from step 2 on.
func (p *Puller) ensure(ctx context.Context, t *task) (o outcome) {
	began := time.Now()
	var store StoreState
	defer func() { o.began, o.store = began, store }()
	if ctx.Err() != nil {
		return outcome{err: t.ended(ctx)}
	}
	found, ok := await.Call(ctx, func() storeAnswer { return p.askStore(ctx, t) })
	switch {
	case !ok, found.err != nil && ctx.Err() != nil:
		return outcome{err: t.ended(ctx)}
	}
	store = found.state(t)
	if found.err != nil {
		return outcome{err: t.fail(found.reason, found.err)}
	}
	switch found.action {
	case pullpolicy.Use:
		if found.access.renewal != nil {
			p.access.renew(ctx, t, found)
		}
		if p.admission != nil && !p.config.TrustPresent {
			return p.admitPresent(ctx, t, found.image)
		}
		return outcome{image: found.image, present: true}
	case pullpolicy.Refuse:
		return outcome{err: t.fail(ErrImageNeverPull, nil)}
	}
	mirrors, ok := await.Call(ctx, func() *mirrorKeys { return p.config.mirrorKeys(ctx, t) })
	if !ok {
		return outcome{err: t.ended(ctx)}
	}
	secrets := t.fingerprint(mirrors)
	if window := p.backoff.state(t.key, secrets); !window.mayTry() {
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
	return p.pullShared(ctx, t, mirrors, secrets)
}

// conclude calls Config.Used and sends the call's last events. It does not record or count
// the pull, because attempt and countForBackoff do that once for all calls that share the
// pull.
func (p *Puller) conclude(ctx context.Context, t *task, o outcome) outcome {
	if o.err == nil && p.config.Used != nil {
		p.config.Used(o.image)
	}
	p.events.outcome(t, o)
	if o.asked && o.err != nil && o.err.Reason == ErrImagePull && ctx.Err() == nil {
		p.events.problems(t)
	}
	return o
}

// ended returns the error of a call whose context has ended.
func (t *task) ended(ctx context.Context) *Error {
	return t.fail(ErrImagePull, context.Cause(ctx))
}

// A storeAnswer is the answer of the store and the records about one image.
type storeAnswer struct {
	presence pullpolicy.Presence
	action   pullpolicy.Outcome // what the policy decides for that presence
	image    Image              // if it is present
	access   accessAnswer       // if the records were asked
	err      error              // of the store, or of the Pod's secrets
	reason   Reason             // of err
}

// state returns the answer as a StoreState.
func (a storeAnswer) state(t *task) StoreState {
	switch {
	case a.err != nil:
		return StoreUnknown
	case !t.policy.AsksStore():
		return StoreNotAsked
	case a.presence == pullpolicy.Present:
		return StorePresent
	case a.presence == pullpolicy.NeedsProof:
		return StoreNotYours
	}
	return StoreAbsent
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

// PullWait pulls as Pull does. When a pull fails, PullWait waits for the end of the
// back-off window, or for as long as the registry asked, and pulls again. It returns when
// the image is there, when ctx ends, or after a failure that waiting does not repair:
// InvalidImageName, ErrImageNeverPull, ImageInspectError, or an [*Error] with an empty
// Reason.
//
// PullWait also waits for an image that does not exist or that no credential opens,
// because the image can still be pushed and a Keyring can get another credential. To limit
// that wait, give ctx a deadline, or use Pull. When ctx ends, the error wraps the cause of
// that end and the last failure.
func (p *Puller) PullWait(ctx context.Context, req Request) (Image, error) {
	defer carryPanic()
	return p.pullWait(ctx, req, sleep).result()
}

// pullWait does the work of PullWait. It waits by calls of sleep.
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
			p.events.backOff(t, "", last)
		}
		pause := cmp.Or(max(last.RetryAfter, 0), p.config.Backoff.Initial)
		if sleep(ctx, pause) != nil {
			return outcome{err: endedAfter(t.ended(ctx), last)}
		}
	}
}

// waits reports whether PullWait waits after this failure, because a later pull may
// succeed.
func (e *Error) waits() bool {
	switch e.Reason {
	case ErrImagePull, ErrImagePullBackOff, ErrRegistryUnavailable, ErrSignatureValidation:
		return true
	}
	return false
}

// tried returns e if the registry was asked or if e is a back-off after an earlier try,
// and nil otherwise.
func (e *Error) tried() *Error {
	if len(e.Attempts) > 0 || e.Previous != nil {
		return e
	}
	return nil
}

// endedAfter adds last to err, the error of a context's end. last is the failure after
// which the call waited.
func endedAfter(err, last *Error) *Error {
	if last == nil {
		return err
	}
	if last.Previous != nil {
		last = last.Previous
	}
	return &Error{Reason: err.Reason, Image: err.Image, Err: err.Err, Previous: last}
}

// PullAll pulls the images of reqs. It yields each result as soon as the result is known,
// and so not in the order of reqs. Config.Parallel limits the number of pulls at a time;
// if it sets no limit, PullAll pulls at most 64 images at a time. PullAll takes at most
// one request ahead of the pulls that run, so reqs may be of any length.
//
// Like the kubelet, PullAll pulls one image of a Pod at a time: while an image is pulled
// for a Pod.UID, the other images of that Pod wait, and images of other Pods are pulled.
// At most 256 images wait in this way. PullAll takes no further request until the pull of
// one of them starts.
//
// When ctx ends, PullAll yields the errors of the pulls that run, and starts no further
// pull. If not all images of reqs were started, or if no result was yielded, PullAll
// yields one last result, with the zero Request and an error that wraps ctx's cause. So a
// loop that gets no error has got all images of reqs.
//
// Breaking out of the loop cancels the pulls that run and waits until they have stopped.
// PullAll calls reqs in another goroutine. After a break or the end of ctx, the yield
// function that reqs calls returns false. The loop ends when reqs has returned too, so
// reqs and the code after the loop may share variables without a lock. There is one
// exception: if reqs blocks between two calls of yield for more than 5 s after the break
// or the end of ctx, the loop ends without it. After a panic of reqs or of another
// callback, the loop panics with a [*PanicError] when the pulls that run have ended.
func (p *Puller) PullAll(ctx context.Context, reqs iter.Seq[Request]) iter.Seq2[Request, Result] {
	return p.pullAll(ctx, reqs, func(ctx context.Context, req Request, _ *turn) outcome { return p.pull(ctx, req) })
}

// PullAllWait is PullAll with PullWait for each image. While an image waits for the end of
// a back-off window, other images of its Pod are pulled, and the image does not count for
// Config.Parallel. If 256 other images wait already, an image that waits keeps its Pod and
// counts for Config.Parallel.
func (p *Puller) PullAllWait(ctx context.Context, reqs iter.Seq[Request]) iter.Seq2[Request, Result] {
	return p.pullAll(ctx, reqs, func(ctx context.Context, req Request, t *turn) outcome { return p.pullWait(ctx, req, t.sleep) })
}

func (p *Puller) pullAll(ctx context.Context, reqs iter.Seq[Request], pull func(context.Context, Request, *turn) outcome) iter.Seq2[Request, Result] {
	return func(yield func(Request, Result) bool) {
		defer carryPanic()
		if reqs == nil {
			reqs = func(func(Request) bool) {}
		}
		all := &allPulls{
			pull:  pull,
			awake: newSlots(cmp.Or(max(p.config.Parallel, 0), 1)), asleep: newSlots(maxAsleep), queued: newSlots(maxAsleep),
			results: make(chan requestResult),
		}
		if p.config.Parallel < 0 {
			all.awake = newSlots(allUnlimited)
		}
		all.run(ctx, reqs, yield)
	}
}

// Sweep removes from Config.Records the records of images that are not in the store any
// more. stored reports whether the store has an image with the ID id, as in Image.ID.
// before is the time at which the caller listed the store. An image that was pulled after
// that time keeps its record. Without Records, Sweep does nothing. Call it after each
// removal of images from the store.
func (p *Puller) Sweep(ctx context.Context, before time.Time, stored func(id string) bool) error {
	defer carryPanic()
	if p.access == nil {
		return nil
	}
	return within(ctx, func() error { return p.access.sweep(ctx, before, stored) })
}

// sleep waits for d, or until ctx ends. It is the only function in which a Puller sleeps.
// Its error is the cause of the end of ctx.
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
