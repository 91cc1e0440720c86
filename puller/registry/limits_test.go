package registry_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/reference"
)

// A limiter is a server in front of a registry. It limits requests as nginx does with
// limit_req and nodelay: it allows burst requests at once, and one more after each period
// every.
type limiter struct {
	every  time.Duration
	burst  float64
	status int
	header string // Retry-After, if it is not ""
	next   http.HandlerFunc

	mu                sync.Mutex
	excess            float64
	last              time.Time
	requests, refused int
}

func (l *limiter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	l.requests++
	now := time.Now()
	excess := 0.0
	if !l.last.IsZero() {
		excess = max(0, l.excess-float64(now.Sub(l.last))/float64(l.every)+1)
	}
	if excess > l.burst {
		l.refused++
		l.mu.Unlock()
		if l.header != "" {
			w.Header().Set("Retry-After", l.header)
		}
		w.WriteHeader(l.status)
		return
	}
	l.excess, l.last = excess, now
	l.mu.Unlock()
	l.next(w, r)
}

// Behind a limit of 20 requests a minute all blobs of an image arrive. Only few requests are
// refused, although the refusals have no Retry-After.
func TestManyBlobsArriveBehindALimit(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			front := &limiter{every: 3 * time.Second, burst: 8, status: 429, next: text(hello)}
			c := newClient(t, registry.Config{WrapTransport: instead(newWorld(map[string]http.HandlerFunc{"https://reg.example": front.ServeHTTP}))})
			const blobs, parallel = 20, 4
			var wg sync.WaitGroup
			slots := make(chan struct{}, parallel)
			for i := range blobs {
				slots <- struct{}{}
				wg.Go(func() {
					_, err := read(t.Context(), c, content.Repo{Ref: reference.MustParse(fmt.Sprintf("reg.example/app%d:v1", i))}, helloBlob())
					assert.NoError(t, err)
					<-slots
				})
			}
			wg.Wait()
			assert.LessOrEqual(t, front.requests, 3*blobs)
		})
	}
}

// The limit is 20 requests a minute, and it is used up. An image with one layer arrives
// nevertheless, with at most four more requests than without a limit.
func TestAnImageBehindALimitNeedsFewMoreRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		front := &limiter{every: 3 * time.Second, burst: 8, status: 429, next: text(hello)}
		w := newWorld(map[string]http.HandlerFunc{"https://reg.example": front.ServeHTTP})
		for range 20 { // one process after the other
			before := front.requests
			c := newClient(t, registry.Config{WrapTransport: instead(w)})
			for range 3 {
				_, err := read(t.Context(), c, content.Repo{Ref: reference.MustParse("reg.example/app:v1")}, helloBlob())
				require.NoError(t, err)
			}
			assert.LessOrEqual(t, front.requests-before, 3+4)
		}
		assert.NotZero(t, front.refused)
	})
}

// For a minute after 429 or 503, a call for a part of a blob fails at once, without a
// request, if another body of the blob is open. It also fails if the host refused the
// first request of that other body, which waits. A part waits if no other body of its
// blob is open.
func TestNoPartIsRequestedFromAHostThatLimits(t *testing.T) {
	blob := make([]byte, 1000)
	desc := ocispec.Descriptor{Digest: digest.FromBytes(blob), Size: int64(len(blob))}
	for _, status := range []int{429, 503} {
		reason := map[int]content.Reason{429: content.ErrRateLimited, 503: content.ErrUnavailable}[status]
		synctest.Test(t, func(t *testing.T) {
			refuse, requests := 0, 0
			w := newWorld(map[string]http.HandlerFunc{"https://reg.example": func(w http.ResponseWriter, r *http.Request) {
				if requests++; refuse > 0 {
					refuse--
					w.Header().Set("Retry-After", "2")
					w.WriteHeader(status)
					return
				}
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blob))
			}})
			c := newClient(t, registry.Config{WrapTransport: instead(w)})
			repo := content.Repo{Ref: reference.MustParse("reg.example/app:v1")}
			ask := func(off, n int64) (content.Body, error) { return c.Blob(t.Context(), repo, desc, off, n) }
			refused := func(err error, want int) {
				t.Helper()
				var e *content.Error
				require.ErrorAs(t, err, &e)
				assert.Equal(t, reason, e.Reason)
				assert.Equal(t, status, e.Status)
				assert.Equal(t, "reg.example", e.Host)
				assert.Equal(t, want, requests)
			}

			refuse = 1
			began := time.Now()
			first, err := ask(0, -1)
			require.NoError(t, err)
			assert.Equal(t, 2*time.Second, time.Since(began), "the first body waits")
			_, err = ask(500, 500)
			refused(err, 2)

			time.Sleep(time.Minute)
			second, err := ask(500, 250)
			require.NoError(t, err, "a minute later")
			require.NoError(t, second.Close())
			refuse, began = 1, time.Now()
			_, err = ask(500, 500)
			refused(err, 4)
			assert.Zero(t, time.Since(began), "a part that is refused does not wait")
			_, err = ask(500, 500)
			refused(err, 4)
			last, err := ask(500, -1)
			require.NoError(t, err, "a call for all the rest of the blob")
			require.NoError(t, last.Close())

			_, err = io.ReadAll(first)
			require.NoError(t, err)
			require.NoError(t, first.Close())
			refuse, began = 1, time.Now()
			alone, err := ask(500, 250)
			require.NoError(t, err, "the only body of the blob")
			assert.Equal(t, 2*time.Second, time.Since(began))
			data, err := io.ReadAll(alone)
			require.NoError(t, err)
			assert.Len(t, data, 250)
			require.NoError(t, alone.Close())
		})
	}
}

// TestARefusalOfTheOnlyTryCountsAsALimit: a host counts as one that limits requests even
// if it has refused only one try, and the call makes no other.
func TestARefusalOfTheOnlyTryCountsAsALimit(t *testing.T) {
	requests := 0
	w := newWorld(map[string]http.HandlerFunc{"https://reg.example": func(w http.ResponseWriter, r *http.Request) {
		if requests++; requests > 1 {
			w.WriteHeader(429)
			return
		}
		_, _ = w.Write(make([]byte, 1000))
	}})
	c := newClient(t, registry.Config{WrapTransport: instead(w), Retries: -1})
	repo := content.Repo{Ref: reference.MustParse("reg.example/app:v1")}
	desc := ocispec.Descriptor{Digest: digest.FromBytes(make([]byte, 1000)), Size: 1000}
	body, err := c.Blob(t.Context(), repo, desc, 0, -1)
	require.NoError(t, err)
	for range 3 {
		_, err = c.Blob(t.Context(), repo, desc, 500, 100)
		assert.ErrorIs(t, err, content.ErrRateLimited)
	}
	assert.Equal(t, 2, requests)
	require.NoError(t, body.Close())
}
