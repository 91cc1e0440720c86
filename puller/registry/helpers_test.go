package registry_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/puller/registry"
)

// A trace is a log handler that records the requests that a Client makes.
type trace struct {
	mu        sync.Mutex
	requests  []string // "GET manifest 200"
	protocols []string
	text      strings.Builder
}

func (tr *trace) logger() *slog.Logger { return slog.New(tr) }

func (tr *trace) Enabled(context.Context, slog.Level) bool { return true }
func (tr *trace) WithAttrs([]slog.Attr) slog.Handler       { return tr }
func (tr *trace) WithGroup(string) slog.Handler            { return tr }

func (tr *trace) Handle(_ context.Context, r slog.Record) error {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	attrs := map[string]string{}
	tr.text.WriteString(r.Message + " ")
	r.Attrs(func(a slog.Attr) bool {
		attrs[a.Key] = a.Value.String()
		tr.text.WriteString(a.String() + "\n")
		return true
	})
	if r.Message != "request" && r.Message != "request failed" {
		return nil
	}
	if p := attrs["protocol"]; p != "" && !slices.Contains(tr.protocols, p) {
		tr.protocols = append(tr.protocols, p)
	}
	tr.requests = append(tr.requests, strings.TrimSpace(attrs["method"]+" "+kindOfURL(attrs["url"])+" "+attrs["status"]))
	return nil
}

func kindOfURL(raw string) string {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return raw
	case strings.Contains(u.Path, "/manifests/"):
		return "manifest"
	case strings.Contains(u.Path, "/blobs/"):
		return "blob"
	case strings.HasPrefix(u.Path, "/token"):
		return "token"
	}
	return u.Path
}

// got returns the requests since the last call.
func (tr *trace) got() []string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	r := tr.requests
	tr.requests = nil
	return r
}

func (tr *trace) assert(t *testing.T, want ...string) {
	t.Helper()
	assert.Equal(t, want, tr.got())
}

// newClient makes a Client, and fails the test if the settings have a mistake.
func newClient(t testing.TB, cfg registry.Config) *registry.Client {
	t.Helper()
	c, err := registry.New(cfg)
	require.NoError(t, err)
	return c
}

// mustClient is newClient for code without a testing.TB.
func mustClient(cfg registry.Config) *registry.Client {
	c, err := registry.New(cfg)
	if err != nil {
		panic(err)
	}
	return c
}

// instead is a Config.WrapTransport that sends all requests to rt, without a network.
func instead(rt http.RoundTripper) func(http.RoundTripper) http.RoundTripper {
	return func(http.RoundTripper) http.RoundTripper { return rt }
}
