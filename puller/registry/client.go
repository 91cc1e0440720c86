package registry

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/expiring"
	"github.com/pullkit/pullkit/internal/redact"
)

// A Config has the settings of a Client. The zero Config works for any registry on https.
type Config struct {
	// PlainHTTP lists hosts that are asked over http, as they are written in image names
	// ("10.0.0.5:5000"). A leading "http://" and a slash at the end are ignored. All
	// others are asked over https. A registry on loopback that is not listed is asked
	// over http only if it answers a TLS handshake with something else than TLS, and
	// never through a proxy.
	//
	// A registry on https may also redirect blobs to a listed host over http: object
	// storage without TLS behind a registry that has it. The bytes are verified by digest
	// as always, and no credential goes there.
	PlainHTTP []string

	// Registries has the hosts that are asked for the images of a registry, by the
	// registry's name ("docker.io").
	Registries map[string]Hosts
	// CertsDir is a directory in the form of containerd's certs.d, or a list of such
	// directories as containerd 2.2 has it ("/etc/containerd/certs.d:/etc/docker/certs.d"),
	// for registries that Registries does not name; see ReadHosts. "" means none.
	// Directories of a list may be missing; if none of them exists, calls fail with
	// content.ErrConfig. The files of a registry are read again after half a minute. A
	// call waits for that as long as its context and StallTimeout allow.
	CertsDir string
	// MirrorKeyring has the mirrors' own credentials. It is asked with the image's name at
	// the mirror: the mirror's host and path. The credential that opened a repository is
	// used for a minute without another look-up. A registry's credential is never sent to
	// its mirrors. Nil means none.
	MirrorKeyring credentials.Keyring

	// Retries is how many further tries in a row may bring nothing new before a host is
	// given up. Zero means 3, negative none.
	Retries int
	// MaxWait is how long one call waits, since the last byte that it got, because
	// registries order that (Retry-After). Longer waits are returned in
	// content.Error.RetryAfter. The waits of one blob that are longer than MaxWait in all
	// count as slowness of the registry; see StallTimeout. Zero means 60 seconds, negative
	// never.
	MaxWait time.Duration
	// StallTimeout is how long an answer, or the next byte of one, may take to come before
	// the request is cut and made again. A token may take twice that, with all its tries.
	// Zero means 15 seconds.
	//
	// A blob must bring 1 KiB/s over twice that time. An answer that brings less is cut,
	// and a host that is too slow twice in a row is given up. What counts is the time that
	// the caller waits in Blob and Read, with connecting, tokens and tries again. The waits
	// that the host orders do not count, up to MaxWait in all, and what the caller does
	// between its reads does not, up to an hour in all.
	//
	// Connecting is a part of the wait for an answer: if a name has several addresses, the
	// next one is tried within it.
	StallTimeout time.Duration

	// RootCAs are the authorities trusted for https; nil means the system's.
	RootCAs *x509.CertPool
	// AllowRealm says that credentials for a registry may go to a token server that is
	// neither the registry's own origin nor https for an https registry, and that the
	// token server may have a private address. Nil means none may.
	AllowRealm func(registry string, realm *url.URL) bool
	// AllowAddr says that redirects and realms from a registry on a public address may
	// lead to a loopback or private address. Link-local addresses are never dialled. Nil
	// means none may.
	AllowAddr func(registry string, addr netip.Addr) bool
	// DialContext makes connections; nil means a net.Dialer. Addresses are checked either
	// way.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// Proxy chooses a proxy; nil means http.ProxyFromEnvironment.
	Proxy func(*http.Request) (*url.URL, error)
	// WrapTransport returns a transport that sends requests through base, for example to
	// trace them. It must not follow redirects, and must keep the context of a request.
	// base has the settings for TLS, the proxy and the check of addresses, so that a
	// transport that does not use base does without them. Nil means base itself.
	WrapTransport func(base http.RoundTripper) http.RoundTripper
	// UserAgent is sent with each request; "" means "pullkit".
	UserAgent string
	// Logger gets each request (debug), what goes wrong (info), and the warnings that
	// servers send in Warning headers (warn), at most ten an hour for each host and each
	// text once. Nil means silent.
	Logger *slog.Logger
}

// The defaults of a Config's zero fields.
const (
	defaultRetries      = 3
	defaultMaxWait      = time.Minute
	defaultStallTimeout = 15 * time.Second
	defaultUserAgent    = "pullkit"
)

// withDefaults replaces zero fields, and returns the first mistake.
func (cfg Config) withDefaults() (Config, error) {
	cfg.PlainHTTP = slices.Clone(cfg.PlainHTTP)
	for i, h := range cfg.PlainHTTP {
		host := h
		if rest, ok := cutPrefixFold(h, "http://"); ok {
			host = rest
		}
		host = strings.TrimRight(host, "/")
		if u, err := url.Parse("http://" + host); err != nil || host == "" || u.Host != host || u.Hostname() == "" {
			return cfg, fmt.Errorf("PlainHTTP has %.200q, which is not a host[:port]", h)
		}
		cfg.PlainHTTP[i] = host
	}
	cfg.Registries = maps.Clone(cfg.Registries)
	if cfg.Retries == 0 {
		cfg.Retries = defaultRetries
	}
	if cfg.MaxWait == 0 {
		cfg.MaxWait = defaultMaxWait
	}
	switch {
	case cfg.StallTimeout < 0:
		return cfg, fmt.Errorf("StallTimeout is %v, which is negative", cfg.StallTimeout)
	case cfg.StallTimeout == 0:
		cfg.StallTimeout = defaultStallTimeout
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = defaultUserAgent
	}
	if !fieldValue(cfg.UserAgent) {
		return cfg, errors.New("UserAgent has characters that no header can carry")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg, nil
}

func cutPrefixFold(s, prefix string) (rest string, ok bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// A Client reads registries over the OCI distribution API. It is a content.Source and a
// content.Resolver. Its methods may be called concurrently. One Client for the whole
// program is best, because each has its own connections and tokens, and learns about
// mirrors by itself.
type Client struct {
	cfg Config

	hosts    hostCache
	auth     authMemory
	bad      expiring.Map[badContent, struct{}] // which host gave wrong bytes for what
	warnings warnings
}

// New makes a Client. The error names the first mistake in cfg. Files and directories are
// not looked at before a registry is asked.
func New(cfg Config) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	c := &Client{cfg: cfg}
	c.hosts.readers = make(chan struct{}, maxReaders)
	c.warnings.hosts.Max = maxWarningHosts
	for _, registry := range slices.Sorted(maps.Keys(cfg.Registries)) {
		if _, err := c.newEndpoints(registry, cfg.Registries[registry]); err != nil {
			return nil, fmt.Errorf("registry: Registries[%.200q]: %w", registry, err)
		}
	}
	return c, nil
}

// patience is what the settings allow one call.
func (c *Client) patience() patience {
	return patience{retries: c.cfg.Retries, maxWait: c.cfg.MaxWait}
}

// mask masks cred and the tokens that the Client got for it.
func (c *Client) mask(cred credentials.Credential, text string) string {
	secrets := secretsOf(cred)
	for key, r := range c.auth.repositories.All() {
		if key.cred.Same(cred) {
			secrets = append(secrets, r.token)
		}
	}
	return redact.Secrets(text, secrets...)
}

// CloseIdleConnections closes connections that are kept for later requests. Calls under
// way go on.
func (c *Client) CloseIdleConnections() {
	c.hosts.closeIdle()
}
