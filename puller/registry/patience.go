package registry

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/pullkit/pullkit/puller/content"
)

// firstDelay is the own delay before the second try; each further one doubles it.
const firstDelay = 500 * time.Millisecond

// A patience is how much waiting and asking again is left since the last
// progress.
type patience struct {
	tries   int           // tries that may still follow
	maxWait time.Duration // for what servers ask to wait; negative: never
	made    int           // tries since the last progress
	waited  time.Duration // for servers, since the last progress
	ordered time.Duration // for servers, in all
}

func (c *Client) patience() patience {
	return patience{tries: c.reconnects(), maxWait: c.maxWait()}
}

// progress is told that an answer brought something new.
func (p *patience) progress() { p.made, p.waited = 0, 0 }

// next waits before another try after err. It returns err, or the context's
// error, when there shall be none.
func (p *patience) next(ctx context.Context, err error) error {
	if !retryable(err) || p.made >= p.tries {
		return err
	}
	p.made++
	wait := ownDelay(p.made)
	if asked, ok := askedToWait(err); ok && asked > 0 {
		if p.maxWait < 0 || asked > p.maxWait-p.waited {
			return err
		}
		wait = asked
		p.waited += asked
		p.ordered += asked
	}
	return sleep(ctx, wait)
}

// ownDelay is how long to wait before the n-th try again: half to one and a
// half of a doubling delay, so that many clients do not come back together.
func ownDelay(n int) time.Duration {
	d := firstDelay << min(n-1, 6)
	return d/2 + rand.N(d)
}

// askedToWait returns the Retry-After of an error.
func askedToWait(err error) (time.Duration, bool) {
	var e *content.Error
	if !errors.As(err, &e) {
		return 0, false
	}
	return e.RetryAfter, true
}

// retryable reports whether the same request may be answered better later.
func retryable(err error) bool {
	var token *tokenError
	if errors.As(err, &token) {
		return false // it had tries of its own
	}
	switch content.KindOf(err) {
	case content.ErrRateLimited, content.ErrUnavailable, content.ErrTimeout:
		return true
	case content.ErrNetwork:
		return !noSuchHost(err)
	}
	return false
}

// sleep waits, or returns ctx's error.
func sleep(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return canceled(ctx, "")
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return canceled(ctx, "")
	case <-timer.C:
		return nil
	}
}
