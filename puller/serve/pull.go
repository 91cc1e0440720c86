package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"time"

	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
)

// maxPulls is how many images are pulled on request at the same time.
const maxPulls = 16

const (
	// pullAgain is how long a client is asked to wait if a pull takes too long, or if it
	// fails and a later pull may succeed.
	pullAgain = 10 * time.Second
	// maxAgain is how long a client is asked to wait at most.
	maxAgain = 5 * time.Minute
)

var errPullTime = errors.New("the pull takes longer than Config.PullTimeout")

// pull pulls an image that a client asks for. Equal requests share one pull. missing is
// the error that says which content is missing. The error of pull is the answer to the
// client.
func (h *Handler) pull(ctx context.Context, t target, ref reference.Reference, missing error) error {
	if h.puller == nil || !h.pullsFrom(ref.Registry()) {
		return t.notFound(missing)
	}
	bounded, cancel := context.WithTimeoutCause(ctx, h.pullTimeout, errPullTime)
	defer cancel()
	_, err := h.shared.Do(bounded, ref, func(ctx context.Context) (puller.Image, error) {
		select {
		case h.pulls <- struct{}{}:
			defer func() { <-h.pulls }()
		default:
			return puller.Image{}, errBusy
		}
		h.log.InfoContext(ctx, "pulling on request", "image", ref.String())
		return h.puller.Pull(ctx, puller.Request{Image: ref.String(), Policy: pullpolicy.IfNotPresent})
	})
	var failed *puller.Error
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, error(errBusy)):
		return err
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return t.notFound(err)
	}
	no := &refusal{status: http.StatusServiceUnavailable, code: "UNAVAILABLE", message: "the image could not be pulled", after: pullAgain, cause: fmt.Errorf("pull: %w", err)}
	if errors.As(err, &failed) && failed.RetryAfter > 0 {
		no.after = min(failed.RetryAfter, maxAgain)
	}
	return no
}
