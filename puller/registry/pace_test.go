package registry_test

import (
	"fmt"
	"io"
	"net/http"
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

// hiding answers each request after some time with the next n bytes of the requested range,
// and then ends the answer.
func hiding(blob []byte, n int, after time.Duration) func(*http.Request) (*http.Response, error) {
	return func(req *http.Request) (*http.Response, error) {
		select {
		case <-time.After(after):
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
		resp, err := drip(blob, n, 0, -1)(req)
		resp.Body = io.NopCloser(io.LimitReader(resp.Body, int64(n)))
		return resp, err
	}
}

// A split is a transport that sends requests for m.example to the mirror, and all others
// to the registry.
type split struct{ mirror, registry *timed }

func (s split) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host == "m.example" {
		return s.mirror.RoundTrip(req)
	}
	return s.registry.RoundTrip(req)
}

type step = func(*http.Request) (*http.Response, error)

// The time before an answer begins counts, too. A registry that sends a few bytes in each
// answer is given up after two slow windows in a row, even if each single answer is
// quick. If a mirror does that, the registry is asked instead.
func TestTheTimeBeforeAnAnswerCountsAsSlowness(t *testing.T) {
	blob := []byte(strings.Repeat("0123456789", 1000))
	for _, n := range []int{1, 26, 40} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			tr := &timed{steps: []step{hiding(blob, n, 240*time.Millisecond)}}
			_, err := blobRead(t, newClient(t, registry.Config{WrapTransport: instead(tr), StallTimeout: 300 * time.Millisecond}), blob)
			assert.ErrorIs(t, err, content.ErrTimeout)
			assert.ErrorContains(t, err, "less than 1024 bytes a second")
			assert.InDelta(t, 1.3, time.Since(began).Seconds(), 0.4)
		})
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			tr := &timed{steps: []step{hiding(blob, n, 14*time.Second+900*time.Millisecond)}}
			_, err := blobRead(t, newClient(t, registry.Config{WrapTransport: instead(tr)}), blob)
			assert.ErrorIs(t, err, content.ErrTimeout)
			assert.InDelta(t, 75, time.Since(began).Seconds(), 16, "the default")
		})
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			s := split{&timed{steps: []step{hiding(blob, n, 240*time.Millisecond)}}, &timed{steps: []step{drip(blob, 1<<20, 0, -1)}}}
			c := newClient(t, registry.Config{WrapTransport: instead(s), StallTimeout: 300 * time.Millisecond, Registries: map[string]registry.Hosts{"reg.example": {Mirrors: []registry.Host{{URL: "https://m.example"}}}}})
			data, err := blobRead(t, c, blob)
			require.NoError(t, err)
			assert.Equal(t, blob, data)
			assert.Len(t, s.registry.at, 1)
			assert.InDelta(t, 1.3, time.Since(began).Seconds(), 0.4)
			asked := len(s.mirror.at)
			_, err = blobRead(t, c, blob)
			require.NoError(t, err)
			assert.Len(t, s.mirror.at, asked, "the mirror is left out for some time")
		})
	}
}

// The server asks for a new token before each answer. The time for the tokens counts,
// too.
func TestTheTimeForTokensCountsAsSlowness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blob := []byte(strings.Repeat("0123456789", 1000))
		began, tokens := time.Now(), 0
		tr := &timed{}
		tr.steps = []step{func(req *http.Request) (*http.Response, error) {
			switch {
			case req.URL.Path == "/t":
				time.Sleep(14 * time.Second)
				tokens++
				text := fmt.Sprintf(`{"token":"t%d"}`, tokens)
				return raw(200, int64(len(text)), io.EOF, text)(req)
			case req.Header.Get("Authorization") == fmt.Sprintf("Bearer t%d", tokens) && len(tr.at)%3 == 0:
				return hiding(blob, 40, 0)(req)
			}
			return code(401, "WWW-Authenticate", `Bearer realm="https://reg.example/t"`)(req)
		}}
		_, err := blobRead(t, newClient(t, registry.Config{WrapTransport: instead(tr)}), blob)
		assert.Error(t, err)
		assert.Less(t, time.Since(began), 2*time.Minute)
	})
}

// The waits that a server orders do not count as slowness, up to MaxWait in all.
func TestRetryAfterIsNotSlownessUpToMaxWait(t *testing.T) {
	dripping := func(blob []byte, wait string) *timed {
		tr := &timed{}
		tr.steps = []step{func(req *http.Request) (*http.Response, error) {
			if len(tr.at)%2 == 0 {
				return code(503, "Retry-After", wait)(req)
			}
			return hiding(blob, 1, 0)(req)
		}}
		return tr
	}
	synctest.Test(t, func(t *testing.T) {
		blob := []byte(strings.Repeat("x", 50))
		data, err := blobRead(t, newClient(t, registry.Config{WrapTransport: instead(dripping(blob, "1")), StallTimeout: time.Second}), blob)
		require.NoError(t, err, "it asks to wait 49 seconds in all")
		assert.Equal(t, blob, data)
	})
	for _, tt := range []struct {
		wait        string
		stall, max  time.Duration
		least, most time.Duration
	}{
		{"1", time.Second, 0, 60 * time.Second, 66 * time.Second},
		{"1", 0, 0, 2 * time.Minute, 130 * time.Second},
		{"50", 0, 0, 2 * time.Minute, 3 * time.Minute},
		{"1", time.Second, 10 * time.Second, 10 * time.Second, 16 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			blob := []byte(strings.Repeat("x", 10000))
			_, err := blobRead(t, newClient(t, registry.Config{WrapTransport: instead(dripping(blob, tt.wait)), StallTimeout: tt.stall, MaxWait: tt.max}), blob)
			assert.ErrorIs(t, err, content.ErrTimeout)
			assert.GreaterOrEqual(t, time.Since(began), tt.least)
			assert.LessOrEqual(t, time.Since(began), tt.most)
		})
	}
}

// A server that sends 1 KiB a second or more is not cut, even after slow tries.
func TestALinkOf1KiBASecondIsNotCut(t *testing.T) {
	blob := make([]byte, 200<<10)
	late := func(after time.Duration, then step) step {
		return func(req *http.Request) (*http.Response, error) {
			time.Sleep(after)
			return then(req)
		}
	}
	for name, tt := range map[string]struct {
		tries    int
		steps    []step
		requests int
	}{
		"1,100 bytes a second":           {0, []step{drip(blob, 1100, time.Second, -1)}, 1},
		"after two minutes of redirects": {0, []step{late(14*time.Second, code(307, "Location", "/a")), late(14*time.Second, code(307, "Location", "/b")), late(14*time.Second, drip(blob, 1500, time.Second, -1))}, 3},
		"after minutes of back-off": {12, []step{broken, broken, broken, broken, broken, broken, broken, broken, broken, broken, broken,
			drip(blob, 1500, time.Second, -1)}, 12},
		"minutes of back-off between": {12, []step{raw(200, int64(len(blob)), io.ErrUnexpectedEOF, string(blob[:1000])), broken, broken, broken, broken, broken, broken, broken, broken, broken,
			drip(blob, 1500, time.Second, -1)}, 11},
		"cut again and again": {0, []step{late(2*time.Second, func(req *http.Request) (*http.Response, error) {
			resp, err := drip(blob, 1500, time.Second, -1)(req)
			resp.Body = io.NopCloser(io.LimitReader(resp.Body, 15000))
			return resp, err
		})}, 14},
		"asked to wait before each part": {0, []step{
			raw(200, int64(len(blob)), io.ErrUnexpectedEOF, string(blob[:80<<10])), code(429, "Retry-After", "55"), hiding(blob, 80<<10, 0), code(429, "Retry-After", "55"), hiding(blob, 80<<10, 0)}, 5},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := &timed{steps: tt.steps}
				desc := helloBlob()
				desc.Size = int64(len(blob))
				body, err := newClient(t, registry.Config{WrapTransport: instead(tr), Retries: tt.tries}).Blob(t.Context(), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: noCredential}, desc, 0, -1)
				require.NoError(t, err)
				data := make([]byte, len(blob)) // one buffer for all, so that each read gets all bytes that have arrived
				_, err = io.ReadFull(body, data)
				require.NoError(t, err)
				assert.NoError(t, body.Close())
				assert.Equal(t, blob, data)
				assert.Len(t, tr.at, tt.requests)
			})
		})
	}
}

// The caller's own time between reads does not count as slowness of the server. A caller
// that reads more than 1 KiB a second may take a day. A caller that reads less may take
// an hour.
func TestTheCallersTimeIsNotSlowness(t *testing.T) {
	for _, tt := range []struct {
		size, each int
		pause      time.Duration
		ok         bool
	}{
		{100, 10, 5 * time.Minute, true},
		{1 << 20, 16, 0, true},
		{100 << 20, 64 << 10, time.Minute, true},    // 27 hours
		{10000, 10, time.Minute, false},             // 17 hours
		{10 << 20, 1 << 10, 2 * time.Second, false}, // half a KiB a second
	} {
		synctest.Test(t, func(t *testing.T) {
			blob := make([]byte, tt.size)
			tr := &timed{steps: []step{drip(blob, 1<<20, 0, -1)}}
			desc := helloBlob()
			desc.Size = int64(tt.size)
			body, err := newClient(t, registry.Config{WrapTransport: instead(tr)}).Blob(t.Context(), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: noCredential}, desc, 0, -1)
			require.NoError(t, err)
			began, got := time.Now(), 0
			for buf := make([]byte, tt.each); err == nil; {
				var n int
				n, err = body.Read(buf)
				got += n
				time.Sleep(tt.pause)
			}
			assert.NoError(t, body.Close())
			if tt.ok {
				assert.Equal(t, io.EOF, err)
				assert.Equal(t, tt.size, got)
				assert.Len(t, tr.at, 1)
				return
			}
			assert.ErrorIs(t, err, content.ErrTimeout)
			assert.Greater(t, time.Since(began), time.Hour)
			assert.Less(t, time.Since(began), time.Hour+5*time.Minute)
		})
	}
}
