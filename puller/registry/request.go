package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/puller/content"
)

const (
	maxRedirects = 5
	maxErrorBody = 64 << 10
)

// A request asks an endpoint for one manifest or blob.
type request struct {
	method     string
	repository string
	kind, name string      // "manifests", "v1"
	query      string      // without ns; may be ""
	page       *url.URL    // gives path and query of a further page of a list; nil for the first page
	header     http.Header // Accept, Range
	login      login
	bulk       bool  // at least bulkSize bytes are asked for
	call       *call // nil if the request is the whole call
}

// An answer is a response that is read under limits: each read must end within the
// stall time, and all reads together must not be too slow. The method end frees its
// connection.
type answer struct {
	*http.Response
	url     *url.URL // the URL that answered
	host    string   // of url
	left    bool     // a redirect has left the origin that was asked
	private bool     // the origin that was asked has a private address
	// anonymous says that no request had anything that could open private content.
	anonymous bool
	home      *url.URL // the URL that was asked first
	// keepUntil says how long url may be asked without asking home, if redirects led
	// there.
	keepUntil time.Time
	stall     *stallTimer
	rate      rate
	secrets   []string // the secrets in the request
}

// newAnswer makes an answer that has no response yet. Its stall timer runs.
func (ep *endpoint) newAnswer(ctx context.Context, secrets []string) *answer {
	a := &answer{stall: newStallTimer(ctx, ep.client.cfg.StallTimeout), secrets: secrets}
	if ep.found {
		a.rate.least = foundRate
	}
	return a
}

// Read reads the body. Its error is errSlow if too little came within the last window.
func (a *answer) Read(p []byte) (int, error) {
	a.stall.start()
	defer a.stall.stop()
	began := time.Now()
	n, err := a.Body.Read(p)
	if a.rate.add(time.Since(began), n, a.window()) && err == nil {
		if err = errSlow; a.rate.least > 0 {
			err = &described{fmt.Sprintf("less than %d bytes a second", a.rate.least), errSlow}
		}
	}
	return n, err
}

// window returns the time over which the rate of an answer is measured.
func (a *answer) window() time.Duration { return 2 * a.stall.limit }

func (a *answer) end() {
	a.stall.end()
	_ = a.Body.Close() // the connection is only read from
}

// ask sends a request to the endpoint and answers its challenges. The answer that it
// returns has a status of success, or 416; every other status is an error. ask is one
// try: the caller decides whether to ask again.
//
// A registry on loopback without a configuration is asked over https first. It is asked
// over http only if it answered the TLS handshake with something else than TLS. A wrong
// certificate counts as TLS.
func (ep *endpoint) ask(ctx context.Context, r request) (*answer, error) {
	if ep.found {
		return ep.askFound(ctx, r)
	}
	if !ep.guessed {
		return ep.authorized(ctx, ep.base.Scheme, r)
	}
	if ep.plain.Load() {
		a, err := ep.authorized(ctx, "http", r)
		if content.ReasonOf(err) == content.ErrNetwork || statusOf(err) == http.StatusBadRequest {
			ep.plain.Store(false) // it may speak TLS now, because a TLS server answers 400 to http
		}
		return a, err
	}
	a, err := ep.authorized(ctx, "https", r)
	if err == nil || statusOf(err) != 0 {
		ep.secure.Store(true)
	}
	if !errors.Is(err, errNoTLS) || ep.secure.Load() {
		return a, err
	}
	a, err = ep.authorized(ctx, "http", r)
	if status := statusOf(err); err == nil || status != 0 && status != http.StatusBadRequest {
		ep.plain.Store(true)
	}
	return a, err
}

// authorized sends a request with the Authorization that the Client remembers. As long
// as the registry's own origin requests another Authorization, it sends the request
// again.
func (ep *endpoint) authorized(ctx context.Context, scheme string, r request) (*answer, error) {
	u := ep.urlOf(scheme, r)
	s := &session{ep: ep, key: newAuthKey(originOf(u), r.login, r.repository), call: r.call}
	if s.call == nil {
		s.call = &call{}
	}
	defer s.end()
	auth, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	var before []string // secrets of earlier tries, which the server may repeat, too
	for {
		a, err := ep.follow(ctx, u, r, auth)
		if err != nil {
			return nil, err
		}
		s.heard = a.StatusCode < 500 && a.StatusCode != http.StatusTooManyRequests // others say nothing of authenticating
		a.secrets = append(a.secrets, before...)
		if a.StatusCode/100 == 2 || a.StatusCode == http.StatusRequestedRangeNotSatisfiable {
			s.accepted(auth)
			return a, nil
		}
		refused := a.refusal(r.method) // frees the connection for the next request
		if a.left {
			return nil, a.refusedElsewhere(refused, u)
		}
		if auth, err = s.next(ctx, auth, a, refused); err != nil {
			return nil, err
		}
		before = a.secrets
	}
}

// refusedElsewhere returns the error for a refusal by another origin than that of home,
// the URL that was asked first. For a 401 it explains why the challenge was not answered.
func (a *answer) refusedElsewhere(refused *content.Error, home *url.URL) error {
	if a.StatusCode != http.StatusUnauthorized {
		return refused
	}
	return a.failf(refused.Reason, "%w: the credential was not sent and no token was requested, because a redirect led away from %s",
		refused.Err, quote(home.Host, 200, a.secrets))
}

// follow sends a request and follows redirects within the rules. The Authorization is
// sent only to the endpoint's own origin, and not after a redirect has left that
// origin.
func (ep *endpoint) follow(ctx context.Context, u *url.URL, r request, auth authorization) (*answer, error) {
	if !fieldValue(auth.header) {
		return nil, failf(content.ErrUnauthorized, u.Host, "the credential's token has characters that no header can carry")
	}
	return ep.followFrom(ctx, step{home: u, url: u}, r, auth)
}

// A step is where a request is on its way along redirects.
type step struct {
	home    *url.URL // the URL that was asked first
	url     *url.URL // the URL that is asked next
	private bool     // home has a private address; not known before the first step
	hops    int      // how many redirects led to url
}

// followFrom is follow for a request whose next step is from.
func (ep *endpoint) followFrom(ctx context.Context, from step, r request, auth authorization) (*answer, error) {
	home, u := originOf(from.home), from.url
	a := ep.newAnswer(ctx, slices.Concat(auth.secrets(), secretsOf(r.login.cred), ep.secrets()))
	a.home, a.private, a.keepUntil = from.home, from.private, time.Now().Add(keptFor)
	a.anonymous = r.login.cred.Anonymous() && len(ep.host.Header) == 0 && len(ep.host.Certificates) == 0
	for hops := from.hops; ; hops++ {
		own := originOf(u) == home
		a.left = a.left || !own
		if hops > 0 {
			a.secrets = append(a.secrets, querySecrets(u)...)
		}
		req := &http.Request{Method: r.method, URL: u, Host: u.Host, Header: ep.header(r, auth, own, a.left),
			Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
		a.url, a.host = u, u.Host
		a.stall.start()
		resp, info, err := ep.send(req.WithContext(a.stall.ctx), transportKey{own: own, fromPrivate: a.private && !own, bulk: r.bulk}, a.secrets)
		a.stall.stop()
		if err != nil {
			if own {
				err = ep.advise(err)
			}
			err = failTrip(a.stall.ctx, u.Host, err, a.secrets)
			a.stall.end()
			return nil, err
		}
		if hops == 0 {
			a.private = info.private(u.Hostname())
			if r.kind == "manifests" && r.method == http.MethodGet && (resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusUnauthorized) {
				ep.ahead.open(ctx, ep, u, info)
			}
		}
		a.Response = resp
		a.anonymous = a.anonymous && sentAs(req.Header, resp.Request)
		if !isRedirect(resp.StatusCode) || ep.found {
			return a, nil
		}
		next, err := ep.target(u, resp.Header.Get("Location"), r.kind == "blobs", a.secrets)
		a.keepUntil = redirectLife(resp.Header, time.Now(), a.keepUntil)
		a.drain()
		if err == nil && hops == maxRedirects {
			err = a.failf(content.ErrRedirect, "more than %d redirects", maxRedirects)
		}
		if err != nil {
			a.stall.end()
			return nil, err
		}
		u = next
	}
}

// sentAs reports whether the request that a server got has the Authorization and the Cookie of
// want. A transport of Config.WrapTransport can add others.
func sentAs(want http.Header, got *http.Request) bool {
	if got == nil {
		return false
	}
	for _, name := range []string{"Authorization", "Cookie"} {
		if !slices.Equal(want.Values(name), got.Header.Values(name)) {
			return false
		}
	}
	return true
}

// provenance returns what is known about the origin of an answer of the endpoint.
func (ep *endpoint) provenance(a *answer) content.Provenance {
	return content.Provenance{Registry: !ep.mirror, Anonymous: a.anonymous}
}

const (
	// minQuerySecret is the length of the shortest value of a query that is masked.
	// Shorter ones are words and numbers (X-Amz-SignedHeaders=host), which occur in texts
	// by chance. Signatures are much longer.
	minQuerySecret = 8
	// maxQuerySecrets is how many values of a query are masked, the longest first.
	maxQuerySecrets = 32
)

// querySecrets returns the values in the query of a URL to which a redirect led. The query
// may be a signature, which a server may repeat in a text without the URL. Values that the
// host or the path has, too, are not secrets.
func querySecrets(u *url.URL) []string {
	var secrets []string
	add := func(value string) {
		if len(value) >= minQuerySecret && !strings.Contains(u.Host+u.Path, value) {
			secrets = append(secrets, value)
		}
	}
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		name, raw, ok := strings.Cut(pair, "=")
		switch {
		case !ok:
			raw = pair
		case name == "ns", name == "scope", name == "service": // package redact shows them, too
			continue
		}
		add(raw)
		if value, err := url.QueryUnescape(raw); err == nil && value != raw {
			add(value)
		}
	}
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	return secrets[:min(len(secrets), maxQuerySecrets)]
}

// advise returns err with what the user can do about it, if that is known. err is the
// error of a request to the host itself that got no answer.
func (ep *endpoint) advise(err error) error {
	advice := ""
	var dns *net.DNSError
	switch {
	case errors.As(err, new(tls.RecordHeaderError)) && ep.withURL:
		advice = "if it speaks plain http, write http:// in its URL"
	case errors.As(err, new(tls.RecordHeaderError)):
		advice = "if it speaks plain http, list it in Config.PlainHTTP"
	case errors.As(err, &dns) && strings.EqualFold(dns.Name, ep.registry) && onlyByCase(ep.registry):
		advice = fmt.Sprintf("%.100q was taken for a registry because of its upper-case letter; if it is not one, write the name in lower case", ep.registry)
	}
	if advice == "" {
		return err
	}
	return fmt.Errorf("%w; %s", err, advice)
}

// onlyByCase reports whether the part of a name before the first slash counts as a
// registry only because it has an upper-case letter.
func onlyByCase(registry string) bool {
	return !strings.ContainsAny(registry, ".:") && !strings.EqualFold(registry, "localhost") && registry != strings.ToLower(registry)
}

// send sends one HTTP request and logs it.
func (ep *endpoint) send(req *http.Request, key transportKey, secrets []string) (*http.Response, *requestInfo, error) {
	log := ep.client.cfg.Logger
	began := time.Now()
	resp, info, err := ep.roundTrip(req, key)
	if err == nil {
		ep.client.warnings.log(req.Context(), log, req.URL.Host, resp.Header, secrets)
	}
	if log.Enabled(req.Context(), slog.LevelDebug) {
		attrs := []any{"method", req.Method, "url", redact.URL(req.URL, secrets...), "took", time.Since(began)}
		if err == nil {
			log.DebugContext(req.Context(), "request", append(attrs, "status", resp.StatusCode, "protocol", resp.Proto)...)
		} else { // the error itself is returned to the caller
			log.DebugContext(req.Context(), "request failed", attrs...)
		}
	}
	return resp, info, err
}

// header returns the headers of one HTTP request.
func (ep *endpoint) header(r request, auth authorization, own, left bool) http.Header {
	h := http.Header{"User-Agent": {ep.client.cfg.UserAgent}, "Accept-Encoding": {"identity"}}
	for name, values := range r.header {
		h[name] = values
	}
	if own && !left {
		ep.addHeader(h)
		if auth.header != "" {
			h.Set("Authorization", auth.header)
		}
	}
	return h
}

func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// target returns the URL that a redirect leads to, if the redirect may be followed. A
// redirect from https to http is followed only for a blob, and only to a host that
// Config.PlainHTTP lists: the blob is verified by digest, and the request has no
// credential in it. Only TLS verifies a token, or a manifest behind a tag.
func (ep *endpoint) target(from *url.URL, location string, blob bool, secrets []string) (*url.URL, error) {
	failf := func(reason content.Reason, format string, args ...any) error {
		return fail(reason, from.Host, fmt.Errorf(format, args...), secrets...)
	}
	if location == "" {
		return nil, failf(content.ErrRedirect, "a redirect without Location")
	}
	u, err := from.Parse(location)
	switch {
	case err != nil:
		return nil, failf(content.ErrRedirect, "the redirect's Location %s is not a URL", quoteURL(location, secrets))
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return nil, failf(content.ErrRedirect, "a redirect to scheme %s", quote(u.Scheme, 40, secrets))
	case u.User != nil:
		return nil, failf(content.ErrForbiddenURL, "a redirect with user info, to %s", quote(u.Host, 200, secrets))
	case from.Scheme == "https" && u.Scheme == "http" && !blob:
		return nil, failf(content.ErrForbiddenURL, "a redirect from https to http, to %s", quote(u.Host, 200, secrets))
	case from.Scheme == "https" && u.Scheme == "http" && !ep.client.speaksPlain(u.Host):
		return nil, failf(content.ErrForbiddenURL, "a redirect from https to http, to %s; to allow it for blobs, list that host in Config.PlainHTTP", quote(u.Host, 200, secrets))
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

// refusal ends an answer that refuses a request, and returns its error with the reasons
// in the body.
func (a *answer) refusal(method string) *content.Error {
	e := &statusError{method: method, url: redact.URL(a.url, a.secrets...), status: a.StatusCode}
	e.reasons = serverReasons(a.Header.Get("Content-Type"), a.readError(), a.secrets)
	a.stall.end()
	reason := reasonOfStatus(e)
	if reason == content.ErrRateLimited || reason == content.ErrUnavailable {
		e.retryAfter, e.ordersWait = retryAfter(a.Header, time.Now())
	}
	return a.fail(reason, e)
}

// unexpected returns the error for a status of success that is not valid for the
// request.
func (a *answer) unexpected(reason content.Reason) error {
	return a.fail(reason, &statusError{method: http.MethodGet, url: redact.URL(a.url, a.secrets...), status: a.StatusCode})
}

// fail makes the error of an answer. The secrets of its request are masked.
func (a *answer) fail(reason content.Reason, cause error) *content.Error {
	return fail(reason, a.host, cause, a.secrets...)
}

func (a *answer) failf(reason content.Reason, format string, args ...any) *content.Error {
	return a.fail(reason, fmt.Errorf(format, args...))
}

// readError reads the beginning of the body of a refusal. A short body is read to its
// end, so that the connection can be used again. After a long body the connection is
// closed. The reading may take as long as the stall time in all.
func (a *answer) readError() []byte {
	a.stall.start()
	defer a.stall.stop()
	body, _ := io.ReadAll(io.LimitReader(a.Body, maxErrorBody))
	_ = a.Body.Close()
	return body
}

// drain reads the body of a redirect and drops it, so that the connection can be used
// again. If the body does not end soon, the connection is closed. In both cases the
// redirect is followed afterwards.
func (a *answer) drain() {
	a.stall.start()
	defer a.stall.stop()
	late := time.AfterFunc(min(probeTime, a.stall.limit/2), func() { _ = a.Body.Close() })
	defer late.Stop()
	_, _ = io.CopyN(io.Discard, a.Body, maxErrorBody)
	_ = a.Body.Close()
}

// whole reports whether the protocol marked the end of a 200 answer that was read to its
// end. Such an answer was not cut, so the host has no more bytes.
func (a *answer) whole() bool {
	return a.StatusCode == http.StatusOK && (a.ProtoMajor >= 2 || slices.Contains(a.TransferEncoding, "chunked"))
}

// checkEncoding returns an error if an answer has a Content-Encoding, because a digest is
// that of the plain bytes.
func (a *answer) checkEncoding() error {
	encoding := strings.TrimSpace(strings.Join(a.Header.Values("Content-Encoding"), ", "))
	if encoding == "" || strings.EqualFold(encoding, "identity") {
		return nil
	}
	return a.failf(content.ErrContentEncoding, "Content-Encoding %s, although identity was asked for", quote(encoding, 40, a.secrets))
}
