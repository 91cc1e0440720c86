package registry

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pullkit/pullkit/puller/content"
)

// An endpoint is one host that is asked for the images of one registry.
type endpoint struct {
	client   *Client
	registry string // whose images it has, as it stands in their names
	host     Host
	base     *url.URL
	proxied  bool // it is told whose image is meant, by ?ns=
	mirror   bool // it is not where the registry's credentials belong
	withURL  bool // its URL is configured; else it is what the registry's name tells
	guessed  bool // its scheme is a guess: a registry on loopback
	plain    atomic.Bool
	trips    transports
	health   health
	worked   worked
}

// newEndpoint makes the endpoint of one Host.
func (c *Client) newEndpoint(registry string, host Host) (*endpoint, error) {
	base, err := host.base()
	if err != nil {
		return nil, err
	}
	if err := checkHeader(host.Header); err != nil {
		return nil, fmt.Errorf("host %q: %w", base.Host, err)
	}
	if !fieldValue(c.userAgent()) {
		return nil, errors.New("Client.UserAgent has characters that no header can carry")
	}
	ep := &endpoint{client: c, registry: registry, host: host, base: base, withURL: true}
	ep.proxied = base.Host != registry && !(registry == hubName && serves(base, registry))
	// A server under another name is whatever the configuration says it is, but
	// the registry's credentials were not given for it.
	ep.mirror = !serves(base, registry)
	ep.trips.endpoint = ep
	return ep, nil
}

// server makes the endpoint of the registry itself.
func (c *Client) server(registry string, host Host) (*endpoint, error) {
	named := host.URL != ""
	if !named {
		name, scheme := registry, "https"
		if registry == hubName {
			name = hubHost
		}
		if c.speaksPlain(registry) {
			scheme = "http"
		}
		host.URL = scheme + "://" + name
	}
	ep, err := c.newEndpoint(registry, host)
	if err != nil {
		return nil, err
	}
	ep.withURL = named
	ep.guessed = !named && ep.base.Scheme == "https" && loopbackName(ep.base.Hostname())
	return ep, nil
}

// speaksPlain reports whether the caller listed a host, with its port, as one that is
// asked over http. Port 80 need not be written.
func (c *Client) speaksPlain(host string) bool {
	const scheme = "http://"
	asked := originOf(&url.URL{Scheme: "http", Host: host})
	for _, h := range c.PlainHTTP {
		if len(h) > len(scheme) && strings.EqualFold(h[:len(scheme)], scheme) {
			h = h[len(scheme):]
		}
		if h = strings.TrimRight(h, "/"); strings.EqualFold(h, host) || h != "" && originOf(&url.URL{Scheme: "http", Host: h}) == asked {
			return true
		}
	}
	return false
}

// url gives the address of something in a repository.
func (ep *endpoint) url(scheme, repository, kind, name string) *url.URL {
	u := *ep.base
	u.Scheme = scheme
	u.Path += "/" + repository + "/" + kind + "/" + name
	if ep.proxied {
		u.RawQuery = url.Values{"ns": {ep.registry}}.Encode()
	}
	return &u
}

// scheme is what is spoken there as far as is known.
func (ep *endpoint) scheme() string {
	if ep.plain.Load() {
		return "http"
	}
	return ep.base.Scheme
}

// can reports whether the host may be asked for something.
func (ep *endpoint) can(what Capability) bool {
	return ep.host.Capabilities == 0 || ep.host.Capabilities&what != 0
}

func (ep *endpoint) closeIdle() { ep.trips.closeIdle() }

// aside is for how long a mirror is left out that could not be reached.
const aside = 30 * time.Second

// health remembers that a mirror does not answer, so that not every blob has to
// find out for itself.
type health struct {
	mu    sync.Mutex
	until time.Time
}

func (h *health) well() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !time.Now().Before(h.until)
}

// failed is told how a request to the mirror failed.
func (h *health) failed(err error) {
	var d time.Duration
	switch content.KindOf(err) {
	case content.ErrNetwork, content.ErrTimeout, content.ErrUnavailable, content.ErrRateLimited:
		d = aside
	}
	if errors.Is(err, errSlow) {
		d = 10 * aside // to find it out again would take longer than it is left out
	}
	if asked, _ := askedToWait(err); asked > 0 {
		d = min(asked, 10*aside)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if until := time.Now().Add(d); d > 0 && until.After(h.until) {
		h.until = until
	}
}

// secrets lists what of the configured headers may be one.
func (ep *endpoint) secrets() []string {
	var secrets []string
	for _, values := range ep.host.Header {
		for _, v := range values {
			if _, token, ok := strings.Cut(v, " "); ok {
				secrets = append(secrets, token)
			}
			if len(v) >= 8 {
				secrets = append(secrets, v)
			}
		}
	}
	return secrets
}

// addHeader sets the headers that the configuration wants for the host.
func (ep *endpoint) addHeader(h http.Header) {
	for name, values := range ep.host.Header {
		h[http.CanonicalHeaderKey(name)] = append([]string(nil), values...)
	}
}
