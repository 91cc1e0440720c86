package registry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/puller/content"
)

const (
	maxRedirects = 5
	maxErrorBody = 64 << 10
)

// A request is one thing asked of an endpoint.
type request struct {
	method     string
	repository string
	kind, name string      // "manifests", "v1"
	header     http.Header // Accept, Range
	cred       credentials.Credential
	bulk       bool  // much content is asked for
	call       *call // nil where the request is the whole call
}

// An answer is a response with the watch over it, whose end frees both.
type answer struct {
	*http.Response
	url     *url.URL // that answered
	host    string   // of url
	left    bool     // it came from another origin than the one asked
	private bool     // the first hop was to a private address
	watch   *watch
	secrets []string // that the request carried
}

func (a *answer) end() {
	a.watch.end()
	_ = a.Body.Close() // nothing was written, nothing can be lost
}

// ask makes a request of an endpoint and answers its challenge. What it returns
// has a status of success, or 416; everything else is an error. One try: what
// may be asked again is up to the caller.
func (ep *endpoint) ask(ctx context.Context, r request) (*answer, error) {
	scheme := ep.scheme()
	a, err := ep.authorized(ctx, scheme, r)
	switch {
	case err == nil || !ep.guessed:
		return a, err
	case scheme == "https" && ep.noTLS(ctx, err):
		return ep.askPlain(ctx, r, err)
	case scheme == "http" && (content.KindOf(err) == content.ErrNetwork || statusOf(err) == http.StatusBadRequest):
		ep.plain.Store(false) // perhaps it has learned TLS
	}
	return nil, err
}

// askPlain asks a loopback registry by http after https failed there. What is
// spoken there is remembered once there was an answer; 400 is what a TLS server
// says to http.
func (ep *endpoint) askPlain(ctx context.Context, r request, secure error) (*answer, error) {
	a, err := ep.authorized(ctx, "http", r)
	if status := statusOf(err); err == nil || status != 0 && status != http.StatusBadRequest {
		ep.plain.Store(true)
		return a, err
	}
	if retryable(secure) && !retryable(err) {
		return nil, secure
	}
	return nil, err
}

// noTLS reports whether a loopback registry failed because it speaks no TLS at
// all. A certificate that is wrong is TLS, and what a proxy does says nothing about
// the registry behind it. A Transport of the caller's may use a proxy unseen.
func (ep *endpoint) noTLS(ctx context.Context, err error) bool {
	if ctx.Err() != nil || ep.trips.spokeTLS.Load() || ep.trips.proxied.Load() || ep.client.Transport != nil {
		return false
	}
	kind := content.KindOf(err)
	return kind == content.ErrNetwork || kind == content.ErrTLS
}

// authorized sends a request with the Authorization that is known, and again
// with another one as long as the registry's own origin wants that.
func (ep *endpoint) authorized(ctx context.Context, scheme string, r request) (*answer, error) {
	u := ep.url(scheme, r.repository, r.kind, r.name)
	s := &session{ep: ep, key: authKey{originOf(u), r.cred, r.repository}.clean(), call: r.call}
	if s.call == nil {
		s.call = &call{}
	}
	defer s.end()
	auth, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	var before []string // the server knows these secrets as well
	for {
		a, err := ep.follow(ctx, u, r, auth)
		if err != nil {
			return nil, err
		}
		a.secrets = append(a.secrets, before...)
		if a.StatusCode/100 == 2 || a.StatusCode == http.StatusRequestedRangeNotSatisfiable {
			s.accepted(auth)
			return a, nil
		}
		refused := a.refusal(r.method) // frees the connection for the token or the next try
		if a.left {
			return nil, a.heldBack(refused, u)
		}
		if auth, err = s.next(ctx, auth, a, refused); err != nil {
			return nil, err
		}
		before = a.secrets
	}
}

// heldBack says of a 401 from another origin than the one that was asked, home,
// why it was not answered.
func (a *answer) heldBack(refused *content.Error, home *url.URL) error {
	if a.StatusCode != http.StatusUnauthorized {
		return refused
	}
	return a.failf(refused.Kind, "%w: the credential was held back and no token was asked for, because a redirect led away from %s",
		refused.Err, quote(home.Host, 200, a.secrets))
}

// follow sends a request and goes where redirects lead, within the rules. The
// Authorization goes to the endpoint's own origin only, and no more once a
// redirect has left it.
func (ep *endpoint) follow(ctx context.Context, u *url.URL, r request, auth authorization) (*answer, error) {
	home := originOf(u)
	if !fieldValue(auth.header) {
		return nil, failf(content.ErrUnauthorized, u.Host, "the credential's token has characters that no header can carry")
	}
	a := &answer{watch: newWatch(ctx, ep.client.stall()), secrets: slices.Concat(auth.secrets(), secretsOf(r.cred), ep.secrets())}
	for hops := 0; ; hops++ {
		own := originOf(u) == home
		a.left = a.left || !own
		req := &http.Request{Method: r.method, URL: u, Host: u.Host, Header: ep.header(r, auth, own, a.left),
			Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
		a.url, a.host = u, u.Host
		a.watch.arm()
		resp, hop, err := ep.send(req.WithContext(a.watch.ctx), route{own: own, fromPrivate: a.private && !own, bulk: r.bulk}, a.secrets)
		a.watch.rest()
		if err != nil {
			if own {
				err = ep.advise(err)
			}
			err = failTrip(a.watch.ctx, u.Host, err, a.secrets)
			a.watch.end()
			return nil, err
		}
		if hops == 0 {
			a.private = hop.private(u.Hostname())
		}
		a.Response = resp
		if !isRedirect(resp.StatusCode) {
			return a, nil
		}
		next, err := ep.target(u, resp.Header.Get("Location"), r.kind == "blobs", a.secrets)
		a.drain()
		if err == nil && hops == maxRedirects {
			err = a.failf(content.ErrRedirect, "more than %d redirects", maxRedirects)
		}
		if err != nil {
			a.watch.end()
			return nil, err
		}
		u = next
	}
}

// send makes one request and tells the log.
func (ep *endpoint) send(req *http.Request, r route, secrets []string) (*http.Response, *hop, error) {
	began := time.Now()
	resp, hop, err := ep.trips.send(req, r)
	if err == nil {
		ep.client.logWarnings(req.Context(), req.URL.Host, resp.Header, secrets)
	}
	if log := ep.client.logger(); log.Enabled(req.Context(), slog.LevelDebug) {
		attrs := []any{"method", req.Method, "url", redact.URL(req.URL, secrets...), "took", time.Since(began)}
		if err == nil {
			log.DebugContext(req.Context(), "request", append(attrs, "status", resp.StatusCode, "protocol", resp.Proto)...)
		} else { // the error itself is for who asked
			log.DebugContext(req.Context(), "request failed", attrs...)
		}
	}
	return resp, hop, err
}

// header makes the headers of one hop.
func (ep *endpoint) header(r request, auth authorization, own, left bool) http.Header {
	h := http.Header{"User-Agent": {ep.client.userAgent()}, "Accept-Encoding": {"identity"}}
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

// target checks where a redirect leads. A blob may be fetched over http after https if
// the caller listed the host, because its bytes are verified by digest and carry no
// credential; a manifest behind a tag and a token are not verified by anything else.
func (ep *endpoint) target(from *url.URL, location string, blob bool, secrets []string) (*url.URL, error) {
	failf := func(kind content.Kind, format string, args ...any) error {
		return fail(kind, from.Host, fmt.Errorf(format, args...), secrets...)
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
		return nil, failf(content.ErrForbiddenURL, "a redirect from https to http, to %s; to allow it for blobs, list that host in Client.PlainHTTP", quote(u.Host, 200, secrets))
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

// refusal reads why a request was refused, and ends the answer.
func (a *answer) refusal(method string) *content.Error {
	e := &StatusError{Method: method, URL: redact.URL(a.url, a.secrets...), Status: a.StatusCode}
	e.Codes = reasons(a.Header.Get("Content-Type"), a.readError(), a.secrets)
	a.watch.end()
	kind := kindOfStatus(e)
	if kind == content.ErrRateLimited || kind == content.ErrUnavailable {
		e.RetryAfter, _ = retryAfter(a.Header, time.Now())
	}
	return a.fail(kind, e)
}

// unexpected is the error for a status of success that has no meaning here.
func (a *answer) unexpected(kind content.Kind) error {
	return a.fail(kind, &StatusError{Method: http.MethodGet, URL: redact.URL(a.url, a.secrets...), Status: a.StatusCode})
}

// readError reads an error body as far as it may matter. A short one is read to
// its end, so that the connection can be used again; a long one costs the
// connection. All of it may take as long as one stall.
func (a *answer) readError() []byte {
	a.watch.arm()
	defer a.watch.rest()
	body, _ := io.ReadAll(io.LimitReader(a.Body, maxErrorBody))
	_ = a.Body.Close()
	return body
}

// drain reads the body of a redirect, which nobody needs, so that its connection can
// be used again. A body that does not end soon is closed, which costs the connection;
// the request goes on to where the redirect leads.
func (a *answer) drain() {
	a.watch.arm()
	defer a.watch.rest()
	late := time.AfterFunc(min(probeTime, a.watch.limit/2), func() { _ = a.Body.Close() })
	defer late.Stop()
	_, _ = io.CopyN(io.Discard, a.Body, maxErrorBody)
	_ = a.Body.Close()
}

// identity checks that an answer is not encoded: what is asked for is named by
// the digest of the bytes as they are.
func (a *answer) identity() error {
	encoding := strings.TrimSpace(strings.Join(a.Header.Values("Content-Encoding"), ", "))
	if encoding == "" || strings.EqualFold(encoding, "identity") {
		return nil
	}
	return a.failf(content.ErrContentEncoding, "Content-Encoding %s, although identity was asked for", quote(encoding, 40, a.secrets))
}
