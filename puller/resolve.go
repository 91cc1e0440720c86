package puller

import (
	"context"
	"errors"
	"fmt"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/reference"
)

// Resolve asks the registry what the image's tag points to now, with one
// credential after the other, and returns the name with that digest: the tag
// stays in it. A name that has a digest is returned without asking. The digest is
// that of the index where there is one, so the answer holds for all platforms.
//
// Nothing is pulled or stored; policy, back-off, QPS and Parallel take no part.
// The Runtime must be a [Planner], otherwise the error wraps
// errors.ErrUnsupported. The error is an [*Error].
func (p *Puller) Resolve(ctx context.Context, req Request) (reference.Reference, error) {
	t, err := p.newTask(req)
	if err != nil {
		return reference.Reference{}, err
	}
	if t.ref.Digest() != "" {
		return t.ref, nil
	}
	planner, ok := p.config.Runtime.(Planner)
	if !ok {
		return reference.Reference{}, t.fail("", errNoPlanner)
	}
	plan, _, err := p.plan(ctx, t, planner)
	if err != nil {
		return reference.Reference{}, err
	}
	pinned, fault := t.ref.WithDigest(plan.Digest)
	if fault != nil {
		return reference.Reference{}, t.fail(ErrImagePull, fmt.Errorf("the runtime's digest: %w", fault))
	}
	return pinned, nil
}

var errNoPlanner = fmt.Errorf("the runtime cannot resolve names without pulling: %w", errors.ErrUnsupported)

// plan asks for the plan with one credential after the other. The attempts end
// with the one that succeeded, if one did.
func (p *Puller) plan(ctx context.Context, t *task, planner Planner) (Plan, []credentials.Attempt, *Error) {
	var attempts []credentials.Attempt
	ring := &candidates{ring: t.ring}
	plan, err := credentials.Each(ctx, ring, t.ref, func(ctx context.Context, cred credentials.Credential) (Plan, error) {
		spec := t.spec()
		spec.Credential = cred
		plan, err := planner.Plan(ctx, spec)
		attempts = append(attempts, credentials.Attempt{Origin: cred.Origin, Err: err})
		if err != nil {
			return Plan{}, p.steer(err)
		}
		return plan, nil
	})
	switch {
	case err == nil:
		return plan, attempts, nil
	case ctx.Err() != nil:
		return Plan{}, attempts, t.ended(ctx)
	}
	f := p.failed(t, err)
	e := f.errorFor(t)
	e.RetryAfter = min(f.after, maxRetryAfter)
	return Plan{}, f.attempts, e
}
