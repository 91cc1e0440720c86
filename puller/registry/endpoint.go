package registry

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullkit/pullkit/internal/expiring"
	"github.com/pullkit/pullkit/internal/panics"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// An endpoint is one host that is asked for the images of one registry: the registry
// itself or a mirror of it.
type endpoint struct {
	client   *Client
	registry string // as it is written in image names
	host     Host
	base     *url.URL
	sendNS   bool // requests have ?ns= with the registry's name
	mirror   bool // the registry's credentials must not be sent here
	found    bool // by Config.Find; it is asked anonymously
	withURL  bool // the configuration has the URL; if false, the URL is made from the registry's name
	guessed  bool // the registry is on loopback without a configuration, so it may speak http

	plain  atomic.Bool // a guessed endpoint that speaks http
	secure atomic.Bool // a guessed endpoint that has spoken TLS

	accepted expiring.Map[acceptedKey, mirrorLogin] // credentials that a mirror accepted
	limits   limits

	ahead     aheadConns
	bulkConns atomic.Int64 // open connections for blobs, over https
	redirects atomic.Bool  // the last blob was redirected
	direct    atomic.Bool  // the last connection to the host goes to no proxy
	sessions  onceCache    // of all connections to the host itself

	mu         sync.Mutex
	transports map[transportKey]connPool

	absence *absence
}

// An absence says until when a mirror or a found host is not asked.
type absence struct {
	mu    sync.Mutex
	until time.Time
	wrong int // number of digests for which a found host sent wrong bytes
}

// newEndpoint makes the endpoint of a mirror.
func (c *Client) newEndpoint(registry string, host Host) (*endpoint, error) {
	base, err := host.checked()
	if err != nil {
		return nil, err
	}
	ep := &endpoint{client: c, registry: registry, host: host, base: base, withURL: true, absence: &absence{}}
	ep.accepted.Max = maxAccepted
	ep.sendNS = base.Host != registry && !(registry == hubName && serves(base, registry))
	// The configuration may name another server for a registry. The registry's
	// credentials are not for that server, so it counts as a mirror.
	ep.mirror = !serves(base, registry)
	return ep, nil
}

// newServer makes the endpoint of the registry itself. If host has no URL, the URL is
// made from the registry's name.
func (c *Client) newServer(registry string, host Host) (*endpoint, error) {
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

// speaksPlain reports whether Config.PlainHTTP lists a host with its port. Port 80 may
// be left out.
func (c *Client) speaksPlain(host string) bool {
	asked := originOf(&url.URL{Scheme: "http", Host: host})
	return slices.ContainsFunc(c.cfg.PlainHTTP, func(h string) bool {
		return strings.EqualFold(h, host) || originOf(&url.URL{Scheme: "http", Host: h}) == asked
	})
}

// can reports whether the host has the capability what.
func (ep *endpoint) can(what Capability) bool {
	return ep.host.Can == 0 || ep.host.Can&what != 0
}

// url returns the URL of a manifest or blob (kind and name) in a repository.
func (ep *endpoint) url(scheme, repository, kind, name string) *url.URL {
	u := *ep.base
	u.Scheme = scheme
	u.Path += "/" + repository + "/" + kind + "/" + name
	if ep.sendNS {
		u.RawQuery = url.Values{"ns": {ep.registry}}.Encode()
	}
	return &u
}

// urlOf returns the URL of a request.
func (ep *endpoint) urlOf(scheme string, r request) *url.URL {
	u := ep.url(scheme, r.repository, r.kind, r.name)
	query := r.query
	if r.page != nil {
		u.Path, u.RawPath, query = r.page.Path, r.page.RawPath, r.page.RawQuery
	}
	switch {
	case query == "":
	case u.RawQuery == "" || r.page != nil && r.page.Query().Has("ns"):
		u.RawQuery = query
	default:
		u.RawQuery += "&" + query
	}
	return u
}

// repository returns the name of a repository at the host: the path in the host's URL,
// then name.
func (ep *endpoint) repository(name string) string {
	if prefix := strings.Trim(strings.TrimPrefix(strings.TrimSuffix(ep.base.Path, "/v2"), "/v2"), "/"); prefix != "" {
		return prefix + "/" + name
	}
	return name
}

// mirrorName returns the name that an image has at the mirror: the mirror's host, the path
// in its URL, and the repository. If the host can be written in a name only with its port,
// the name has the port. ok is false if no name can have the host; a keyring is then not
// asked, because it could answer only for another host.
func (ep *endpoint) mirrorName(ref reference.Reference) (name reference.Reference, ok bool) {
	for _, host := range []string{ep.base.Host, ep.base.Host + ":" + defaultPort(ep.base.Scheme)} {
		if path := ep.repository(ref.Repository()); path != ref.Repository() {
			if r, err := reference.Parse(host + "/" + path); err == nil && r.Registry() == host {
				return r, true
			}
		}
		if r, err := ref.WithRegistry(host); err == nil {
			return r, true
		}
	}
	return reference.Reference{}, false
}

// addHeader adds to h the headers that the configuration has for the host.
func (ep *endpoint) addHeader(h http.Header) {
	for name, values := range ep.host.Header {
		h[http.CanonicalHeaderKey(name)] = append([]string(nil), values...)
	}
}

// secrets returns the parts of the configured headers that may be secrets.
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

// penalty is how long a mirror that could not be reached is left out.
const penalty = 30 * time.Second

// usable reports whether a mirror may be asked: it has not failed, or the time for which
// it is left out has passed.
func (ep *endpoint) usable() bool {
	ep.absence.mu.Lock()
	defer ep.absence.mu.Unlock()
	return !time.Now().Before(ep.absence.until)
}

// leaveOut leaves a mirror out for a time that depends on err, the error with which it
// failed. Otherwise each blob would have to wait for a mirror that does not answer.
func (ep *endpoint) leaveOut(err error) {
	var d time.Duration
	switch content.ReasonOf(err) {
	case content.ErrNetwork, content.ErrTimeout, content.ErrUnavailable, content.ErrRateLimited:
		d = penalty
	}
	if errors.Is(err, errSlow) {
		d = 10 * penalty // measuring its rate again takes longer than one penalty
	}
	if ordered := retryAfterOf(err); ordered > 0 {
		d = min(ordered, 10*penalty)
	}
	ep.leaveOutFor(d)
}

// leaveOutFor leaves out a mirror or a found host for d, if it is not left out for longer already.
func (ep *endpoint) leaveOutFor(d time.Duration) {
	ep.absence.mu.Lock()
	defer ep.absence.mu.Unlock()
	if until := time.Now().Add(d); d > 0 && until.After(ep.absence.until) {
		ep.absence.until = until
	}
}

const (
	// acceptedFor is how long a credential that a mirror accepted is used without asking
	// the keyring, which may start a program each time.
	acceptedFor = time.Minute
	// maxAccepted is how many repositories of a mirror have a remembered credential.
	maxAccepted = 1024
)

// An acceptedKey is the key by which the Client remembers a credential that a mirror accepted: a
// repository, and the fingerprint of the request's keyring. So a request never uses what the
// keyring of another request has opened.
type acceptedKey struct {
	repository string
	ring       uint64 // 0 for a request without a keyring
}

// accept remembers the credential that opened a repository at a mirror.
func (ep *endpoint) accept(key acceptedKey, opened mirrorLogin) {
	until := time.Now().Add(acceptedFor)
	if end := opened.cred.Expires; !end.IsZero() && end.Before(until) {
		until = end
	}
	ep.accepted.Put(key, opened, until)
}

// rejectedFor is how long the Client remembers that a host sent wrong bytes.
const rejectedFor = 10 * time.Minute

// A badContent is a host with a digest for which it sent wrong bytes.
type badContent struct {
	host   *endpoint
	digest digest.Digest
}

// reject remembers that the host sent wrong bytes for a digest, and reports whether
// that was not known before.
func (ep *endpoint) reject(dgst digest.Digest) bool {
	return ep.client.bad.Put(badContent{ep, dgst}, struct{}{}, time.Now().Add(rejectedFor))
}

// rejected reports whether the host sent wrong bytes for a digest within rejectedFor.
func (ep *endpoint) rejected(dgst digest.Digest) bool {
	_, bad := ep.client.bad.Get(badContent{ep, dgst})
	return bad
}

const (
	// reread is how long the hosts of a registry are used before they are read again.
	reread = 30 * time.Second
	// maxRegistries is how many registries a Client remembers. The registries that are
	// idle longest are forgotten first. Registries in use are kept.
	maxRegistries = 2048
	// maxConns is how many connections may be open before idle ones are closed. A
	// registry that is in use keeps its connections.
	maxConns = 256
	// maxReaders is how many registries' files are read at the same time. A file system
	// that does not answer holds one system thread for each of these registries.
	maxReaders = 16
)

// A hostCache has the hosts of each registry, with their connections.
type hostCache struct {
	conns atomic.Int64 // number of open connections, in use or idle

	mu       sync.Mutex
	byName   map[string]*hostList
	idle     list.List // each *hostList that is not in use; first the one that is idle longest
	readings map[string]*reading
	readers  chan struct{} // has one entry for each reading under way
}

// A hostList is the hosts of one registry: its mirrors in their order, then the registry
// itself.
type hostList struct {
	registry string
	hosts    []*endpoint
	version  string    // of what HostsReader read; "" without one
	until    time.Time // when to read the files again; zero for never
	found    foundHosts

	// Guarded by hostCache.mu.
	users int           // calls and bodies that may ask the hosts
	place *list.Element // in hostCache.idle; nil while it is in use
	gone  bool          // it is not in the cache any more
}

func (l *hostList) closeIdle() {
	for _, ep := range l.hosts {
		ep.closeIdle()
	}
	for _, ep := range l.found.byURL.All() {
		ep.closeIdle()
	}
}

// hostsFor returns the hosts of a registry. The caller calls hostCache.release when it
// does not need them any more.
func (c *Client) hostsFor(ctx context.Context, registry string) (*hostList, error) {
	cache := &c.hosts
	cache.mu.Lock()
	if l := cache.byName[registry]; l != nil && (l.until.IsZero() || time.Now().Before(l.until)) {
		defer cache.mu.Unlock()
		return cache.use(l), nil
	}
	cache.mu.Unlock()
	hosts, configured := c.cfg.Registries[registry]
	if configured || c.cfg.HostsReader == nil {
		return c.keepHosts(registry, hosts, "", time.Time{})
	}
	// The files are read without the lock, so that a slow file system does not hold up
	// calls to other registries.
	r, err := c.readHosts(ctx, registry)
	if err != nil {
		return nil, err
	}
	return c.keepHosts(registry, r.hosts, r.version, r.until)
}

// keepHosts puts the hosts of a registry into the cache and returns them, marked as in
// use. If the cache has a list that was made from the same files, it keeps that list.
func (c *Client) keepHosts(registry string, hosts Hosts, version string, until time.Time) (*hostList, error) {
	cache := &c.hosts
	var gone []*hostList
	defer func() { // without the lock
		for _, l := range gone {
			l.closeIdle()
		}
	}()
	cache.mu.Lock()
	defer cache.mu.Unlock()
	old := cache.byName[registry]
	if old != nil && old.version == version {
		old.until = until
		return cache.use(old), nil
	}
	endpoints, err := c.newEndpoints(registry, hosts)
	if err != nil {
		return nil, fail(content.ErrConfig, registry, err)
	}
	if old != nil {
		gone = append(gone, cache.forget(old))
	}
	for len(cache.byName) >= maxRegistries && cache.idle.Len() > 0 {
		gone = append(gone, cache.forget(cache.idle.Front().Value.(*hostList)))
	}
	if cache.byName == nil {
		cache.byName = map[string]*hostList{}
	}
	l := &hostList{registry: registry, hosts: endpoints, version: version, until: until}
	l.found.byURL.Max, l.found.absences.Max = maxFoundHosts, maxFoundHosts
	cache.byName[registry] = l
	return cache.use(l), nil
}

func (c *Client) newEndpoints(registry string, hosts Hosts) ([]*endpoint, error) {
	var list []*endpoint
	for i, h := range hosts.Mirrors {
		ep, err := c.newEndpoint(registry, h)
		if err != nil {
			return nil, fmt.Errorf("mirror %d: %w", i+1, err)
		}
		list = append(list, ep)
	}
	ep, err := c.newServer(registry, hosts.Server)
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	// Often the registry is also the last mirror of the list, with its own settings. A
	// second request to the same server without these settings would only hide the first
	// answer.
	if n := len(list); n > 0 && *list[n-1].base == *ep.base && list[n-1].can(CanPull) && list[n-1].can(CanResolve) {
		return list, nil
	}
	return append(list, ep), nil
}

// use marks l as in use. The caller holds the lock.
func (h *hostCache) use(l *hostList) *hostList {
	l.users++
	h.notIdle(l)
	return l
}

func (h *hostCache) notIdle(l *hostList) {
	if l.place != nil {
		h.idle.Remove(l.place)
		l.place = nil
	}
}

// forget removes l from the cache and returns it. The caller holds the lock, and closes
// the idle connections of l after it has released the lock.
func (h *hostCache) forget(l *hostList) *hostList {
	h.notIdle(l)
	l.gone = true
	delete(h.byName, l.registry)
	return l
}

// release ends one use of l.
func (h *hostCache) release(l *hostList) {
	h.mu.Lock()
	last := false
	if l.users--; l.users == 0 {
		if last = l.gone; !last {
			l.place = h.idle.PushBack(l)
		}
	}
	h.mu.Unlock()
	if last {
		l.closeIdle() // nothing else refers to it
	}
	h.trim()
}

// trim closes idle connections while more than maxConns are open. It closes only
// connections of registries that are not in use, and first those of the registry that is
// idle longest.
func (h *hostCache) trim() {
	if h.conns.Load() <= maxConns {
		return
	}
	h.mu.Lock()
	idle := make([]*hostList, 0, h.idle.Len())
	for at := h.idle.Front(); at != nil; at = at.Next() {
		idle = append(idle, at.Value.(*hostList))
	}
	h.mu.Unlock()
	for _, l := range idle {
		if h.conns.Load() <= maxConns {
			return
		}
		l.closeIdle()
	}
}

// closeIdle closes the idle connections of all registries.
func (h *hostCache) closeIdle() {
	h.mu.Lock()
	all := make([]*hostList, 0, len(h.byName))
	for _, l := range h.byName {
		all = append(all, l)
	}
	h.mu.Unlock()
	for _, l := range all { // closing can take time
		l.closeIdle()
	}
}

// A reading is one call of HostsReader for a registry. All calls that need the hosts share
// it.
type reading struct {
	done     chan struct{} // closed at the end; the other fields are set before that
	hosts    Hosts
	version  string
	until    time.Time
	err      error
	panicked *panics.Error
}

// readHosts asks HostsReader for a registry. A caller waits until its context ends, and at
// most for StallTimeout. The reading itself may go on after that, and the next call waits
// for the same reading, so that a file system which does not answer holds at most one
// thread for each registry. Package share does not do that: there
// a run ends with its last caller, and the next caller starts another run.
func (c *Client) readHosts(ctx context.Context, registry string) (*reading, error) {
	limit := time.NewTimer(c.cfg.StallTimeout)
	defer limit.Stop()
	late := func() error {
		return failf(content.ErrConfig, registry, "the configuration of its hosts could not be read within %v: the file system does not answer", c.cfg.StallTimeout)
	}
	r := c.hosts.underWay(registry)
	if r == nil {
		select {
		case c.hosts.readers <- struct{}{}:
			r = c.startReading(registry)
		case <-ctx.Done():
			return nil, canceled(ctx, registry)
		case <-limit.C:
			return nil, late()
		}
	}
	select {
	case <-r.done:
		r.panicked.Raise()
		return r, r.err
	case <-ctx.Done():
		return nil, canceled(ctx, registry)
	case <-limit.C:
		return nil, late()
	}
}

// underWay returns the reading of a registry's files that is under way, or nil.
func (h *hostCache) underWay(registry string) *reading {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.readings[registry]
}

// startReading starts to read a registry's files. The caller has put an entry into
// readers. If another caller has started a reading in the meantime, startReading
// returns that reading.
func (c *Client) startReading(registry string) *reading {
	h := &c.hosts
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.readings[registry]; r != nil {
		<-h.readers
		return r
	}
	r := &reading{done: make(chan struct{})}
	if h.readings == nil {
		h.readings = map[string]*reading{}
	}
	h.readings[registry] = r
	go panics.Catch(func() {
		hosts, version, err := c.cfg.HostsReader.ReadHosts(registry, c.cfg.RootCAs)
		if err != nil {
			err = fail(content.ErrConfig, registry, err)
		}
		r.hosts, r.version, r.err = hosts, version, err
	}, func(panicked *panics.Error) {
		r.panicked, r.until = panicked, time.Now().Add(reread)
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.readings, registry)
		<-h.readers
		close(r.done)
	})
	return r
}
