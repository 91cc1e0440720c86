package credentials

import (
	"context"

	"github.com/pullkit/pullkit/reference"
)

// Each calls try with one credential after the other, in ring's order, until one
// call succeeds, and returns what that call returned. Where ring has no
// candidate for ref (also because each of its sources failed, or because ring is
// nil), try is called once with the anonymous credential; with candidates there
// is no anonymous try at the end.
//
// An error of try moves on to the next candidate, unless it is marked with
// [Stop] or ctx has ended. A source of ring that could not answer is passed over
// in the same way; it can mark its error with Stop too.
//
// The error is an [*AttemptsError]. It holds what each candidate answered, and is to
// errors.Is what the candidate that got furthest was answered, or the cause of ctx's
// end if that ended the loop. Calls of
// try never overlap, and ring is not asked for more than is tried.
func Each[T any](ctx context.Context, ring Keyring, ref reference.Reference, try func(context.Context, Credential) (T, error)) (T, error) {
	var none T
	failed := &AttemptsError{Image: ref.Name()}
	candidates := 0
	for cred, err := range lookup(ctx, ring, ref) {
		if ctx.Err() != nil {
			failed.note(cred, err, true)
			return none, failed.ended(ctx)
		}
		if err == nil {
			candidates++
			var got T
			if got, err = try(ctx, cred); err == nil {
				return got, nil
			}
			failed.note(cred, err, false)
		} else {
			failed.note(cred, err, true)
		}
		if Stopped(err) {
			return none, failed
		}
		if ctx.Err() != nil {
			return none, failed.ended(ctx)
		}
	}
	if ctx.Err() != nil {
		return none, failed.ended(ctx)
	}
	if candidates > 0 {
		return none, failed
	}
	got, err := try(ctx, Credential{})
	if err == nil {
		return got, nil
	}
	failed.note(Credential{}, err, false)
	if ctx.Err() != nil {
		return none, failed.ended(ctx)
	}
	return none, failed
}
