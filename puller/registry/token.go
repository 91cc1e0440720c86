package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/internal/strictjson"
	"github.com/pullkit/pullkit/puller/content"
)

const (
	maxToken = 1 << 20
	// defaultLife is how long a token lives that does not say so
	// (distribution's token specification).
	defaultLife = time.Minute
	maxLife     = 24 * time.Hour
)

// fetchToken gets a token from a realm that may be asked. It tries again what
// may be tried again, within twice the stall time.
func (ep *endpoint) fetchToken(ctx context.Context, want tokenRequest) (token string, life time.Duration, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*ep.client.stall(), errStalled)
	defer cancel()
	p := ep.client.patience()
	for {
		token, life, err = ep.tokenOnce(ctx, want)
		if err == nil {
			return token, life, nil
		}
		if want.ahead {
			break
		}
		deadline, _ := ctx.Deadline()
		if asked, _ := askedToWait(err); asked > time.Until(deadline) {
			break
		}
		last := err
		if err = p.next(ctx, err); err == nil {
			continue
		}
		if errors.Is(context.Cause(ctx), errStalled) {
			err = last // it says more than that the time is over
		}
		break
	}
	ep.client.logger().InfoContext(ctx, "no token", "realm", redact.URL(want.realm, secretsOf(want.cred)...), "error", err)
	return "", 0, asTokenError(err, hasPassword(want.cred) || !want.cred.IdentityToken.IsZero())
}

// tokenOnce makes one try, in the form that the credential wants: an identity
// token is exchanged by POST, a password is shown by GET. A server that does not
// know the method is asked with the password by the other one.
func (ep *endpoint) tokenOnce(ctx context.Context, want tokenRequest) (string, time.Duration, error) {
	if !want.cred.IdentityToken.IsZero() {
		token, life, err := ep.tokenTry(ctx, want, url.Values{
			"grant_type": {"refresh_token"}, "refresh_token": {want.cred.IdentityToken.Reveal()}})
		if !unknownMethod(err) || want.cred.Password.IsZero() {
			return token, life, err
		}
		return ep.tokenTry(ctx, want, nil)
	}
	token, life, err := ep.tokenTry(ctx, want, nil)
	if !unknownMethod(err) || !hasPassword(want.cred) {
		return token, life, err
	}
	return ep.tokenTry(ctx, want, url.Values{
		"grant_type": {"password"}, "username": {want.cred.Username}, "password": {want.cred.Password.Reveal()}})
}

func unknownMethod(err error) bool {
	status := statusOf(err)
	return status == http.StatusMethodNotAllowed || status == http.StatusNotFound
}

// tokenTry makes one request: a POST of the form if there is one, else a GET.
// Redirects within the realm's own origin are followed, no others.
func (ep *endpoint) tokenTry(ctx context.Context, want tokenRequest, form url.Values) (string, time.Duration, error) {
	a := &answer{watch: newWatch(ctx, ep.client.stall()), secrets: secretsOf(want.cred)}
	defer a.watch.end()
	u := *want.realm
	u.Fragment, u.RawFragment = "", ""
	for hops := 0; ; hops++ {
		req, err := ep.tokenHTTP(a.watch.ctx, want, &u, form, hops == 0)
		if err != nil {
			return "", 0, fail(content.ErrNetwork, u.Host, err, a.secrets...)
		}
		a.url, a.host = req.URL, req.URL.Host
		resp, _, err := ep.send(req, route{own: want.own, fromPrivate: want.private && !want.own}, a.secrets)
		if err != nil {
			return "", 0, failTrip(a.watch.ctx, u.Host, err, a.secrets)
		}
		a.Response = resp
		if !isRedirect(resp.StatusCode) {
			return a.token(req.Method)
		}
		next, err := ep.target(req.URL, resp.Header.Get("Location"), false, a.secrets)
		a.drain()
		switch {
		case err != nil:
			return "", 0, err
		case originOf(next) != originOf(&u):
			return "", 0, a.failf(content.ErrForbiddenURL, "the token server leads to another origin, %s", quote(next.Host, 200, a.secrets))
		case hops == maxRedirects:
			return "", 0, a.failf(content.ErrRedirect, "more than %d redirects", maxRedirects)
		case form != nil && resp.StatusCode != http.StatusTemporaryRedirect && resp.StatusCode != http.StatusPermanentRedirect:
			return "", 0, a.failf(content.ErrRedirect, "a redirect that turns POST into GET")
		}
		u = *next
	}
}

// tokenHTTP makes the request; first says that the query is still to be added.
func (ep *endpoint) tokenHTTP(ctx context.Context, want tokenRequest, u *url.URL, form url.Values, first bool) (*http.Request, error) {
	method, body := http.MethodGet, io.Reader(nil)
	v := *u
	if form != nil {
		fields := url.Values{"client_id": {ep.client.userAgent()}, "scope": {strings.Join(want.scopes, " ")}}
		if want.service != "" {
			fields.Set("service", want.service)
		}
		for name, values := range form {
			fields[name] = values
		}
		method, body = http.MethodPost, strings.NewReader(fields.Encode())
	} else if first {
		query := v.Query()
		if want.service != "" {
			query.Set("service", want.service)
		}
		query["scope"] = want.scopes
		v.RawQuery = query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, v.String(), body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", ep.client.userAgent())
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Accept-Encoding", "identity")
	switch {
	case form != nil:
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	case hasPassword(want.cred):
		req.Header.Set("Authorization", basic(want.cred).header)
	}
	return req, nil
}

// token reads a token server's answer and ends it.
func (a *answer) token(method string) (string, time.Duration, error) {
	if a.StatusCode != http.StatusOK {
		return "", 0, a.refusal(method)
	}
	if err := a.identity(); err != nil {
		a.end()
		return "", 0, err
	}
	a.watch.arm()
	body, err := io.ReadAll(io.LimitReader(a.Body, maxToken+1))
	defer a.end()
	switch {
	case err != nil:
		return "", 0, failTrip(a.watch.ctx, a.host, early(err), a.secrets)
	case len(body) > maxToken:
		return "", 0, a.failf(content.ErrTooLarge, "a token answer of more than %d bytes", maxToken)
	}
	token, life, err := parseToken(body)
	if err != nil {
		return "", 0, a.failf(content.ErrUnauthorized, "the token answer cannot be used: %w", err)
	}
	return token, life, nil
}

// parseToken reads a token document. Its life counts from now: the server's
// clock need not be ours.
func parseToken(body []byte) (token string, life time.Duration, err error) {
	var access string
	life = defaultLife
	err = strictjson.Decode(body, strictjson.Limits{}, func(r *strictjson.Reader) error {
		return r.Object([]string{"token", "access_token", "expires_in"}, func(key string) (err error) {
			switch key {
			case "token":
				token, err = r.String()
			case "access_token":
				access, err = r.String()
			case "expires_in":
				life, err = readLife(r)
			}
			return err
		})
	})
	if err != nil {
		return "", 0, err
	}
	if token == "" {
		token = access
	}
	if token == "" {
		return "", 0, errors.New("there is no token in it")
	}
	for i := range len(token) {
		if c := token[i]; c <= ' ' || c > '~' {
			return "", 0, errors.New("the token has characters that no header can carry")
		}
	}
	return token, life, nil
}

// readLife reads expires_in, seconds. What is no number above zero counts as not said.
func readLife(r *strictjson.Reader) (time.Duration, error) {
	raw, err := r.Raw()
	if err != nil {
		return 0, err
	}
	seconds, ok := parseOffset(strings.Trim(string(raw), `"`))
	if !ok || seconds == 0 {
		return defaultLife, nil
	}
	return time.Duration(min(seconds, int64(maxLife/time.Second))) * time.Second, nil
}
