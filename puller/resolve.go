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

// Resolve asks the registry what the image's tag points to now, with one
// credential after the other, and returns the name with that digest: the tag
// stays in it. A name that has a digest is returned without asking. The digest is
// that of the index where there is one, so the answer holds for all platforms,
// and a [Resolver] gives it whether or not there is an image for this one.
//
// With package transfer's Runtime it costs one HEAD, and no GET, which Docker Hub would
// count as a pull; a GET follows where the registry refuses HEAD or sends no digest in
// the answer. A digest had by HEAD is the registry's word: nothing was verified before
// the image is pulled by it. [Puller.Find] costs the same, asks also about a name that
// has a digest, and says which credential opens the image.
//
// Nothing is pulled or stored; policy, back-off, QPS and Parallel take no part.
// The Runtime must be a Resolver, or a [Planner], which can answer only where the
// request's platform has an image; otherwise the error wraps
// errors.ErrUnsupported. The error is an [*Error].
func (p *Puller) Resolve(ctx context.Context, req Request) (reference.Reference, error) {
	defer carryPanic()
	t, err := p.newTask(req)
	if err != nil {
		return reference.Reference{}, err
	}
	if t.ref.Digest() != "" {
		return t.ref, nil
	}
	found, err := p.find(ctx, t)
	if err != nil {
		return reference.Reference{}, err
	}
	return found.Ref, nil
}

// Found is an image that exists, with the credential that opens it.
type Found struct {
	// Ref is the image's name with the digest that the registry sent.
	Ref reference.Reference
	// Origin says where the credential was found that opens the image; zero if none is
	// needed.
	Origin credentials.Origin
	// Answers are what each credential met with, in order; the last one succeeded.
	Answers []Answer
}

// Find says whether the image exists and which of the request's and the node's
// credentials opens it. It asks the registry as [Puller.Resolve] does, with one
// credential after the other, also where the name has a digest, and stores nothing.
// Package transfer's Runtime needs no Store for it, only a Source such as a
// registry.Client. The error is an [*Error]: an fs.ErrNotExist if the image does not exist, an
// fs.ErrPermission if no credential opens it, and neither if the registry did not say,
// such as when it cannot be reached. credentials.VerdictOf distinguishes more of these.
func (p *Puller) Find(ctx context.Context, req Request) (Found, error) {
	defer carryPanic()
	t, err := p.newTask(req)
	if err != nil {
		return Found{}, err
	}
	found, err := p.find(ctx, t)
	if err != nil {
		return Found{}, err
	}
	return found, nil
}

func (p *Puller) find(ctx context.Context, t *task) (Found, *Error) {
	resolve, ok := p.resolver()
	if !ok {
		return Found{}, t.fail("", errNoResolver)
	}
	dgst, attempts, err := askEach(ctx, p, t, resolve)
	if err != nil {
		return Found{}, err
	}
	ref, fault := t.ref.WithDigest(dgst)
	if fault != nil {
		return Found{}, t.fail(ErrImagePull, fmt.Errorf("the runtime's digest: %w", fault))
	}
	found := Found{Ref: ref, Origin: attempts[len(attempts)-1].Origin}
	for _, a := range attempts {
		found.Answers = append(found.Answers, newAnswer(a))
	}
	return found, nil
}

var errNoResolver = fmt.Errorf("the runtime cannot resolve names without pulling: %w", errors.ErrUnsupported)

// resolver is the Runtime's way to resolve a name, if it has one.
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
// the other. The attempts end with the one that succeeded, if one did, and have the
// sources that gave no credential among them.
func askEach[T any](ctx context.Context, p *Puller, t *task, ask func(context.Context, Spec) (T, error)) (got T, attempts []credentials.Attempt, err *Error) {
	type answer struct {
		got      T
		accepted candidate
		attempts []credentials.Attempt
		err      error
	}
	a, ok := await.Call(ctx, func() (a answer) {
		a.got, a.accepted, a.err = tryEach(ctx, p, t, t.spec(), ask, func(failed credentials.Attempt) { a.attempts = append(a.attempts, failed) })
		return a
	})
	switch {
	case ok && a.err == nil:
		return a.got, append(a.attempts, credentials.Attempt{Origin: a.accepted.cred.Origin}), nil
	case ctx.Err() != nil:
		return got, nil, t.ended(ctx)
	}
	err = p.attemptsError(t, a.err)
	return got, err.Attempts, err
}
