package registry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/reference"
)

// A timed is a transport that records the time of each request. Each request is answered
// by the next step, and all requests after the last step by that step.
type timed struct {
	steps []func(*http.Request) (*http.Response, error)
	at    []time.Time
}

func (tr *timed) RoundTrip(req *http.Request) (*http.Response, error) {
	tr.at = append(tr.at, time.Now())
	step := tr.steps[min(len(tr.at), len(tr.steps))-1]
	return step(req)
}

// gaps returns the times between the requests.
func (tr *timed) gaps() []time.Duration {
	var gaps []time.Duration
	for i := 1; i < len(tr.at); i++ {
		gaps = append(gaps, tr.at[i].Sub(tr.at[i-1]))
	}
	return gaps
}

func never(req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

func broken(*http.Request) (*http.Response, error) {
	return nil, errors.New("connection reset by peer")
}

func code(status int, header ...string) func(*http.Request) (*http.Response, error) {
	return func(req *http.Request) (*http.Response, error) {
		h := http.Header{}
		for i := 0; i < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		return &http.Response{StatusCode: status, Header: h, Body: http.NoBody, Request: req}, nil
	}
}

// drip answers with the requested part of the blob, n bytes at a time. It waits for the
// time every before each n bytes, and stalls at byte stall unless stall is negative.
func drip(blob []byte, n int, every time.Duration, stall int) func(*http.Request) (*http.Response, error) {
	return func(req *http.Request) (*http.Response, error) {
		resp := &http.Response{StatusCode: 200, Header: http.Header{}, Request: req}
		off := 0
		if r := req.Header.Get("Range"); r != "" {
			first, _, _ := strings.Cut(strings.TrimPrefix(r, "bytes="), "-")
			off, _ = strconv.Atoi(first)
			resp.StatusCode = 206
			resp.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", off, len(blob)-1, len(blob)))
		}
		resp.ContentLength = int64(len(blob) - off)
		resp.Body = &dripBody{ctx: req.Context(), blob: blob, off: off, n: n, every: every, stall: stall}
		return resp, nil
	}
}

type dripBody struct {
	ctx           context.Context
	blob          []byte
	off, n, stall int
	every         time.Duration
}

func (b *dripBody) Read(p []byte) (int, error) {
	if b.off == len(b.blob) {
		return 0, io.EOF
	}
	wait := b.every
	if b.off == b.stall {
		wait = time.Hour
	}
	select {
	case <-time.After(wait):
	case <-b.ctx.Done():
		return 0, b.ctx.Err()
	}
	n := copy(p[:min(b.n, len(p))], b.blob[b.off:])
	b.off += n
	return n, nil
}

func (b *dripBody) Close() error { return nil }

func blobRead(t *testing.T, c *registry.Client, blob []byte) ([]byte, error) {
	desc := helloBlob()
	desc.Size = int64(len(blob))
	return read(t.Context(), c, content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: noCredential}, desc)
}

func TestAFaultThatMayPassIsTriedAgain(t *testing.T) {
	ok := drip([]byte(hello), 5, 0, -1)
	for _, tt := range []struct {
		name     string
		steps    []func(*http.Request) (*http.Response, error)
		requests int
		want     content.Reason
	}{
		{"reset for ever", []func(*http.Request) (*http.Response, error){broken}, 4, content.ErrNetwork},
		{"500 for ever", []func(*http.Request) (*http.Response, error){code(500)}, 4, content.ErrUnavailable},
		{"408 once", []func(*http.Request) (*http.Response, error){code(408), ok}, 2, ""},
		{"503 twice", []func(*http.Request) (*http.Response, error){code(503), code(503), ok}, 3, ""},
		{"429 without a time", []func(*http.Request) (*http.Response, error){code(429), ok}, 2, ""},
		{"429 for ever", []func(*http.Request) (*http.Response, error){code(429)}, 4, content.ErrRateLimited},
		{"404", []func(*http.Request) (*http.Response, error){code(404)}, 1, content.ErrNotFound},
		{"403", []func(*http.Request) (*http.Response, error){code(403)}, 1, content.ErrDenied},
		{"403 with the code of a limit", []func(*http.Request) (*http.Response, error){raw(403, 45, io.EOF, `{"errors":[{"code":"TOOMANYREQUESTS"}]}     `)}, 4, content.ErrRateLimited},
		{"401", []func(*http.Request) (*http.Response, error){code(401)}, 1, content.ErrUnauthorized},
		{"400", []func(*http.Request) (*http.Response, error){code(400)}, 1, content.ErrStatus},
		{"301 without Location", []func(*http.Request) (*http.Response, error){code(301)}, 1, content.ErrRedirect},
		{"reset, 500, 429, then good", []func(*http.Request) (*http.Response, error){broken, code(500), code(429), ok}, 4, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := &timed{steps: tt.steps}
				data, err := blobRead(t, newClient(t, registry.Config{WrapTransport: instead(tr)}), []byte(hello))
				assert.Equal(t, tt.want, content.ReasonOf(err), "%v", err)
				if tt.want == "" {
					assert.Equal(t, hello, string(data))
				}
				assert.Len(t, tr.at, tt.requests)
				for i, gap := range tr.gaps() {
					least, most := 250*time.Millisecond<<i, 750*time.Millisecond<<i
					if resp, _ := tt.steps[min(i, len(tt.steps)-1)](&http.Request{}); resp != nil && (resp.StatusCode == 429 || resp.StatusCode == 403) {
						least, most = 3*time.Second<<i, 4500*time.Millisecond<<i
					}
					assert.GreaterOrEqual(t, gap, least)
					assert.LessOrEqual(t, gap, most)
				}
			})
		})
	}
}

// The Client's own delay grows to 32 seconds, times a random factor from 0.5 to 1.5.
func TestTheDelayGrowsTo32Seconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := &timed{steps: []func(*http.Request) (*http.Response, error){broken}}
		_, err := blobRead(t, newClient(t, registry.Config{WrapTransport: instead(tr), Retries: 12}), []byte(hello))
		assert.ErrorIs(t, err, content.ErrNetwork)
		gaps := tr.gaps()
		require.Len(t, gaps, 12)
		for i, gap := range gaps {
			delay := 500 * time.Millisecond << min(i, 6)
			assert.GreaterOrEqual(t, gap, delay/2, "delay %d", i)
			assert.LessOrEqual(t, gap, delay*3/2, "delay %d", i)
		}
	})
}

// A name that does not exist is not looked up again. A name is looked up again if the
// resolver failed. The error has advice if the first part of the name was taken for a
// registry because of an upper-case letter.
func TestANameThatDoesNotExistIsLookedUpOnce(t *testing.T) {
	missing := net.DNSError{Err: "no such host", IsNotFound: true}
	const advice = "; %q was taken for a registry because of its upper-case letter; if it is not one, write the name in lower case"
	for _, tt := range []struct {
		image  string
		fault  net.DNSError
		dials  int
		advice string
	}{
		{"reg.example/app", missing, 1, ""},
		{"REG.example/app", missing, 1, ""},
		{"Reg:5000/app", missing, 1, ""},
		{"Localhost/app", missing, 1, ""},
		{"Library/ubuntu", missing, 1, fmt.Sprintf(advice, "Library")},
		{"Library/ubuntu", net.DNSError{Err: "server misbehaving", IsTemporary: true}, 4, fmt.Sprintf(advice, "Library")},
		{"reg.example/app", net.DNSError{Err: "server misbehaving", IsTemporary: true}, 4, ""},
		{"reg.example/app", net.DNSError{Err: "i/o timeout", IsTimeout: true, IsTemporary: true}, 4, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			dials := 0
			c := newClient(t, registry.Config{PlainHTTP: []string{"localhost"}, DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
				dials++
				fault := tt.fault
				fault.Name, _, _ = net.SplitHostPort(addr)
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &fault}
			}})
			ref := reference.MustParse(tt.image)
			host := strings.ToLower(ref.Registry())
			name, _, _ := strings.Cut(host, ":")
			_, err := c.Manifest(t.Context(), content.Repo{Ref: ref, Cred: noCredential}, "")
			assert.ErrorIs(t, err, content.ErrNetwork)
			assert.EqualError(t, err, fmt.Sprintf("%s: network failure: dial tcp: lookup %s: %s", host, name, tt.fault.Err)+tt.advice)
			assert.Equal(t, tt.dials, dials, "%v", err)
			_, err = read(t.Context(), c, content.Repo{Ref: ref, Cred: noCredential}, helloBlob())
			assert.ErrorIs(t, err, content.ErrNetwork)
			assert.Equal(t, 2*tt.dials, dials, "%v", err)
		})
	}
}

// The first requests of 20 clients fail at the same time. They make their second requests
// at 20 different times.
func TestClientsThatFailTogetherTryAgainApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gaps []time.Duration
		for range 20 {
			tr := &timed{steps: []func(*http.Request) (*http.Response, error){broken, code(404)}}
			_, err := blobRead(t, newClient(t, registry.Config{WrapTransport: instead(tr)}), []byte(hello))
			require.Error(t, err)
			gaps = append(gaps, tr.gaps()[0])
		}
		slices.Sort(gaps)
		assert.Len(t, slices.Compact(gaps), 20)
		assert.Greater(t, gaps[len(gaps)-1]-gaps[0], 100*time.Millisecond)
	})
}

func TestRetryAfterIsKeptUpToMaxWait(t *testing.T) {
	ok := drip([]byte(hello), 5, 0, -1)
	for _, tt := range []struct {
		name    string
		maxWait time.Duration
		steps   []func(*http.Request) (*http.Response, error)
		waited  time.Duration
		want    content.Reason
		after   time.Duration
	}{
		{"shorter than the default", 0, []func(*http.Request) (*http.Response, error){code(429, "Retry-After", "59"), ok}, 59 * time.Second, "", 0},
		{"longer than the default", 0, []func(*http.Request) (*http.Response, error){code(429, "Retry-After", "61"), ok}, 0, content.ErrRateLimited, 61 * time.Second},
		{"longer than allowed", time.Second, []func(*http.Request) (*http.Response, error){code(503, "Retry-After", "2"), ok}, 0, content.ErrUnavailable, 2 * time.Second},
		{"never", -1, []func(*http.Request) (*http.Response, error){code(429, "Retry-After", "1"), ok}, 0, content.ErrRateLimited, time.Second},
		{"longer than the default in all", 0, []func(*http.Request) (*http.Response, error){code(429, "Retry-After", "40")}, 40 * time.Second, content.ErrRateLimited, 40 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				_, err := blobRead(t, newClient(t, registry.Config{WrapTransport: instead(&timed{steps: tt.steps}), MaxWait: tt.maxWait}), []byte(hello))
				assert.Equal(t, tt.waited, time.Since(began))
				assert.Equal(t, tt.want, content.ReasonOf(err))
				var e *content.Error
				if errors.As(err, &e) {
					assert.Equal(t, tt.after, e.RetryAfter)
				}
			})
		})
	}
}

func TestAnAnswerThatStallsIsCutAndTriedAgain(t *testing.T) {
	blob := make([]byte, 100)
	for _, tt := range []struct {
		name  string
		steps []func(*http.Request) (*http.Response, error)
		want  content.Reason
		least time.Duration
	}{
		{"no header, once", []func(*http.Request) (*http.Response, error){never, drip(blob, 100, 0, -1)}, "", 15 * time.Second},
		{"no header, ever", []func(*http.Request) (*http.Response, error){never}, content.ErrTimeout, 60 * time.Second},
		{"in the body, once", []func(*http.Request) (*http.Response, error){drip(blob, 10, 0, 50), drip(blob, 10, 0, -1)}, "", 15 * time.Second},
		{"in the body, ever", []func(*http.Request) (*http.Response, error){drip(blob, 10, 0, 50)}, content.ErrTimeout, 60 * time.Second},
		{"14 seconds between bytes", []func(*http.Request) (*http.Response, error){drip(blob, 100, 14*time.Second, -1)}, "", 14 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				data, err := blobRead(t, newClient(t, registry.Config{WrapTransport: instead(&timed{steps: tt.steps})}), blob)
				assert.Equal(t, tt.want, content.ReasonOf(err), "%v", err)
				if tt.want == "" {
					assert.Equal(t, blob, data)
				}
				took := time.Since(began)
				assert.GreaterOrEqual(t, took, tt.least)
				assert.LessOrEqual(t, took, tt.least+8*time.Second)
			})
		})
	}
}

// An answer of less than 1 KiB a second over 30 seconds is cut. If that happens a second time
// in a row, the call fails.
func TestAnAnswerOfLessThan1KiBASecondIsCut(t *testing.T) {
	blob := make([]byte, 200<<10)
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		tr := &timed{steps: []func(*http.Request) (*http.Response, error){drip(blob, 10, 500*time.Millisecond, -1), drip(blob, 1<<20, 0, -1)}}
		data, err := blobRead(t, newClient(t, registry.Config{WrapTransport: instead(tr)}), blob)
		require.NoError(t, err)
		assert.Equal(t, blob, data)
		assert.Len(t, tr.at, 2)
		assert.InDelta(t, 30, time.Since(began).Seconds(), 1)
	})
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		tr := &timed{steps: []func(*http.Request) (*http.Response, error){drip(blob, 10, 500*time.Millisecond, -1)}}
		_, err := blobRead(t, newClient(t, registry.Config{WrapTransport: instead(tr)}), blob)
		assert.ErrorIs(t, err, content.ErrTimeout)
		assert.Len(t, tr.at, 2)
		assert.InDelta(t, 60, time.Since(began).Seconds(), 1)
	})
	synctest.Test(t, func(t *testing.T) {
		// Each answer has one byte, which is progress, but too slow.
		tr := &timed{}
		tr.steps = []func(*http.Request) (*http.Response, error){func(req *http.Request) (*http.Response, error) {
			resp, err := drip(blob, 1, 500*time.Millisecond, -1)(req)
			resp.Body = io.NopCloser(io.LimitReader(resp.Body, 1))
			return resp, err
		}}
		_, err := blobRead(t, newClient(t, registry.Config{WrapTransport: instead(tr)}), blob)
		assert.ErrorIs(t, err, content.ErrTimeout)
	})
	synctest.Test(t, func(t *testing.T) {
		// This answer takes minutes, but it is fast enough.
		tr := &timed{steps: []func(*http.Request) (*http.Response, error){drip(blob, 1500, time.Second, -1)}}
		_, err := blobRead(t, newClient(t, registry.Config{WrapTransport: instead(tr)}), blob)
		assert.NoError(t, err)
		assert.Len(t, tr.at, 1)
	})
}

// The same limit holds for a manifest.
func TestASlowManifestIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		tr := &timed{steps: []func(*http.Request) (*http.Response, error){drip(make([]byte, 1<<20), 10, 10*time.Second, -1)}}
		c := newClient(t, registry.Config{WrapTransport: instead(tr)})
		_, err := c.Manifest(t.Context(), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: noCredential}, "")
		assert.ErrorIs(t, err, content.ErrTimeout)
		assert.Len(t, tr.at, 4)
		assert.Less(t, time.Since(began), 3*time.Minute)
	})
}

// The caller pauses for a minute after each read.
func TestAPauseOfTheCallerIsNotAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blob := make([]byte, 100)
		tr := &timed{steps: []func(*http.Request) (*http.Response, error){drip(blob, 10, 0, -1)}}
		desc := helloBlob()
		desc.Size = 100
		body, err := newClient(t, registry.Config{WrapTransport: instead(tr)}).Blob(t.Context(), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: noCredential}, desc, 0, -1)
		require.NoError(t, err)
		for range 10 {
			n, err := body.Read(make([]byte, 10))
			assert.Equal(t, 10, n)
			assert.NoError(t, err)
			time.Sleep(time.Minute)
		}
		assert.NoError(t, body.Close())
		assert.Len(t, tr.at, 1)
	})
}

// All requests for one token together may take twice the stall time.
func TestATokenHasTwiceTheStallTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := &timed{steps: []func(*http.Request) (*http.Response, error){code(401, "WWW-Authenticate", `Bearer realm="https://reg.example/t"`), never}}
		began := time.Now()
		_, err := blobRead(t, newClient(t, registry.Config{WrapTransport: instead(tr)}), []byte(hello))
		assert.ErrorIs(t, err, content.ErrTimeout)
		assert.Equal(t, 30*time.Second, time.Since(began))
		assert.Len(t, tr.at, 3)
		synctest.Wait()
	})
}

// A token request is cut and made again, even if the server hangs after a redirect.
func TestATokenRequestThatHangsBehindARedirectIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries []time.Duration
		began := time.Now()
		w := newWorld(map[string]http.HandlerFunc{
			"https://r.example": signedIn(`Bearer realm="https://a.example/t"`, text(hello)),
			"https://a.example": redirectTo("https://a.example/moved"),
		})
		c := newClient(t, registry.Config{WrapTransport: instead(roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path != "/moved" {
				return w.RoundTrip(r)
			}
			if tries = append(tries, time.Since(began)); len(tries) == 1 {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			rec := httptest.NewRecorder()
			text(`{"token":"t"}`)(rec, r)
			return rec.Result(), nil
		}))})
		_, err := read(t.Context(), c, content.Repo{Ref: reference.MustParse("r.example/app:v1"), Cred: robot}, helloBlob())
		require.NoError(t, err)
		require.Len(t, tries, 2)
		assert.Less(t, tries[1], 16*time.Second)
	})
}

// A call ends with its context, in each of its waits.
func TestACallEndsWithItsContext(t *testing.T) {
	blob := make([]byte, 100)
	for name, steps := range map[string][]func(*http.Request) (*http.Response, error){
		"no header":       {never},
		"in the body":     {drip(blob, 10, 0, 50)},
		"in a delay":      {code(429, "Retry-After", "30")},
		"in a token":      {code(401, "WWW-Authenticate", `Bearer realm="https://reg.example/t"`), never},
		"after an error":  {broken},
		"between answers": {drip(blob, 10, 0, 50), never},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(100*time.Millisecond, func() { cancel(errors.New("no longer wanted")) })
			desc := helloBlob()
			desc.Size = 100
			began := time.Now()
			_, err := read(ctx, newClient(t, registry.Config{WrapTransport: instead(&timed{steps: steps})}), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: noCredential}, desc)
			assert.ErrorIs(t, err, context.Canceled, name)
			assert.Contains(t, err.Error(), "no longer wanted", name)
			assert.Empty(t, content.ReasonOf(err), name)
			assert.Equal(t, 100*time.Millisecond, time.Since(began), name)
		})
	}
}
