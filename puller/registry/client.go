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
	// HostsReader reads the hosts of the registries that Registries does not name. An example
	// is certsd.Dir("/etc/containerd/certs.d"). The Client reads them again after half a
	// minute. If HostsReader returns an error, calls fail with content.ErrConfig. Nil means
	// that only Registries counts.
	HostsReader HostsReader
	// MirrorKeyring has the node's credentials for mirrors. The Client asks it with the
	// image's name at the mirror (the mirror's host and path), and after the keyring of the
	// request, content.Repo.Mirrors. If a mirror accepts a credential for a repository, the
	// Client uses the credential for a minute without another look-up, for requests whose
	// keyring has the same fingerprint. A registry's credential is never sent to its mirrors.
	// A mirror for which neither keyring has a credential is asked without a credential.
	MirrorKeyring credentials.Keyring
	// NoMirrorForPrivate asks only the registry itself in a call with a credential. So no
	// mirror decides who may use an image that a credential has opened. In a call without
	// a credential the mirrors are asked with MirrorKeyring, and not with the keyring of
	// the request. If the configuration names another server in place of the registry, a
	// call with a credential fails with content.ErrConfig.
	NoMirrorForPrivate bool

	// Find returns hosts that may have content of the given digest, such as other nodes, the
	// best host first. ref is the name of the image at its registry. The Client calls Find for
	// each manifest that an index names, for each blob, and for each part of a blob that is
	// fetched in parts. It asks these hosts before the configured mirrors. It does not ask
	// hosts that Find has not yielded within 250 ms, or hosts after the first 16; the context
	// of Find ends then. Find must return when its context ends: while 64 calls have not
	// returned, the Client does not call Find. A panic of Find after the end of its context is
	// not raised. Find may be called concurrently. Nil means that no host is found.
	//
	// Found hosts only send content by digest. They do not decide who may have it. The Client
	// asks them only for content that a confirmed document names: the registry itself or one
	// of its configured mirrors has let this caller have the document, with the credential of
	// the call; see content.Repo. A request to a found host is anonymous: it does not have an
	// Authorization, the Client does not answer a challenge, and it does not follow a redirect.
	// A Host whose Header has an Authorization or a cookie is not asked. A host that asks for a
	// client certificate gets the Certificates of its Host.
	//
	// If a found host fails, or sends less than 64 KiB/s over twice StallTimeout, the Client
	// leaves it at once and goes on at the reached offset with the next host. It does not ask
	// the host again for half a minute, for five minutes if the host was slow, or for ten
	// minutes if the host sent other content. A host that answers 404 is still asked for other
	// content. A host that answers 429, or 503 with Retry-After, is busy. If no other found
	// host has the content, the Client asks busy hosts again before the mirrors and the
	// registry, within MaxWait, so that the nodes of a busy fleet do not all go to the
	// registry.
	Find func(ctx context.Context, ref reference.Reference, d digest.Digest) iter.Seq[Host]
	// FindWithoutRegistry asks found hosts also for a manifest or index that is named by
	// digest, if the registry is away and mirrors do not help. The registry is away if it
	// cannot be reached, does not answer, or answers 502, 503 or 504. Mirrors do not help if
	// none of them has the document, and none has refused the caller. In this case nothing
	// shows that the caller may have the image. So the Opening of the document is Unconfirmed,
	// and a Puller does not note in its records that a Pod may use the image.
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
	// transport that does not use base does not have these settings and checks. If a transport
	// adds an Authorization or a Cookie to the request that base gets, content.Provenance
	// counts the request as not anonymous. Nil means base itself.
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
