package registry_test

import (
	"bytes"
	"context"
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

// limitedHost answers requests with a status, and with parts of a blob of 1000 bytes when
// the status is 0.
type limitedHost struct {
	mu       sync.Mutex
	status   int
	header   string // Retry-After, if it is not ""
	times    int    // how many requests get the status; negative for all
	requests int
}

func (h *limitedHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.requests++
	refused := h.times != 0
	if h.times > 0 {
		h.times--
	}
	h.mu.Unlock()
	if !refused {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(make([]byte, 1000)))
		return
	}
	if h.header != "" {
		w.Header().Set("Retry-After", h.header)
	}
	w.WriteHeader(h.status)
}

func limitedBlob() ocispec.Descriptor {
	return ocispec.Descriptor{Digest: digest.FromBytes(make([]byte, 1000)), Size: 1000}
}

// Only an open body of the same host, repository and credential makes a part fail at once.
// Other callers' bodies do not.
func TestOnlyABodyOfTheSameCallerRefusesAPart(t *testing.T) {
	other := robot
	other.Username = "other"
	for name, tt := range map[string]struct {
		open content.Repo
		want error
	}{
		"the same":           {robotRepo(), content.ErrRateLimited},
		"another host":       {content.Repo{Ref: reference.MustParse("other.example/app:v1"), Cred: robot}, nil},
		"another repository": {content.Repo{Ref: reference.MustParse("reg.example/other:v1"), Cred: robot}, nil},
		"another credential": {content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: other}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				host := &limitedHost{status: 429, header: "1"}
				c := newClient(t, registry.Config{WrapTransport: instead(newWorld(map[string]http.HandlerFunc{"https://reg.example": host.ServeHTTP, "https://other.example": host.ServeHTTP}))})
				open, err := c.Blob(t.Context(), tt.open, limitedBlob(), 0, -1)
				require.NoError(t, err)
				host.times = 1
				part, err := c.Blob(t.Context(), robotRepo(), limitedBlob(), 100, 400)
				require.ErrorIs(t, err, tt.want)
				if err == nil {
					require.NoError(t, part.Close())
				}
				require.NoError(t, open.Close())
			})
		})
	}
}

// Two parts that are refused while they are being opened both wait, because neither of them
// is open.
func TestPartsThatAreOpenedTogetherWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &limitedHost{status: 429, header: "1", times: 2}
		c := newClient(t, registry.Config{WrapTransport: instead(newWorld(map[string]http.HandlerFunc{"https://reg.example": host.ServeHTTP}))})
		var wg sync.WaitGroup
		for i := range 2 {
			wg.Go(func() {
				body, err := c.Blob(t.Context(), robotRepo(), limitedBlob(), int64(i)*400, 400)
				if assert.NoError(t, err) {
					assert.NoError(t, body.Close())
				}
			})
		}
		wg.Wait()
		assert.Equal(t, 4, host.requests)
	})
}

// Of two parts whose connections are cut, and whose rest is refused at the same time, one
// fails and the other one waits.
func TestOneOfTwoPartsThatAreCutWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blob := make([]byte, 1000)
		requests := 0
		var mu sync.Mutex
		c := newClient(t, registry.Config{WrapTransport: instead(roundTripper(func(req *http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			switch requests++; requests {
			case 1, 2:
				resp, err := drip(blob, 100, 0, -1)(req)
				resp.Body = io.NopCloser(io.LimitReader(resp.Body, 100))
				return resp, err
			case 3, 4:
				return code(429, "Retry-After", "1")(req)
			}
			return drip(blob, 100, 0, -1)(req)
		}))})
		var bodies [2]content.Body
		for i := range bodies {
			body, err := c.Blob(t.Context(), robotRepo(), limitedBlob(), int64(i)*400, 400)
			require.NoError(t, err)
			bodies[i] = body
		}
		var errs [2]error
		var wg sync.WaitGroup
		for i, body := range bodies {
			wg.Go(func() { _, errs[i] = io.ReadAll(body) })
		}
		wg.Wait()
		assert.True(t, (errs[0] == nil) != (errs[1] == nil), "%v", errs)
		for i := range bodies {
			require.NoError(t, bodies[i].Close())
		}
	})
}

// A part comes from the first host that does not limit requests. Only the host that limits
// requests is not asked for it.
func TestALimitOfOneHostRefusesNoPartOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mirror, server := &limitedHost{}, &limitedHost{}
		c := newClient(t, registry.Config{WrapTransport: instead(newWorld(map[string]http.HandlerFunc{"https://m.example": mirror.ServeHTTP, "https://reg.example": server.ServeHTTP})),
			Registries: map[string]registry.Hosts{"reg.example": {Mirrors: []registry.Host{{URL: "https://m.example"}}}}})
		part := func() {
			t.Helper()
			body, err := c.Blob(t.Context(), robotRepo(), limitedBlob(), 100, 100)
			require.NoError(t, err)
			require.NoError(t, body.Close())
		}
		open, err := c.Blob(t.Context(), robotRepo(), limitedBlob(), 0, -1)
		require.NoError(t, err)
		mirror.status, mirror.times = 429, 1
		part()
		assert.Equal(t, 2, mirror.requests)
		assert.Equal(t, 1, server.requests)
		time.Sleep(31 * time.Second) // the mirror is not left out any more
		part()
		assert.Equal(t, 2, mirror.requests, "it limits requests, and a body from it is open")
		assert.Equal(t, 2, server.requests)
		require.NoError(t, open.Close())
		part()
		assert.Equal(t, 3, mirror.requests)
	})
}

// However many calls wait for a limit, no two of them try again at the same moment.
func TestCallsBehindALimitTryAgainApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var mu sync.Mutex
		at := map[time.Duration]int{}
		c := newClient(t, registry.Config{Retries: 1, WrapTransport: instead(newWorld(map[string]http.HandlerFunc{"https://reg.example": func(w http.ResponseWriter, _ *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			at[time.Since(began)]++
			w.WriteHeader(429)
		}}))})
		var wg sync.WaitGroup
		for range 60 {
			wg.Go(func() {
				_, err := c.Manifest(t.Context(), robotRepo(), "")
				assert.ErrorIs(t, err, content.ErrRateLimited)
			})
		}
		wg.Wait()
		assert.Len(t, at, 1+60, "each at its own time")
		assert.LessOrEqual(t, time.Since(began), 31*time.Second)
	})
}

// A call gives its turn back when its context ends, and when it may not wait so long. The
// next call waits as if it were the only one.
func TestTurnsOfEndedCallsAreGivenBack(t *testing.T) {
	for name, tt := range map[string]struct{ timeout, maxWait time.Duration }{
		"the contexts end":       {time.Millisecond, time.Minute},
		"the waits are too long": {time.Hour, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				host := &limitedHost{status: 429, times: -1}
				w := instead(newWorld(map[string]http.HandlerFunc{"https://reg.example": host.ServeHTTP}))
				c := newClient(t, registry.Config{WrapTransport: w, MaxWait: tt.maxWait, Retries: 1})
				var wg sync.WaitGroup
				for range 10 {
					wg.Go(func() {
						ctx, cancel := context.WithTimeout(t.Context(), tt.timeout)
						defer cancel()
						_, err := c.Blob(ctx, robotRepo(), limitedBlob(), 0, -1)
						assert.Error(t, err)
					})
				}
				wg.Wait()
				began := time.Now()
				host.times = 1
				body, err := c.Blob(t.Context(), robotRepo(), limitedBlob(), 0, -1)
				require.NoError(t, err)
				require.NoError(t, body.Close())
				assert.GreaterOrEqual(t, time.Since(began), 3*time.Second)
				assert.LessOrEqual(t, time.Since(began), 4500*time.Millisecond)
			})
		})
	}
}

// A server that orders a wait of 0 seconds orders a wait: the next try follows after the
// Client's own delay, and not after the longer one for a 429 without Retry-After.
func TestARetryAfterOfZeroIsAShortWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &limitedHost{status: 429, header: "0", times: 1}
		c := newClient(t, registry.Config{WrapTransport: instead(newWorld(map[string]http.HandlerFunc{"https://reg.example": host.ServeHTTP}))})
		began := time.Now()
		body, err := c.Blob(t.Context(), robotRepo(), limitedBlob(), 0, -1)
		require.NoError(t, err)
		require.NoError(t, body.Close())
		assert.NotZero(t, time.Since(began))
		assert.LessOrEqual(t, time.Since(began), time.Second)
	})
}
