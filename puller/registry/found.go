package registry

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/expiring"
	"github.com/pullkit/pullkit/internal/panics"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/puller/content"
)

const (
	// findWait is how long Config.Find may take.
	findWait = 250 * time.Millisecond
	// maxFound is how many hosts of one call of Config.Find are asked.
	maxFound = 16
	// maxFinders is how many calls of Config.Find may run at the same time.
	maxFinders = 64
	// maxFoundHosts is how many found hosts the Client remembers for each registry. It forgets
	// the hosts first that it has not asked for the longest time.
	maxFoundHosts = 1024
	// foundDialTimeout bounds the time for a connection to a found host that has no
	// DialTimeout of its own.
	foundDialTimeout = time.Second
	// foundRate is the least number of bytes a second that a found host must send. It is high,
	// because the next host can be asked at once.
	foundRate = 64 << 10
	// busyDelay is how long the Client waits before it asks a busy found host again, if the
	// host does not say.
	busyDelay = 500 * time.Millisecond
)

// A confirmation is the Confirmation of a content.Document. It says that the document came from
// the registry or a configured mirror, for one credential, or by FindWithoutRegistry.
type confirmation struct {
	client     *Client
	repository string // with the registry
	cred       credentials.Credential
}

// confirm returns the confirmation of a document for the caller of the walk. It returns nil
// without Config.Find.
func (w *hostWalk) confirm() any {
	if w.client.cfg.Find == nil {
		return nil
	}
	return &confirmation{client: w.client, repository: w.repo.Ref.Name(), cred: w.repo.Cred}
}

// confirmed reports whether found hosts may be asked for content of a document that this
// Client has confirmed with the credential of repo.
func (c *Client) confirmed(repo content.Repo) bool {
	got, ok := repo.Confirmation.(*confirmation)
	return ok && got.client == c && got.repository == repo.Ref.Name() && got.cred.Same(repo.Cred)
}

// find returns the hosts that Config.Find finds for a digest, without those that have failed
// lately.
func (c *Client) find(ctx context.Context, list *hostList, repo content.Repo, d digest.Digest) []*endpoint {
	if c.cfg.Find == nil || c.cfg.NoMirrorForPrivate && !repo.Cred.Anonymous() {
		return nil
	}
	var found []*endpoint
	for _, host := range c.callFind(ctx, repo, d) {
		ep, err := list.foundHost(c, host)
		if err != nil {
			c.cfg.Logger.InfoContext(ctx, "a found host cannot be asked", "registry", list.registry, "error", redact.Text(err.Error()))
			continue
		}
		if ep.can(CanPull) && ep.usable() && !ep.rejected(d) && !slices.Contains(found, ep) {
			found = append(found, ep)
		}
	}
	return found
}

// callFind returns the hosts that Config.Find yields within findWait. A call of Find that
// takes longer goes on in its goroutine. While maxFinders calls have not ended, callFind
// returns no host.
func (c *Client) callFind(ctx context.Context, repo content.Repo, d digest.Digest) []Host {
	ctx, cancel := context.WithTimeout(ctx, findWait)
	defer cancel()
	select {
	case c.finders <- struct{}{}:
	default:
		return nil
	}
	hosts, ended := make(chan Host, maxFound), make(chan *panics.Error, 1)
	go panics.Catch(func() {
		for host := range c.cfg.Find(ctx, repo.Ref, d) {
			if ctx.Err() != nil {
				return
			}
			if hosts <- host; len(hosts) == cap(hosts) {
				return
			}
		}
	}, func(panicked *panics.Error) {
		<-c.finders
		ended <- panicked
	})
	select {
	case panicked := <-ended:
		panicked.Raise()
	case <-ctx.Done():
	}
	var found []Host
	for range len(hosts) {
		found = append(found, <-hosts)
	}
	return found
}

// foundHosts has the endpoints of found hosts, by their URLs. Endpoints of one origin share
// an absence, because a host that is away, or sends wrong bytes, does so under all its paths.
type foundHosts struct {
	byURL    expiring.Map[string, *endpoint]
	absences expiring.Map[origin, *absence]
}

// foundHost returns the endpoint of a found host.
func (l *hostList) foundHost(c *Client, host Host) (*endpoint, error) {
	if ep, ok := l.found.byURL.Get(host.URL); ok && ep.host.same(host) {
		return ep, nil
	}
	ep, err := c.newEndpoint(l.registry, host)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"Authorization", "Cookie", "Proxy-Authorization"} {
		if _, ok := ep.ownHeader()[name]; ok {
			return nil, fmt.Errorf("host %q: a found host is asked anonymously, and not with a header %s", ep.base.Host, name)
		}
	}
	// A found host never gets the registry's credentials, even if it has the registry's
	// address.
	ep.found, ep.mirror = true, true
	if known, ok := l.found.absences.Get(originOf(ep.base)); ok {
		ep.absence = known
	} else {
		l.found.absences.Put(originOf(ep.base), ep.absence, time.Time{})
	}
	l.found.byURL.Put(host.URL, ep, time.Time{})
	return ep, nil
}

// ownHeader returns the headers of the configuration.
func (ep *endpoint) ownHeader() http.Header {
	h := http.Header{}
	ep.addHeader(h)
	return h
}

// same reports whether two found hosts are the same host with the same settings. It compares
// what their pointers point to, because Config.Find may make new values for each call.
func (h Host) same(other Host) bool {
	return h.URL == other.URL && h.Can == other.Can && h.SkipVerify == other.SkipVerify &&
		h.OverridePath == other.OverridePath && h.DialTimeout == other.DialTimeout &&
		(h.RootCAs == other.RootCAs || h.RootCAs != nil && other.RootCAs != nil && h.RootCAs.Equal(other.RootCAs)) &&
		slices.EqualFunc(h.Certificates, other.Certificates, sameCertificate) &&
		maps.EqualFunc(h.Header, other.Header, slices.Equal)
}

// sameCertificate reports whether two client certificates have the same chain, and so the same
// key.
func sameCertificate(a, b tls.Certificate) bool {
	return len(a.Certificate) > 0 && slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal)
}

// askFound sends one anonymous request to a found host. It does not answer a challenge, and
// does not follow a redirect.
func (ep *endpoint) askFound(ctx context.Context, r request) (*answer, error) {
	r.login = login{}
	a, err := ep.follow(ctx, ep.url(ep.base.Scheme, r.repository, r.kind, r.name), r, authorization{})
	switch {
	case err != nil:
		return nil, err
	case a.StatusCode/100 == 2, a.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return a, nil
	case isRedirect(a.StatusCode):
		a.drain()
		a.stall.end()
		return nil, a.failf(content.ErrRedirect, "a found host answers %d, and its redirects are not followed", a.StatusCode)
	}
	return nil, a.refusal(r.method)
}

// foundFailed leaves out a found host for a time that depends on err, the error with which
// it failed. A host that does not have the content, or that is busy, is not left out.
func (ep *endpoint) foundFailed(err error) {
	d := rejectedFor
	switch content.ReasonOf(err) {
	case content.ErrNotFound, content.ErrUnauthorized, content.ErrDenied:
		d = 0
	case content.ErrRateLimited, content.ErrUnavailable:
		if d = penalty; isBusy(err) {
			d = 0
		}
	case content.ErrNetwork, content.ErrTimeout:
		if d = penalty; errors.Is(err, errSlow) {
			d = 10 * penalty
		}
	}
	ep.leaveOutFor(d)
}

// isBusy reports whether a found host has too much to do for the moment.
func isBusy(err error) bool {
	status := statusOf(err)
	return status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable && retryAfterOf(err) > 0
}

// sentWrong remembers that a found host sent wrong bytes for a digest. If all bytes of the
// blob were its own, or if this was not the first such digest, the host is left out.
func (ep *endpoint) sentWrong(d digest.Digest, alone bool) {
	isNew := ep.reject(d)
	ep.absence.mu.Lock()
	if isNew {
		ep.absence.wrong++
	}
	leave := alone || ep.absence.wrong > 1
	ep.absence.mu.Unlock()
	if leave {
		ep.leaveOutFor(rejectedFor)
	}
}

// againFound reports whether the found hosts are asked again, before the configured hosts,
// because one of them is busy. Otherwise all nodes of a busy fleet would go to the registry.
// againFound waits before it returns true. All its waits together are at most Config.MaxWait.
func (w *hostWalk) againFound(ctx context.Context) bool {
	if w.at != w.found-1 {
		return false
	}
	first, wait := -1, time.Duration(0)
	for i := range w.found {
		if w.failed[i] == nil || !isBusy(w.failed[i]) {
			continue
		}
		if ordered := retryAfterOf(w.failed[i]); first < 0 || ordered < wait {
			wait = ordered
		}
		if first < 0 {
			first = i
		}
	}
	if first < 0 {
		return false
	}
	wait = max(wait, busyDelay)
	if !w.patience.allows(wait) {
		w.leaveBusy()
		return false
	}
	if more := rand.N(wait / 2); w.patience.allows(more) { // so that clients do not all ask again at the same time
		wait += more
	}
	if sleep(ctx, wait) != nil {
		return false
	}
	w.again = true
	w.at = first
	return true
}

// leaveBusy leaves out found hosts that were still busy when they were asked again, so that
// the next blobs do not wait for them.
func (w *hostWalk) leaveBusy() {
	if !w.again {
		return
	}
	for i, ep := range w.hosts[:w.found] {
		if w.failed[i] != nil && isBusy(w.failed[i]) {
			ep.leaveOutFor(10 * penalty)
		}
	}
}

// skipFound reports whether the walk passes over a found host when it asks the found hosts
// again, because the host was not busy.
func (w *hostWalk) skipFound() bool {
	return w.again && w.at < w.found && w.failed[w.at] != nil && !isBusy(w.failed[w.at])
}

// away reports whether a walk that has failed shows that the registry is away: the registry
// cannot be reached or does not answer, and no mirror has refused the caller.
func (w *hostWalk) away() bool {
	for i, err := range w.failed {
		last := i == len(w.failed)-1
		switch reason := content.ReasonOf(err); {
		case err == nil, reason == content.ErrUnauthorized, reason == content.ErrDenied:
			return false
		case last && !isAway(err):
			return false
		}
	}
	return true
}

func isAway(err error) bool {
	switch content.ReasonOf(err) {
	case content.ErrNetwork, content.ErrTimeout:
		return true
	}
	switch statusOf(err) {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// toFound changes a walk that has failed into a walk over only found hosts, for a document
// that is named by its digest. ok is false if no host is found.
func (w *hostWalk) toFound(ctx context.Context) (ok bool) {
	list := w.list
	found := w.client.find(ctx, list, w.repo, w.repo.Ref.Digest())
	if len(found) == 0 {
		return false
	}
	w.hosts, w.found, w.failed = found, len(found), make([]error, len(found))
	w.at, w.again, w.patience, w.since = 0, false, w.client.patience(), time.Now()
	return true
}
