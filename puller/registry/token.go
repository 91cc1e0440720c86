package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/internal/strictjson"
	"github.com/pullkit/pullkit/puller/content"
)

// A tokenRequest names a token and the token server that it is requested from.
type tokenRequest struct {
	realm       *url.URL // the token server; nil for no request
	own         bool     // the realm is at the registry's own origin
	fromPrivate bool     // the registry named the realm from a private address
	private     bool     // the realm may have a private address
	service     string
	scopes      []string
	cred        credentials.Credential
	early       bool // the registry has not asked for the token yet, so only one try is made
}

// same reports whether two requests ask the same token server for the same scopes.
func (t tokenRequest) same(other tokenRequest) bool {
	return t.realm != nil && other.realm != nil && t.realm.String() == other.realm.String() &&
		t.service == other.service && slices.Equal(t.scopes, other.scopes)
}

// errNoTokenServer marks a Bearer challenge that does not name a token server. Because
// such a challenge leads a secret nowhere, another challenge of the same answer may be
// answered.
var errNoTokenServer = errors.New("the challenge does not name a token server")

// tokenRequest makes a token request from a Bearer challenge. It returns an error if a
// secret must not go to the realm of the challenge.
func (ep *endpoint) tokenRequest(key authKey, c challenge, a *answer) (tokenRequest, error) {
	raw := c.params["realm"]
	if c.unclear {
		return tokenRequest{}, a.failf(content.ErrUnauthorized, "a Bearer challenge with more than one realm")
	}
	if raw == "" {
		return tokenRequest{}, a.fail(content.ErrUnauthorized, &described{"a Bearer challenge without realm", errNoTokenServer})
	}
	realm, err := url.Parse(raw)
	if err != nil {
		return tokenRequest{}, a.failf(content.ErrForbiddenURL, "token realm %s is not a URL", quote(withoutQuery(raw), 200, a.secrets))
	}
	if realm.Scheme == "" && realm.Host == "" {
		return tokenRequest{}, a.fail(content.ErrForbiddenURL, &described{"token realm " + quote(withoutQuery(raw), 200, a.secrets) + " is not an http or https URL", errNoTokenServer})
	}
	want := tokenRequest{realm: realm, service: c.params["service"], cred: key.login.cred, fromPrivate: a.private, own: originOf(realm) == key.origin}
	if err := ep.checkRealm(&want, key.origin, a.secrets); err != nil {
		return tokenRequest{}, a.fail(content.ErrForbiddenURL, err)
	}
	want.scopes = scopes(c.params["scope"], ep.repository(key.repository))
	return want, nil
}

// checkRealm returns an error if the rules do not allow the token server to get a
// secret, and sets want.private. The registry's own origin is allowed. Any https server
// is allowed if the registry itself is https, which Docker Hub needs. Every other
// server needs Config.AllowRealm.
func (ep *endpoint) checkRealm(want *tokenRequest, registry origin, secrets []string) error {
	realm := want.realm
	want.private = want.fromPrivate
	scheme := strings.ToLower(realm.Scheme)
	switch {
	case scheme != "http" && scheme != "https" || realm.Hostname() == "":
		return fmt.Errorf("token realm %s is not an http or https URL", quote(withoutQuery(realm.Redacted()), 200, secrets))
	case realm.User != nil:
		return fmt.Errorf("token realm at %s has user info", quote(realm.Host, 200, secrets))
	case want.own:
		return nil
	}
	if allow := ep.client.cfg.AllowRealm; allow != nil {
		shown := *realm
		if allow(ep.registry, &shown) {
			want.private = true
			return nil
		}
	}
	switch {
	case scheme == "https" && registry.scheme == "https":
		return nil
	case scheme == "http" && registry.scheme == "https":
		return fmt.Errorf("token realm %s is plain http, although the registry is https: configure an https realm in the registry, or allow this one with Config.AllowRealm", quote(realm.Host, 200, secrets))
	}
	return fmt.Errorf("token realm %s is at another origin than the registry, which is plain http; Config.AllowRealm can allow it", quote(realm.Host, 200, secrets))
}

// scopes returns the scopes to request: those of the challenge or, if it has none, the
// pull action for the repository. If a scope of the challenge has more actions than
// pull, only pull is requested.
func scopes(challenged, repository string) []string {
	list := strings.Fields(challenged)
	if len(list) == 0 {
		return []string{"repository:" + repository + ":pull"}
	}
	for i, scope := range list {
		cut := strings.LastIndexByte(scope, ':')
		if cut <= 0 || !strings.HasPrefix(scope, "repository:") {
			continue
		}
		if mayPull(scope[cut+1:]) {
			list[i] = scope[:cut] + ":pull"
		}
	}
	return list
}

func mayPull(actions string) bool {
	list := strings.Split(actions, ",")
	return slices.Contains(list, "pull") || slices.Contains(list, "*")
}

func isRepositoryScope(scope string) bool { return strings.HasPrefix(scope, "repository:") }

// lacksScope reports whether a challenge says that a token was good but lacks a scope
// (RFC 6750, section 3.1).
func (c challenge) lacksScope() bool {
	return c.scheme == "bearer" && c.params["error"] == "insufficient_scope"
}

// pullsOnly reports whether a pull may request a missing scope: the pull action for one
// of the names of the repository, or "*", which some registries use for all rights of a
// user.
func pullsOnly(scope string, names ...string) bool {
	list := strings.Fields(scope)
	for _, s := range list {
		cut := strings.LastIndexByte(s, ':')
		own := cut > 0 && isRepositoryScope(s) && slices.Contains(names, strings.TrimPrefix(s[:cut], "repository:")) && mayPull(s[cut+1:])
		if s != "*" && !own {
			return false
		}
	}
	return len(list) > 0
}

// withoutQuery returns a text that is not a valid URL without its query and fragment,
// which may contain a secret.
func withoutQuery(raw string) string {
	if i := strings.IndexAny(raw, "?#"); i >= 0 {
		return raw[:i]
	}
	return raw
}

const (
	maxTokenAnswer = 1 << 20
	// maxToken is how long a token may be. The Client remembers one for each repository.
	maxToken = 64 << 10
	// defaultLife is the life of a token if the token server does not send one
	// (distribution's token specification).
	defaultLife = time.Minute
	maxLife     = 24 * time.Hour
)

// fetchToken requests a token from a realm that checkRealm has allowed. It makes
// further tries as patience allows, within twice the stall time.
func (ep *endpoint) fetchToken(ctx context.Context, want tokenRequest) (token string, life time.Duration, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*ep.client.cfg.StallTimeout, errStalled)
	defer cancel()
	p := ep.client.patience()
	for {
		token, life, err = ep.tokenOnce(ctx, want)
		if err == nil {
			return token, life, nil
		}
		if want.early {
			break
		}
		deadline, _ := ctx.Deadline()
		if retryAfterOf(err) > time.Until(deadline) {
			break
		}
		last := err
		if err = p.next(ctx, err); err == nil {
			continue
		}
		if errors.Is(context.Cause(ctx), errStalled) {
			err = last // it says more than errStalled
		}
		break
	}
	ep.client.cfg.Logger.InfoContext(ctx, "no token", "realm", redact.URL(want.realm, secretsOf(want.cred)...), "error", err)
	return "", 0, asTokenError(err, want)
}

// tokenOnce makes one try with the method that the credential needs: POST for an
// identity token, GET for a password. If the server does not know the method, the
// password is sent with the other method.
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

// tokenTry makes one request: a POST of form, or a GET if form is nil. It follows
// redirects within the realm's own origin only.
func (ep *endpoint) tokenTry(ctx context.Context, want tokenRequest, form url.Values) (string, time.Duration, error) {
	a := ep.newAnswer(ctx, secretsOf(want.cred))
	defer a.stall.end()
	u := *want.realm
	u.Fragment, u.RawFragment = "", ""
	for hops := 0; ; hops++ {
		req, err := ep.tokenHTTP(a.stall.ctx, want, &u, form, hops == 0)
		if err != nil {
			return "", 0, fail(content.ErrNetwork, u.Host, err, a.secrets...)
		}
		a.url, a.host = req.URL, req.URL.Host
		a.stall.start()
		resp, _, err := ep.send(req, transportKey{own: want.own, fromPrivate: want.private && !want.own}, a.secrets)
		if err != nil {
			return "", 0, failTrip(a.stall.ctx, u.Host, err, a.secrets)
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
			return "", 0, a.failf(content.ErrForbiddenURL, "the token server redirects to another origin, %s", quote(next.Host, 200, a.secrets))
		case hops == maxRedirects:
			return "", 0, a.failf(content.ErrRedirect, "more than %d redirects", maxRedirects)
		case form != nil && resp.StatusCode != http.StatusTemporaryRedirect && resp.StatusCode != http.StatusPermanentRedirect:
			return "", 0, a.failf(content.ErrRedirect, "a redirect that turns POST into GET")
		}
		u = *next
		a.secrets = append(a.secrets, querySecrets(next)...)
	}
}

// tokenHTTP makes the HTTP request. first says that no redirect was followed yet. The
// query is then added, because a redirect has its own.
func (ep *endpoint) tokenHTTP(ctx context.Context, want tokenRequest, u *url.URL, form url.Values, first bool) (*http.Request, error) {
	method, body := http.MethodGet, io.Reader(nil)
	v := *u
	if form != nil {
		fields := url.Values{"client_id": {ep.client.cfg.UserAgent}, "scope": {strings.Join(want.scopes, " ")}}
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
	req.Header.Set("User-Agent", ep.client.cfg.UserAgent)
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

// token reads the answer of a token server, and ends it.
func (a *answer) token(method string) (string, time.Duration, error) {
	if a.StatusCode != http.StatusOK {
		return "", 0, a.refusal(method)
	}
	if err := a.checkEncoding(); err != nil {
		a.end()
		return "", 0, err
	}
	a.stall.start()
	body, err := io.ReadAll(io.LimitReader(a.Body, maxTokenAnswer+1))
	defer a.end()
	switch {
	case err != nil:
		return "", 0, failTrip(a.stall.ctx, a.host, tooEarly(err), a.secrets)
	case len(body) > maxTokenAnswer:
		return "", 0, a.failf(content.ErrTooLarge, "a token answer of more than %d bytes", maxTokenAnswer)
	}
	token, life, err := parseToken(body)
	if err != nil {
		return "", 0, a.failf(content.ErrUnauthorized, "the token answer cannot be used: %w", err)
	}
	return token, life, nil
}

// parseToken reads a token document. The life counts from now, because the server's
// clock may differ from the clock of this machine.
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
		return "", 0, errors.New("it has no token")
	}
	if len(token) > maxToken {
		return "", 0, fmt.Errorf("the token has more than %d bytes", maxToken)
	}
	for i := range len(token) {
		if c := token[i]; c <= ' ' || c > '~' {
			return "", 0, errors.New("the token has characters that no header can carry")
		}
	}
	return token, life, nil
}

// readLife reads expires_in, in seconds. A value that is not a number above zero counts
// as missing.
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

// A tokenError marks an error of a token request. Such a request has made its further
// tries already.
type tokenError struct {
	err        error
	secretSent bool // a password or an identity token was sent
	// unfinished says that the request was early, so that only one try was made, and
	// that the credential was not refused.
	unfinished bool
}

func (e *tokenError) Error() string {
	if e.err == nil {
		return "no token"
	}
	return "no token: " + e.err.Error()
}

func (e *tokenError) Unwrap() error { return e.err }

// asTokenError marks err as an error of a token request. A status such as 404 says
// nothing about the image here, because the token server sent it and not the registry.
// It becomes ErrUnauthorized, because another credential may get a token.
func asTokenError(err error, want tokenRequest) error {
	var e *content.Error
	if !errors.As(err, &e) {
		return err
	}
	marked := *e
	switch marked.Reason {
	case content.ErrNotFound, content.ErrStatus:
		if status := statusOf(err); status >= 400 {
			marked.Reason = content.ErrUnauthorized
		}
	}
	marked.Err = &tokenError{
		err:        e.Err,
		secretSent: hasPassword(want.cred) || !want.cred.IdentityToken.IsZero(),
		unfinished: want.early && marked.Reason != content.ErrUnauthorized && marked.Reason != content.ErrDenied,
	}
	return &marked
}

// unfinished reports whether err is the failure of an early token request that says
// nothing about the credential, so that the token may be requested again.
func unfinished(err error) bool {
	var token *tokenError
	return errors.As(err, &token) && token.unfinished
}
