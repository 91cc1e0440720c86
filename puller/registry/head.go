package registry

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/pullkit/pullkit/puller/content"
)

// afterHead asks by GET after all hosts refused a HEAD. A host that the GET does
// not go to keeps its answer to the HEAD.
func (w *walk) afterHead(ctx context.Context, get attempt) error {
	for i := range w.hosts {
		if !w.mayGet(ctx, i) {
			continue
		}
		if err := w.one(ctx, i, get); err == nil || ctx.Err() != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return canceled(ctx, "")
	}
	err := w.err()
	var e *content.Error
	var status *StatusError
	if errors.As(err, &e) && errors.As(err, &status) && status.passwordRefused && status.Method == http.MethodHead {
		marked := *e
		marked.HeadRefused = true
		return &marked
	}
	return err
}

// mayGet reports whether a GET goes to a host after what it answered to the HEAD.
// It waits where the host wants that.
func (w *walk) mayGet(ctx context.Context, i int) bool {
	err := w.failed[i]
	var status *StatusError
	var token *tokenError
	switch {
	case !errors.As(err, &status), content.KindOf(err) == content.ErrRateLimited, status.passwordRefused:
		return false
	case errors.As(err, &token):
		return !token.shown // the token server has said why, and a password must not count twice
	case status.Method != http.MethodHead:
		return false // a host that does not know HEAD was asked by GET already
	}
	asked, _ := askedToWait(err)
	if asked == 0 {
		return true
	}
	return i == len(w.hosts)-1 && w.patience.waitFor(ctx, asked)
}

// waitFor waits as a server asked to, if there is that much patience left.
func (p *patience) waitFor(ctx context.Context, asked time.Duration) bool {
	if p.maxWait < 0 || asked > p.maxWait-p.waited {
		return false
	}
	p.waited += asked
	p.ordered += asked
	return sleep(ctx, asked) == nil
}
