package registry

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/reference"
)

var noCredential credentials.Credential

func mustRef(s string) reference.Reference { return reference.MustParse(s) }

// newClient makes a Client, and fails the test if the settings have a mistake.
func newClient(t testing.TB, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg)
	require.NoError(t, err)
	return c
}

// instead is a Config.WrapTransport that sends all requests to rt, without a network.
func instead(rt http.RoundTripper) func(http.RoundTripper) http.RoundTripper {
	return func(http.RoundTripper) http.RoundTripper { return rt }
}
