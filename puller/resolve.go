package puller

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/reference"
)

// Resolve asks the registry what the image's tag points to now, with one
// credential after the other, and returns the name with that digest: the tag
// stays in it. A name that has a digest is returned without asking. The digest is
// that of the index where there is one, so the answer holds for all platforms,
// and a [Resolver] gives it whether or not there is an image for this one.
//
// Nothing is pulled or stored; policy, back-off, QPS and Parallel take no part.
// The Runtime must be a Resolver, or a [Planner], which can only tell where the
// request's platform has an image; otherwise the error wraps
// errors.ErrUnsupported. The error is an [*Error].
func (p *Puller) Resolve(ctx context.Context, req Request) (reference.Reference, error) {
	t, err := p.newTask(req)
	if err != nil {
		return reference.Reference{}, err
	}
	if t.ref.Digest() != "" {
		return t.ref, nil
	}
	resolve, ok := p.resolver()
	if !ok {
		return reference.Reference{}, t.fail("", errNoResolver)
	}
	found, _, err := askEach(ctx, p, t, resolve)
	if err != nil {
		return reference.Reference{}, err
	}
	pinned, fault := t.ref.WithDigest(found)
	if fault != nil {
		return reference.Reference{}, t.fail(ErrImagePull, fmt.Errorf("the runtime's digest: %w", fault))
	}
	return pinned, nil
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

// askEach asks the Runtime a question that changes nothing, with one credential
// after the other. The attempts end with the one that succeeded, if one did, and
// have the sources that could not answer among them.
func askEach[T any](ctx context.Context, p *Puller, t *task, ask func(context.Context, Spec) (T, error)) (got T, attempts []credentials.Attempt, err *Error) {
	type outcome struct {
		got      T
		attempts []credentials.Attempt
		err      error
	}
	out, ok := await(ctx, func() (out outcome) {
		ring := &candidates{ring: t.ring, failed: func(a credentials.Attempt) { out.attempts = append(out.attempts, a) }}
		out.got, out.err = credentials.Each(ctx, ring, t.ref, func(ctx context.Context, cred credentials.Credential) (T, error) {
			spec := t.spec()
			spec.Credential, spec.Last = cred, ring.last
			got, err := ask(ctx, spec)
			out.attempts = append(out.attempts, credentials.Attempt{Origin: cred.Origin, Err: err})
			if err != nil {
				err = p.steer(err)
			}
			return got, err
		})
		return out
	})
	switch {
	case ok && out.err == nil:
		return out.got, out.attempts, nil
	case ctx.Err() != nil:
		return got, out.attempts, t.ended(ctx)
	}
	f := p.failed(t, out.err)
	err = f.errorFor(t)
	err.RetryAfter = min(f.after, maxRetryAfter)
	return got, f.attempts, err
}
