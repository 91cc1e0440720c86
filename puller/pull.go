package puller

import (
	"context"
	"errors"
	"io/fs"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/pullpolicy"
)

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
	h, err := p.pull(ctx, req)
	return h.image, err
}

// A had is an image with how it was had: from the store, or by a pull.
type had struct {
	image   Image
	present bool
}

func (p *Puller) pull(ctx context.Context, req Request) (had, error) {
	t, err := p.newTask(req)
	if err != nil {
		p.emitUnusable(t, err)
		return had{}, err
	}
	h, err := p.ensure(ctx, t)
	if err != nil {
		return had{}, err
	}
	return h, nil
}

// emitUnusable reports a request that cannot be tried. A policy that is none has
// no event of the kubelet's.
func (p *Puller) emitUnusable(t *task, err *Error) {
	if err.Reason == ErrInvalidImageName {
		p.emitError(t, EventInspectFailed, err)
	}
}

// ensure is one attempt: steps 2 to 5.
func (p *Puller) ensure(ctx context.Context, t *task) (had, *Error) {
	if ctx.Err() != nil {
		return had{}, t.ended(ctx)
	}
	found, ok := await(ctx, func() finding { return p.precheck(ctx, t) })
	switch {
	case !ok, found.err != nil && ctx.Err() != nil:
		return had{}, t.ended(ctx)
	case found.err != nil:
		err := t.fail(found.reason(), found.err)
		if err.Reason != "" {
			p.emitError(t, EventInspectFailed, err)
		}
		return had{}, err
	}
	switch found.action {
	case pullpolicy.Use:
		p.emitPresent(t, found.image)
		return had{found.image, true}, nil
	case pullpolicy.Refuse:
		err := t.fail(ErrImageNeverPull, nil)
		p.emitError(t, EventNeverPull, err)
		return had{}, err
	}
	img, err := p.fetch(ctx, t)
	return had{image: img}, err
}

// A finding is what the store and the records say of an image.
type finding struct {
	presence pullpolicy.Presence
	action   pullpolicy.Action
	image    Image  // where it is present
	access   access // where records were asked
	err      error  // of the store, or of the Pod's secrets
	secrets  bool   // err is of the Pod's secrets
}

func (f finding) reason() Reason {
	if f.secrets {
		return ""
	}
	return ErrImageInspect
}

// precheck asks the store, and who may use what is in it.
func (p *Puller) precheck(ctx context.Context, t *task) finding {
	if !t.policy.Looks() {
		return finding{action: t.policy.Decide(pullpolicy.Absent)}
	}
	f := finding{presence: pullpolicy.Absent}
	img, err := p.config.Runtime.Status(ctx, t.spec())
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		f.presence, f.err = pullpolicy.Unknown, err
	default:
		f.presence, f.image = pullpolicy.Present, img
		if p.guard == nil {
			break
		}
		f.access, err = p.guard.mayUse(ctx, t, img)
		if err != nil {
			f.err, f.secrets = err, true
		} else if !f.access.granted {
			f.presence = pullpolicy.NeedsProof
		}
	}
	if f.err == nil {
		f.action = t.policy.Decide(f.presence)
	}
	return f
}

// fetch is the part of an attempt that needs the registry.
func (p *Puller) fetch(ctx context.Context, t *task) (Image, *Error) {
	print := p.print(t)
	if g := p.windows.look(t.key, print); !g.open() {
		err := &Error{Reason: ErrImagePullBackOff, Image: t.req.Image, RetryAfter: g.wait, Previous: g.previous}
		p.emitBackOff(t, err)
		return Image{}, err
	}
	if p.config.Kubelet.FailOnBadSecret {
		err, ok := await(ctx, func() error { return p.badSecret(ctx, t) })
		if !ok {
			return Image{}, t.ended(ctx)
		}
		if err != nil {
			return Image{}, t.fail("", err)
		}
	}
	img, err := p.join(ctx, t, print)
	if err != nil && err.Reason == ErrImagePull && ctx.Err() == nil {
		p.emitProblems(t)
	}
	return img, err
}

// print is what the request's secrets are told from others by; nil if they
// cannot be.
func (p *Puller) print(t *task) *ringPrint {
	sum, ok := t.ring.fingerprint(t.ref)
	if !ok {
		return nil
	}
	return &sum
}

// badSecret is the first fault of any source.
func (p *Puller) badSecret(ctx context.Context, t *task) error {
	fault := t.ring.knownFault(t.ref)
	if fault != nil {
		return fault
	}
	t.ring.lookup(ctx, t.ref, func(_ origin, _ credentials.Credential, err error) bool {
		fault = err
		return err == nil
	})
	return fault
}

func (t *task) fail(reason Reason, err error) *Error {
	return &Error{Reason: reason, Image: t.req.Image, Err: err}
}

// ended is the error of a call whose context has ended.
func (t *task) ended(ctx context.Context) *Error {
	return t.fail(ErrImagePull, context.Cause(ctx))
}
