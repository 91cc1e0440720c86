package fetch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullkit/pullkit/internal/spans"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	errLimited = &content.Error{Reason: content.ErrRateLimited}
	errCut     = &content.Error{Reason: content.ErrNetwork, Err: errors.New("cut")}
)

// A pacedBody brings 10 MB a second. It fails with err at the given time, if that is set.
type pacedBody struct {
	io.Reader
	ctx context.Context
	at  time.Time
	err error
}

func (b *pacedBody) Read(p []byte) (int, error) {
	if b.err != nil && !time.Now().Before(b.at) {
		return 0, b.err
	}
	n, err := b.Reader.Read(p[:min(len(p), 64<<10)])
	if werr := wait(b.ctx, time.Duration(n)*100); werr != nil {
		return 0, werr
	}
	return n, err
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// A blob of 12 MiB in three gaps comes over two connections. Requests fail in ways that
// leave the blob without an active connection for a moment.
func TestABlobIsFetchedIfItHasNoActiveConnectionForAMoment(t *testing.T) {
	type answer struct {
		after, cut time.Duration // until the answer; until the body fails
		err        error
	}
	for name, answers := range map[string]map[int64]answer{
		"the other one fails while one opens its next part, which is refused": {2: {cut: 700 * time.Millisecond}, 3: {after: time.Second, err: errLimited}},
		"the only one is refused while an added one is being opened":          {2: {after: time.Second}, 3: {err: errLimited}},
		"the only one is refused, and then the added one":                     {2: {after: time.Second, err: errLimited}, 3: {err: errLimited}},
		"the only one is cut while an added one is being opened":              {1: {cut: 300 * time.Millisecond}, 2: {after: time.Second}},
	} {
		synctest.Test(t, func(t *testing.T) {
			f, j := newFetcher(), newJob(12<<20)
			f.config.MaxConnsPerBlob = 2
			f.SetProcessors(8)
			for _, off := range []int64{4 << 20, 8 << 20} {
				j.keep(t, j.data[off:off+1], off)
			}
			var requests atomic.Int64
			began := time.Now()
			j.blob.Open = func(ctx context.Context, off, n int64) (content.Body, error) {
				a := answers[requests.Add(1)]
				if err := wait(ctx, a.after); err != nil {
					return content.Body{}, err
				}
				if a.err != nil {
					return content.Body{}, a.err
				}
				body := &pacedBody{Reader: bytes.NewReader(j.data[off:]), ctx: ctx}
				if n >= 0 {
					body.Reader = bytes.NewReader(j.data[off : off+n])
				}
				if a.cut > 0 {
					body.at, body.err = began.Add(a.cut), errCut
				}
				return content.Body{ReadCloser: io.NopCloser(body), Start: off}, nil
			}
			require.True(t, f.AcquireConn())
			_, err := f.Fetch(t.Context(), j.blob)
			require.NoError(t, err, name)
			assert.GreaterOrEqual(t, requests.Load(), int64(3), name)
			f.ReleaseConn()
			assert.NoError(t, f.Idle(), name)
		})
	}
}

// A connection that finds nothing to fetch is removed at once. If another one fails after
// that, the blob has failed, and does not wait for the connection that has ended.
func TestAConnectionThatFindsNothingIsRemovedAtOnce(t *testing.T) {
	f := newFetcher()
	f.budget.open = 2
	l := &largeFetch{attempt: &attempt{Fetcher: f, Blob: newJob(8 << 20).blob}, wake: make(chan struct{}, 1), extra: 1, retried: true}
	done := newConn(t.Context(), spans.Span{Off: 4 << 20, End: 4 << 20}, 0)
	fails := newConn(t.Context(), spans.Span{Off: 4 << 20, End: 8 << 20}, 0)
	l.active = []*conn{done, fails}
	assert.False(t, l.nextPart(done, nil))
	assert.Equal(t, []*conn{fails}, l.active)
	assert.NoError(t, l.err)
	assert.False(t, l.nextPart(fails, errCut))
	assert.Empty(t, l.active)
	assert.Equal(t, spans.Set{fails.part}, l.unassigned)
	assert.ErrorIs(t, l.err, errCut)
}
