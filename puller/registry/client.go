package registry

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/expiring"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/reference"
)

// A Config has the settings of a Client. The zero Config works for any registry on https.
type Config struct {
	// PlainHTTP lists hosts that are asked over http, as they are written in image
	// names ("10.0.0.5:5000"). A leading "http://" and a slash at the end are ignored.
	// All other hosts are asked over https. A registry on loopback that is not listed
	// is asked over http only if it answers a TLS handshake with something else than
	// TLS, and never through a proxy.
	//
	// A registry on https may also redirect a blob to a listed host over http, for
	// object storage without TLS behind a registry with TLS. The bytes are verified by
	// digest as always, and the credential is not sent there.
	PlainHTTP []string

	// Registries has the hosts that are asked for the images of a registry, by the
	// registry's name ("docker.io").
	Registries map[string]Hosts
	// HostsReader reads the hosts of the registries that Registries does not name, such as
	// certsd.Dir("/etc/containerd/certs.d"). They are read again after half a minute. If it
	// returns an error, calls fail with content.ErrConfig. Nil means that only Registries
	// counts.
	HostsReader HostsReader
	// MirrorKeyring has the node's credentials for mirrors. It is asked with the image's
	// name at the mirror: the mirror's host and path. It is asked after the keyring of the
	// request, content.Repo.Mirrors. A credential that a mirror accepted for a repository
	// is used for a minute without another look-up, for requests whose keyring has the same
	// fingerprint. A registry's credential is never sent to its mirrors. A mirror for
	// which neither keyring has a credential is asked without one.
	MirrorKeyring credentials.Keyring
	// NoMirrorForPrivate asks only the registry itself in a call with a credential. So no
	// mirror decides who may use an image that a credential has opened. In a call without
	// a credential the mirrors are asked with MirrorKeyring, and not with the keyring of
	// the request. If the configuration names another server in place of the registry, a
	// call with a credential fails with content.ErrConfig.
	NoMirrorForPrivate bool

	// Find returns hosts that may have content of the given digest, such as other nodes,
	// the best one first. ref is the name of the image at its registry. Find is called for
	// each manifest that an index names and for each blob, for a blob that comes in parts
	// for each part, and the hosts are asked before the configured mirrors. Hosts that it
	// has not yielded within 250 ms, and those after the first 16, are not asked. Its
	// context ends then. As long as 64 calls of Find have not returned, it is not called
	// again and no host is found, so it must return when its context ends. A panic after
	// that is not raised. Find may be called concurrently.
	//
	// Found hosts give content by digest only, and decide nothing. They are asked only for
	// what a document names that the registry itself, or one of its configured mirrors, has
	// let this caller have, with the credential of the call; see content.Repo. A request to
	// a found host is anonymous: it has no Authorization, no challenge is answered, and no
	// redirect is followed. A Host whose Header has an Authorization or a cookie is not
	// asked. Its Certificates are shown to it if it asks for one.
	//
	// A found host that fails is left at once, and the next one goes on at the offset that
	// was reached. So is one that sends less than 64 KiB/s over twice StallTimeout. It is
	// then left out for half a minute, for five minutes if it was slow, or for ten minutes
	// if it sent something else than the content. A host that answers 404 is asked for other
	// content. A host that answers 429, or 503 with Retry-After, is busy: if no other found
	// host has the content, it is asked again before the mirrors and the registry, within
	// MaxWait, so that a busy fleet does not go on to its registry all together. Nil means
	// that no host is found.
	Find func(ctx context.Context, ref reference.Reference, d digest.Digest) iter.Seq[Host]
	// FindWithoutRegistry asks found hosts for a manifest or index that is named by digest,
	// too, if the registry is away: it cannot be reached, does not answer, or answers 502,
	// 503 or 504, and no mirror has it or has refused the caller. Nothing shows then
	// that the caller may have the image. The Opening of the document is Unconfirmed, and a
	// Puller grants nothing in its records because of such a pull.
	FindWithoutRegistry bool

	// Retries is how many further tries in a row may bring nothing new before a host is
	// given up. Zero means 3. A negative value means that no further try is made.
	Retries int
	// MaxWait is how long one call may wait because registries order it by Retry-After.
	// The time counts from the last byte that the call got. The Client does not make a
	// longer wait, and returns it in content.Error.RetryAfter. If the ordered waits of
	// one blob add up to more than MaxWait, the rest counts as slowness of the registry;
	// see StallTimeout. Zero means 60 seconds. A negative value means that the Client
	// does not wait for Retry-After.
	MaxWait time.Duration
	// StallTimeout is how long the Client waits for an answer, or for the next byte of
	// an answer, before it cuts the request and makes it again. All tries for a token
	// together may take twice that time. Zero means 15 seconds. A negative value is an
	// error of New.
	//
	// A blob must come with 1 KiB/s over twice that time. An answer that is slower is
	// cut, and a host that is too slow twice in a row is given up. All the time that the
	// caller waits in Blob and Read counts, including the time for connecting, for tokens
	// and for further tries. Two kinds of time do not count: the waits that the host
	// orders, up to MaxWait in all, and the caller's own time between its reads, up to an
	// hour in all.
	//
	// The time for connecting is part of the wait for an answer. If a name has several
	// addresses, the next address is tried within the same wait.
	StallTimeout time.Duration

	// RootCAs are the certificate authorities that are trusted for https. Nil means
	// those of the system.
	RootCAs *x509.CertPool
	// AllowRealm reports whether credentials for registry may go to the token server
	// realm. It is called for each token server at another origin than the registry's.
	// True also allows the token server to have a private address. Nil, or false, means
	// that only an https token server of an https registry is allowed.
	AllowRealm func(registry string, realm *url.URL) bool
	// AllowAddr reports whether a redirect or a realm from registry, which is on a
	// public address, may lead to the loopback, private or reserved address addr. Nil
	// means false. Link-local addresses are never dialled.
	AllowAddr func(registry string, addr netip.Addr) bool
	// DialContext makes connections. Nil means a net.Dialer. Addresses are checked in
	// both cases.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// Proxy returns the proxy for a request. Nil means http.ProxyFromEnvironment.
	Proxy func(*http.Request) (*url.URL, error)
	// WrapTransport returns a transport that sends requests through base, for example to
	// trace them. The transport must not follow redirects, and must keep the context of a
	// request. base has the settings for TLS and the proxy, and checks addresses. A
	// transport that does not use base does not have these settings and checks. What a
	// transport adds to open private content counts in content.Provenance if it is in the
	// Authorization or Cookie of the request that base gets. Nil means base itself.
	WrapTransport func(base http.RoundTripper) http.RoundTripper
	// UserAgent is sent with each request; "" means "pullkit".
	UserAgent string
	// Logger gets each request at level debug and each failure at level info. At level
	// warn it gets the texts that servers send in Warning headers: each text once, and
	// at most ten in an hour for each host. Nil means that nothing is logged.
	Logger *slog.Logger
}

// The defaults of a Config's zero fields.
const (
	defaultRetries      = 3
	defaultMaxWait      = time.Minute
	defaultStallTimeout = 15 * time.Second
	defaultUserAgent    = "pullkit"
)

// withDefaults returns cfg with the defaults in its zero fields. The error names the
// first mistake.
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
	if cfg.FindWithoutRegistry && cfg.Find == nil {
		return cfg, errors.New("FindWithoutRegistry needs Find")
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
// content.Resolver. Its methods may be called concurrently. Use one Client for the whole
// program, because each Client has its own connections, tokens and knowledge about
// mirrors. New makes a Client.
type Client struct {
	cfg Config

	hosts    hostCache
	auth     authMemory
	bad      expiring.Map[badContent, struct{}] // hosts that sent wrong bytes, with the digests
	warnings warnings
	bodies   openBodies
	targets  keptTargets
	finders  chan struct{} // has one entry for each call of Config.Find under way
}

// New makes a Client with the settings cfg. The error names the first mistake in cfg.
// New does not call HostsReader: the hosts of a registry are read when it is asked.
func New(cfg Config) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	c := &Client{cfg: cfg, finders: make(chan struct{}, maxFinders)}
	c.hosts.readers = make(chan struct{}, maxReaders)
	c.warnings.hosts.Max = maxWarningHosts
	c.targets.byKey.Max = maxKept
	for _, registry := range slices.Sorted(maps.Keys(cfg.Registries)) {
		if _, err := c.newEndpoints(registry, cfg.Registries[registry]); err != nil {
			return nil, fmt.Errorf("registry: Registries[%.200q]: %w", registry, err)
		}
	}
	return c, nil
}

// patience returns the tries and the waiting that the settings allow one call.
func (c *Client) patience() patience {
	return patience{retries: c.cfg.Retries, maxWait: c.cfg.MaxWait, limits: &limits{}}
}

// mask returns text with the credentials, and the tokens that the Client got for them,
// masked.
func (c *Client) mask(text string, creds ...credentials.Credential) string {
	var secrets []string
	for _, cred := range creds {
		secrets = append(secrets, secretsOf(cred)...)
	}
	for key, r := range c.auth.repositories.All() {
		if slices.ContainsFunc(creds, key.login.cred.Same) {
			secrets = append(secrets, r.token)
		}
	}
	return redact.Secrets(text, secrets...)
}

// CloseIdleConnections closes the connections that are kept for later requests. It does
// not end calls that are under way.
func (c *Client) CloseIdleConnections() {
	c.hosts.closeIdle()
}
