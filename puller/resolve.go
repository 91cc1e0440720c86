package puller

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/await"
	"github.com/pullkit/pullkit/reference"
)

// Resolve asks the registry which digest the image's tag has now, with one credential
// after another, and returns the name with that digest. The tag stays in the name. A name
// that has a digest is returned without asking. If the tag points to an index, the digest
// is that of the index, so that the answer holds for all platforms. A [Resolver] returns
// it even if the index has no image for the request's platform.
//
// With package transfer's Runtime, Resolve sends one HEAD. It sends no GET, because Docker
// Hub counts a GET as a pull. Only if the registry refuses HEAD, or sends no digest in the
// answer, a GET follows. A digest from a HEAD is not verified: the bytes are verified only
// when the image is pulled by that digest. [Puller.Find] sends the same requests. It also
// asks about a name that has a digest, and says which credential opens the image.
//
// Config.Events gets an EventAttempt for each credential that did not help, and then
// EventResolved or EventResolveFailed. EventResolveFailed comes with the same EventHint
// and EventBadSecret as EventFailed in a pull.
//
// Nothing is pulled or stored. Policy, back-off, QPS and Parallel do not apply. The
// Runtime must be a Resolver or a [Planner]; otherwise the error wraps
// errors.ErrUnsupported. A Planner can answer only if the name has an image for the
// request's platform. The error is an [*Error].
func (p *Puller) Resolve(ctx context.Context, req Request) (reference.Reference, error) {
	defer carryPanic()
	t, err := p.newTask(req)
	if err == nil && t.ref.Digest() != "" {
		p.events.resolved(t, t.ref, nil)
		return t.ref, nil
	}
	found, err := p.find(ctx, t, err)
	if err != nil {
		return reference.Reference{}, err
	}
	return found.Ref, nil
}

// Found is an image that exists, with the credential that opens it.
type Found struct {
	// Ref is the image's name with the digest that the registry sent.
	Ref reference.Reference
	// Origin says where the credential that opens the image was found; zero if the image
	// needs no credential.
	Origin credentials.Origin
	// Answers has the answer to each credential, in order; the last one is the success.
	Answers []Answer
}

// Find returns whether the image exists, and which of the request's and the node's
// credentials opens it. It asks the registry as [Puller.Resolve] does, with one credential
// after another, even if the name has a digest, and stores nothing. Package transfer's
// Runtime needs no Store for it, only a Source such as a registry.Client. The error is an
// [*Error]. It matches fs.ErrNotExist if the image does not exist, and fs.ErrPermission if
// no credential opens the image. It matches neither if the registry gave no answer, for
// example because it cannot be reached. credentials.VerdictOf distinguishes more cases.
func (p *Puller) Find(ctx context.Context, req Request) (Found, error) {
	defer carryPanic()
	t, err := p.newTask(req)
	found, err := p.find(ctx, t, err)
	if err != nil {
		return Found{}, err
	}
	return found, nil
}

// find asks the registry, and sends the call's events. It does not ask if unusable, the
// error of newTask, is not nil.
func (p *Puller) find(ctx context.Context, t *task, unusable *Error) (Found, *Error) {
	ref, attempts, err := reference.Reference{}, []credentials.Attempt(nil), unusable
	if err == nil {
		ref, attempts, err = p.askDigest(ctx, t)
	}
	if err != nil {
		p.events.attemptsToResolve(t, attempts)
		p.events.unresolved(t, err)
		return Found{}, err
	}
	p.events.resolved(t, ref, attempts)
	found := Found{Ref: ref, Origin: attempts[len(attempts)-1].Origin}
	for _, a := range attempts {
		found.Answers = append(found.Answers, newAnswer(a))
	}
	return found, nil
}

// askDigest returns the name with the digest that the registry sends. attempts is as in
// askEach.
func (p *Puller) askDigest(ctx context.Context, t *task) (ref reference.Reference, attempts []credentials.Attempt, err *Error) {
	resolve, ok := p.resolver()
	if !ok {
		return ref, nil, t.fail("", errNoResolver)
	}
	dgst, attempts, err := askEach(ctx, p, t, resolve)
	if err != nil {
		return ref, attempts, err
	}
	ref, fault := t.ref.WithDigest(dgst)
	if fault != nil {
		return ref, attempts[:len(attempts)-1], t.fail(ErrImagePull, fmt.Errorf("the runtime's digest: %w", fault))
	}
	return ref, attempts, nil
}

var errNoResolver = fmt.Errorf("the runtime cannot resolve a name without a pull: %w", errors.ErrUnsupported)

// resolver returns the function with which the Runtime resolves a name, if it has one.
func (p *Puller) resolver() (resolve func(context.Context, Spec) (digest.Digest, error), ok bool) {
	switch r := p.config.Runtime.(type) {
	case Resolver:
		return r.Resolve, true
	case Planner:
		return func(ctx context.Context, spec Spec) (digest.Digest, error) {
			plan, err := r.Plan(ctx, spec)
			return plan.Digest, err
		}, true
	}
	return nil, false
}

// askEach asks the Runtime a question that changes nothing, with one credential after
// another. attempts also has the sources that gave no credential. If an attempt succeeded,
// it is the last one.
func askEach[T any](ctx context.Context, p *Puller, t *task, ask func(context.Context, Spec) (T, error)) (got T, attempts []credentials.Attempt, err *Error) {
	type answer struct {
		got      T
		accepted candidate
		attempts []credentials.Attempt
		err      error
	}
	a, ok := await.Call(ctx, func() (a answer) {
		a.got, a.accepted, a.err = tryEach(ctx, p, t, p.config.mirrorKeys(ctx, t), t.spec(), ask, func(failed credentials.Attempt) { a.attempts = append(a.attempts, failed) })
		return a
	})
	switch {
	case ok && a.err == nil:
		return a.got, append(a.attempts, credentials.Attempt{Origin: a.accepted.cred.Origin}), nil
	case ctx.Err() != nil:
		return got, nil, t.ended(ctx)
	}
	return got, a.attempts, p.attemptsError(t, a.err)
}
