package registry

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/expiring"
	"github.com/pullkit/pullkit/internal/redact"
)

// A Client reads registries over the OCI distribution API. It is a
// content.Source. The zero Client is ready for use; its fields must not be
// changed after the first call, nor the Client be copied. Its methods may be
// called concurrently, and one Client for the whole program is best:
// connections, tokens and what it learned of mirrors are its own.
type Client struct {
	// PlainHTTP lists hosts that are asked over http, as they are written in image names
	// ("10.0.0.5:5000"). A leading "http://" and a slash at the end are ignored. All
	// others are asked over https. A registry on loopback that is not listed is asked
	// over http only if it answers a TLS handshake with something else than TLS, and
	// never through a proxy or the caller's own Transport.
	//
	// A registry on https may also redirect blobs to a listed host over http:
	// object storage without TLS behind a registry that has it. The bytes are
	// verified by digest as always, and no credential goes there.
	PlainHTTP []string
	// MaxWait is how long one call waits, since the last byte it got, because
	// registries ask for it (Retry-After). Longer waits are returned in
	// content.Error.RetryAfter. Waits of one blob that come to more than MaxWait in
	// all count as slowness of the registry; see Stall. Zero means 60 seconds,
	// negative never.
	MaxWait time.Duration
	// Stall is how long an answer, or the next byte of one, may take to come
	// before the request is cut and made again. A token may take twice that,
	// with all its tries.
	//
	// A blob must bring 1 KiB/s over twice that time. An answer that brings less is
	// cut, and a host that is too slow twice in a row is given up. What counts is the
	// time that the caller waits in Blob and Read, with connecting, tokens and tries
	// again; not what the host orders to wait, up to MaxWait in all, and not what
	// the caller does between its reads, up to an hour in all.
	//
	// Connecting is one part of the wait for an answer: a name with several
	// addresses is tried at the next one within it. Zero means 15 seconds.
	Stall time.Duration
	// Reconnects is how many tries in a row may bring nothing new before a host
	// is given up. Zero means 3, negative none.
	Reconnects int

	// Hosts says where the images of a registry are asked for, by the
	// registry's name ("docker.io").
	Hosts map[string]Hosts
	// CertsDir is a directory in the form of containerd's certs.d, or a list of
	// such directories as containerd 2.2 has it
	// ("/etc/containerd/certs.d:/etc/docker/certs.d"), for registries that Hosts
	// does not name; see ReadHosts. "" means none. Directories of a list may be
	// missing; if none of them exists, calls fail with content.ErrConfig. The
	// files of a registry are read again after half a minute. A call waits for
	// that as long as its context and Stall allow.
	CertsDir string
	// Mirrors holds the mirrors' own credentials, looked up by image names with
	// the mirror's host and path. The one that opened a repository is used for a
	// minute without another look-up. A registry's credential is never sent to
	// its mirrors. Nil means none.
	Mirrors credentials.Keyring

	// RootCAs are the authorities trusted for https; nil means the system's.
	RootCAs *x509.CertPool
	// AllowRealm says that credentials for a registry may go to a token server
	// that is neither the registry's own origin nor https for an https
	// registry, and that the token server may have a private address. Nil means
	// none may.
	AllowRealm func(registry string, realm *url.URL) bool
	// AllowAddr says that redirects and realms from a registry on a public
	// address may lead to a loopback or private address. Link-local addresses
	// are never dialled. Nil means none may.
	AllowAddr func(registry string, addr netip.Addr) bool
	// DialContext makes connections; nil means a net.Dialer. Addresses are
	// checked either way.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// Proxy chooses a proxy; nil means http.ProxyFromEnvironment.
	Proxy func(*http.Request) (*url.URL, error)
	// Transport replaces the Client's own transports, and with them RootCAs,
	// Proxy, DialContext, what Hosts says of TLS, and the check of the
	// addresses that names resolve to. It must not follow redirects. Nil means
	// the Client's own.
	Transport http.RoundTripper
	// UserAgent is sent with each request; "" means "pullkit".
	UserAgent string
	// Logger gets each request (debug), what goes wrong (info), and the warnings
	// that servers send in Warning headers (warn), at most ten an hour for each
	// host and each text once. Nil means silent.
	Logger *slog.Logger

	hosts    hostCache
	auth     authMemory
	bad      expiring.Map[badContent, struct{}] // which host gave wrong bytes for what
	warnings warnings
	once     sync.Once
	log      *slog.Logger
}

// The defaults of a Client's zero fields.
const (
	defaultMaxWait    = time.Minute
	defaultStall      = 15 * time.Second
	defaultReconnects = 3
	defaultUserAgent  = "pullkit"
)

func (c *Client) maxWait() time.Duration {
	if c.MaxWait == 0 {
		return defaultMaxWait
	}
	return c.MaxWait
}

func (c *Client) stall() time.Duration {
	if c.Stall <= 0 {
		return defaultStall
	}
	return c.Stall
}

func (c *Client) reconnects() int {
	if c.Reconnects == 0 {
		return defaultReconnects
	}
	return max(c.Reconnects, 0)
}

// patience is what the Client's settings allow one call.
func (c *Client) patience() patience {
	return patience{retries: c.reconnects(), maxWait: c.maxWait()}
}

func (c *Client) userAgent() string {
	if c.UserAgent == "" {
		return defaultUserAgent
	}
	return c.UserAgent
}

func (c *Client) logger() *slog.Logger {
	c.once.Do(func() {
		if c.log = c.Logger; c.log == nil {
			c.log = slog.New(slog.DiscardHandler)
		}
	})
	return c.log
}

// CloseIdleConnections closes connections that are kept for later requests.
// Calls under way go on.
func (c *Client) CloseIdleConnections() {
	c.hosts.closeIdle()
}

// Mask implements content.Masker: it masks cred and the tokens that the Client got for it.
func (c *Client) Mask(cred credentials.Credential, text string) string {
	secrets := secretsOf(cred)
	for key, r := range c.auth.repositories.All() {
		if key.cred.Same(cred) {
			secrets = append(secrets, r.token)
		}
	}
	return redact.Secrets(text, secrets...)
}
