package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/expiring"
	"github.com/pullkit/pullkit/internal/share"
	"github.com/pullkit/pullkit/puller/content"
)

// An authorization is the value of one Authorization header. The zero value is for a
// request without that header.
type authorization struct {
	header string
	token  string       // of Bearer; "" for a password
	want   tokenRequest // the request that got the token; zero if the caller gave the token
	// early says that the registry has not asked for this Authorization: the Client
	// sends it because of what it remembers of the origin.
	early bool
}

func bearer(token string) authorization {
	return authorization{header: "Bearer " + token, token: token}
}

func basic(cred credentials.Credential) authorization {
	return authorization{header: "Basic " + basicValue(cred)}
}

func basicValue(cred credentials.Credential) string {
	return base64.StdEncoding.EncodeToString([]byte(cred.Username + ":" + cred.Password.Reveal()))
}

func hasPassword(cred credentials.Credential) bool {
	return cred.Username != "" || !cred.Password.IsZero()
}

// secrets returns the parts of an authorization that no error may show.
func (a authorization) secrets() []string { return []string{a.token} }

// secretsOf returns the parts of a credential that no error may show.
func secretsOf(cred credentials.Credential) []string {
	secrets := []string{cred.Password.Reveal(), cred.IdentityToken.Reveal(), cred.RegistryToken.Reveal()}
	if !cred.Password.IsZero() {
		secrets = append(secrets, basicValue(cred))
	}
	return secrets
}

// An authKey is the scope of an Authorization: one credential, at one origin, in one
// repository. An Authorization that one credential got is never used for another
// credential or, at a mirror, for a request with another keyring.
type authKey struct {
	origin     origin
	login      login
	repository string
}

// A login says how a host is asked: with a credential and, at a mirror, for requests whose
// keyring has a fingerprint.
type login struct {
	cred credentials.Credential
	ring uint64 // 0 at a registry, and for a request without a keyring
}

// newAuthKey makes an authKey. It leaves out the fields of the credential that take no
// part in authenticating.
func newAuthKey(o origin, by login, repository string) authKey {
	by.cred.Origin, by.cred.Expires = credentials.Origin{}, time.Time{}
	return authKey{o, by, repository}
}

// anyRepository returns the key under which facts about the whole origin are kept.
func (k authKey) anyRepository() authKey {
	k.repository = ""
	return k
}

// authMemory is what a Client remembers of authenticating, so that one challenge is
// answered only once. It saves requests and decides nothing: the rules for token
// servers and addresses are applied at each use. If the registry refuses a remembered
// Authorization, it is asked without one.
type authMemory struct {
	mu           sync.Mutex                            // held while an entry is read and changed
	origins      expiring.Map[authKey, *originAuth]    // by keys without a repository
	repositories expiring.Map[authKey, repositoryAuth] // by keys with a repository
	requests     share.Calls[authKey, repositoryAuth]  // token requests under way
}

// An originAuth is what one origin requests for one credential: the scheme of its
// challenge and, for Bearer, the token server. The first request to another repository
// of that origin uses it.
type originAuth struct {
	scheme  string        // "basic" or "bearer"; "" where the origin requested nothing
	bearer  tokenRequest  // for scheme "bearer"; its scopes are those of repository
	name    string        // the repository that the challenge was about
	probing chan struct{} // closed when the first answer has come; nil after that
}

// A repositoryAuth is the authentication that opened one repository for one credential.
type repositoryAuth struct {
	token string       // of Bearer; "" if no token is known or the registry refused it
	want  tokenRequest // the request that got the token
	renew time.Time    // when to request the next token
	// scheme is set if the repository was opened in another way than the origin
	// requests elsewhere: "basic" by the password, "open" without an Authorization.
	scheme string
}

func (r repositoryAuth) fresh() bool { return r.token != "" && time.Now().Before(r.renew) }

func (r repositoryAuth) authorization() authorization {
	auth := bearer(r.token)
	auth.want = r.want
	return auth
}

// change applies fn to what is remembered of a repository.
func (m *authMemory) change(key authKey, fn func(*repositoryAuth)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, _ := m.repositories.Get(key)
	fn(&r)
	m.repositories.Put(key, r, time.Time{})
}

// forget removes a token that the registry has refused.
func (m *authMemory) forget(key authKey, token string) {
	m.change(key, func(r *repositoryAuth) {
		if r.token == token {
			r.token = ""
		}
	})
}

// opened remembers the scheme that opened a repository.
func (m *authMemory) opened(key authKey, scheme string) {
	m.change(key, func(r *repositoryAuth) { r.scheme = scheme })
}

// token returns a token other than used: the one that is remembered, or a new one.
// Callers that need the new one at the same time share one request for it.
func (m *authMemory) token(ctx context.Context, ep *endpoint, key authKey, used string, want tokenRequest) (authorization, error) {
	remembered := func() (repositoryAuth, bool) {
		r, _ := m.repositories.Get(key)
		return r, r.fresh() && r.token != used
	}
	if r, ok := remembered(); ok {
		return r.authorization(), nil
	}
	request := func(ctx context.Context) (repositoryAuth, error) {
		if r, ok := remembered(); ok { // another request ended just before this one
			return r, nil
		}
		token, life, err := ep.fetchToken(ctx, want)
		if err != nil {
			return repositoryAuth{}, err
		}
		granted := want
		granted.early = false // from now on the token counts as one that the registry asked for
		got := repositoryAuth{token: token, want: granted, renew: time.Now().Add(life - renewBefore(life))}
		m.change(key, func(r *repositoryAuth) { r.token, r.want, r.renew = got.token, got.want, got.renew })
		return got, nil
	}
	r, err := m.requests.Do(ctx, key, request)
	for !want.early && unfinished(err) && ctx.Err() == nil { // the request that failed was an early one of another caller
		r, err = m.requests.Do(ctx, key, request)
	}
	switch {
	case err == nil:
		return r.authorization(), nil
	case ctx.Err() != nil:
		return authorization{}, canceled(ctx, key.origin.host)
	}
	return authorization{}, err
}

// renewBefore returns how long before the end of its life a token is renewed: a tenth
// of its life, at most ten seconds.
func renewBefore(life time.Duration) time.Duration { return min(life/10, 10*time.Second) }

// A call is the state that all requests of one call to a Client share. A token that was
// requested during the call is new: if the registry refuses it, the credential itself is
// refused.
type call struct {
	tokens []string      // requested during the call
	failed []failedToken // token requests that failed, or whose token was refused
	basic  []authKey     // keys for which a challenge was answered with the password
}

// A failedToken is a token request with the error that it led to.
type failedToken struct {
	want tokenRequest
	err  error // of the token server, or of the registry that refused the token
}

// failure returns the error of an equal token request of this call; nil if no such
// request failed.
func (c *call) failure(want tokenRequest) error {
	for _, f := range c.failed {
		if f.want.same(want) {
			return f.err
		}
	}
	return nil
}

// A session chooses the Authorization of one request to an endpoint. It chooses one at
// the beginning, and another one after each refusal by the registry itself. The number of
// tries is bounded. A remembered token is replaced once. A challenge is answered once,
// and once more for a missing scope. After the refusal of an Authorization that was
// chosen early, the registry is asked once without an Authorization.
type session struct {
	ep   *endpoint
	key  authKey
	call *call

	probe    *originAuth // this session's entry in authMemory.origins, while other sessions wait for it
	heard    bool        // the last answer shows what the origin requests
	basic    bool        // the password was sent
	answered bool        // a Bearer challenge was answered
	rescoped bool        // a token with another scope was requested
	// An Authorization that was chosen early may itself be the reason for a refusal.
	// After such a refusal no Authorization is chosen early any more (notEarly), and
	// the registry is asked without one. If that fails, too, the caller gets the first
	// refusal (earlyRefusal).
	notEarly     bool
	earlyRefusal *content.Error
	earlyToken   string       // "" for a password
	earlyWant    tokenRequest // zero for a password
	// renewed is the refusal of a remembered token that was replaced.
	renewed *statusError
}

// begin returns the Authorization of the first try. Its only error is that of ctx.
func (s *session) begin(ctx context.Context) (authorization, error) {
	if !s.key.login.cred.RegistryToken.IsZero() {
		return bearer(s.key.login.cred.RegistryToken.Reveal()), nil
	}
	auth, want, wait := s.remembered()
	late := time.NewTimer(probeWait)
	defer late.Stop()
	for wait != nil {
		select {
		case <-wait: // the other session may have ended without an answer
			auth, want, wait = s.remembered()
		case <-late.C: // the registry is slow: this session does not wait for the other one
			wait = nil
		case <-ctx.Done():
			return authorization{}, canceled(ctx, s.key.origin.host)
		}
	}
	if want.realm != nil {
		return s.tokenEarly(ctx, auth.token, want)
	}
	s.basic = auth.header != "" && auth.token == ""
	auth.early = auth.early && !slices.Contains(s.call.basic, s.key)
	return auth, nil
}

// probeWait is how long requests to an origin wait for the first answer of that origin,
// which shows to all of them whether the origin requests a token. It is longer than three
// round trips over a long distance, which the first answer takes.
const probeWait = time.Second

// remembered returns what the Client knows without a request: an Authorization, or the
// token request want that gets one. If wait is not nil, another session is asking the
// origin, and closes wait when it has the first answer.
func (s *session) remembered() (auth authorization, want tokenRequest, wait chan struct{}) {
	m := &s.ep.client.auth
	m.mu.Lock()
	defer m.mu.Unlock()
	r, _ := m.repositories.Get(s.key)
	switch {
	case r.fresh():
		return r.authorization(), tokenRequest{}, nil
	case r.token != "":
		return r.authorization(), r.want, nil // the token is expired and must be renewed
	case r.scheme == "open":
		return authorization{}, tokenRequest{}, nil
	case r.scheme == "basic":
		return basic(s.key.login.cred), tokenRequest{}, nil
	}
	o, _ := m.origins.Get(s.key.anyRepository())
	switch {
	case o == nil:
		s.probe = &originAuth{probing: make(chan struct{})}
		m.origins.Put(s.key.anyRepository(), s.probe, time.Time{})
	case o.probing != nil:
		return authorization{}, tokenRequest{}, o.probing
	case o.scheme == "basic":
		auth = basic(s.key.login.cred)
		auth.early = true
	case o.scheme == "bearer":
		want = o.bearer
		want.scopes = o.scopes(s.ep.repository(s.key.repository))
	}
	return auth, want, nil
}

// scopes returns the scopes to request for a repository, which may differ from the
// repository of the challenge.
func (o *originAuth) scopes(repository string) []string {
	own := scopes("", o.name)
	if slices.Equal(o.bearer.scopes, own) || slices.ContainsFunc(o.bearer.scopes, isRepositoryScope) {
		return scopes("", repository)
	}
	return o.bearer.scopes // such as "*"
}

// tokenEarly requests a token before the registry asks for one. If that fails, it
// returns no Authorization, and the registry's answer to a request without one counts.
func (s *session) tokenEarly(ctx context.Context, used string, want tokenRequest) (authorization, error) {
	s.notEarly = true
	if s.ep.checkRealm(&want, s.key.origin, secretsOf(s.key.login.cred)) != nil || s.call.failure(want) != nil {
		return authorization{}, nil
	}
	want.early = true
	auth, err := s.token(ctx, used, want)
	switch {
	case ctx.Err() != nil:
		return authorization{}, err
	case err != nil:
		s.forgetOrigin("bearer")
		return authorization{}, nil
	}
	s.notEarly = false
	auth.early, auth.want.early = true, false
	return auth, nil
}

// token gets a token for this call.
func (s *session) token(ctx context.Context, used string, want tokenRequest) (authorization, error) {
	auth, err := s.ep.client.auth.token(ctx, s.ep, s.key, used, want)
	switch {
	case err == nil:
		s.call.tokens = append(s.call.tokens, auth.token)
	case ctx.Err() == nil && !unfinished(err):
		err = s.afterRenewal(err)
		s.call.failed = append(s.call.failed, failedToken{want, err})
	}
	return auth, err
}

// remembersToken reports whether the token of auth comes from an earlier call.
func (s *session) remembersToken(auth authorization) bool {
	return auth.want.realm != nil && !slices.Contains(s.call.tokens, auth.token)
}

// accepted records that the registry accepted auth.
func (s *session) accepted(auth authorization) {
	if s.earlyToken != "" && auth.token != s.earlyToken {
		s.ep.client.auth.forget(s.key, s.earlyToken)
	}
	switch {
	case auth.header == "" && s.notEarly:
		s.ep.client.auth.opened(s.key, "open")
		if s.earlyRefusal != nil {
			s.forgetOrigin("")
		}
	case s.basic && auth.token == "":
		s.ep.client.auth.opened(s.key, "basic")
	}
}

// next returns the Authorization for another try after a refusal by the registry
// itself, or the error that ends the request.
func (s *session) next(ctx context.Context, auth authorization, a *answer, refused *content.Error) (authorization, error) {
	switch {
	case a.StatusCode == http.StatusBadRequest, a.StatusCode == http.StatusUnauthorized, a.StatusCode == http.StatusForbidden:
	case auth.early && !s.notEarly && a.StatusCode != http.StatusTooManyRequests && a.StatusCode <= http.StatusNotImplemented:
		// The reason for the answer may be the Authorization, for which the registry
		// did not ask: some registries answer 404 for a repository that the token does
		// not open.
		s.earlyToken, s.earlyWant = auth.token, auth.want
		s.notEarly, s.earlyRefusal = true, refused
		return authorization{}, nil
	default:
		if s.earlyRefusal != nil && auth.header == "" {
			return authorization{}, s.earlyRefusal
		}
		s.accepted(auth)
		return authorization{}, s.afterRenewal(refused)
	}
	remembered := s.remembersToken(auth)
	switch {
	case remembered:
		s.ep.client.auth.forget(s.key, auth.token)
		errors.As(refused, &s.renewed)
		s.ep.client.cfg.Logger.InfoContext(ctx, "a kept token was refused", "host", a.host, "status", a.StatusCode)
	case auth.want.realm != nil:
		s.call.failed = append(s.call.failed, failedToken{auth.want, refused})
	case auth.header != "" && auth.token == "" && a.StatusCode == http.StatusUnauthorized:
		s.passwordRefused(refused)
	}
	if auth.early {
		s.earlyToken, s.earlyWant = auth.token, auth.want
	}
	again, err := s.answerChallenge(ctx, auth, a, refused)
	switch {
	case err != error(refused):
		return again, err
	case remembered:
		want := auth.want
		if err := s.ep.checkRealm(&want, s.key.origin, a.secrets); err != nil {
			return authorization{}, a.fail(content.ErrForbiddenURL, err)
		}
		return s.token(ctx, auth.token, want)
	case auth.early && !s.notEarly:
		s.notEarly, s.earlyRefusal = true, refused
		return authorization{}, nil
	case s.earlyRefusal != nil && auth.header == "":
		return authorization{}, s.earlyRefusal // it says more than the refusal of a request without a credential
	}
	return authorization{}, s.afterRenewal(refused)
}

// passwordRefused records that the registry refused a password. It removes what is
// remembered of the origin, unless the memory says how this repository was opened before.
func (s *session) passwordRefused(refused *content.Error) {
	var status *statusError
	if errors.As(refused, &status) {
		status.passwordRefused = true
	}
	if r, _ := s.ep.client.auth.repositories.Get(s.key); r.scheme == "" {
		s.forgetOrigin("")
	}
}

// forgetOrigin removes what is remembered of the origin, because it was wrong for this
// repository. The next repository is then asked without it. If scheme is not "", it is
// removed only if the remembered scheme is scheme.
func (s *session) forgetOrigin(scheme string) {
	m := &s.ep.client.auth
	m.mu.Lock()
	defer m.mu.Unlock()
	if o, _ := m.origins.Get(s.key.anyRepository()); o != nil && o.probing == nil && (scheme == "" || o.scheme == scheme) {
		m.origins.Delete(s.key.anyRepository())
	}
}

// answerChallenge answers the challenges of a refusal. A Bearer challenge that can be
// answered comes before Basic; of equal challenges the first counts. If no challenge
// can be answered, the error is refused.
func (s *session) answerChallenge(ctx context.Context, auth authorization, a *answer, refused *content.Error) (authorization, error) {
	challenges, fault := parseChallenges(a.Header.Values("WWW-Authenticate"), a.secrets...)
	if a.StatusCode != http.StatusUnauthorized {
		challenges = slices.DeleteFunc(challenges, func(c challenge) bool { return !c.lacksScope() })
	}
	for _, c := range challenges {
		if c.scheme != "bearer" || !s.key.login.cred.RegistryToken.IsZero() && !hasPassword(s.key.login.cred) {
			continue
		}
		want, err := s.ep.tokenRequest(s.key, c, a)
		if errors.Is(err, errNoTokenServer) {
			fault = err
			continue
		}
		if err != nil {
			return authorization{}, err
		}
		return s.answerBearer(ctx, auth, c, want, refused)
	}
	for _, c := range challenges {
		if c.scheme != "basic" {
			continue
		}
		if !hasPassword(s.key.login.cred) || s.basic {
			return authorization{}, refused
		}
		s.basic = true
		s.call.basic = append(s.call.basic, s.key)
		s.remember(&originAuth{scheme: "basic"})
		return basic(s.key.login.cred), nil
	}
	if fault == nil || auth.header != "" || a.StatusCode != http.StatusUnauthorized {
		return authorization{}, refused
	}
	if content.ReasonOf(fault) != "" {
		return authorization{}, fault
	}
	return authorization{}, a.failf(content.ErrUnauthorized, "%w: %w", fault, refused.Err)
}

// answerBearer gets the token that a Bearer challenge requests.
func (s *session) answerBearer(ctx context.Context, auth authorization, c challenge, want tokenRequest, refused *content.Error) (authorization, error) {
	repository := s.ep.repository(s.key.repository)
	switch {
	case c.lacksScope() && auth.token != "":
		if s.rescoped || auth.want.same(want) || !pullsOnly(c.params["scope"], repository, s.key.repository) {
			return authorization{}, refused
		}
		s.rescoped = true
	case s.answered:
		return authorization{}, refused
	}
	s.answered = true
	s.remember(&originAuth{scheme: "bearer", bearer: want, name: repository})
	if s.earlyRefusal != nil && auth.header == "" && s.earlyWant.same(want) {
		return authorization{}, s.earlyRefusal // the registry requests the same token that it has refused
	}
	if err := s.call.failure(want); err != nil {
		if s.earlyRefusal != nil && auth.header == "" {
			err = s.earlyRefusal
		}
		return authorization{}, err
	}
	used := auth.token
	if used == "" {
		used = s.earlyToken
	}
	return s.token(ctx, used, want)
}

// remember keeps what the origin requests for the credential, and wakes the sessions
// that wait for it.
func (s *session) remember(o *originAuth) {
	m := &s.ep.client.auth
	m.mu.Lock()
	if now, _ := m.origins.Get(s.key.anyRepository()); now == nil || now.probing == nil || now == s.probe {
		m.origins.Put(s.key.anyRepository(), o, time.Time{})
	}
	m.mu.Unlock()
	s.end()
}

// end wakes the sessions that wait for this one. If no answer has shown what the origin
// requests, one of them takes its place.
func (s *session) end() {
	if s.probe == nil {
		return
	}
	m := &s.ep.client.auth
	m.mu.Lock()
	defer m.mu.Unlock()
	if o, _ := m.origins.Get(s.key.anyRepository()); o == s.probe && !s.heard {
		m.origins.Delete(s.key.anyRepository())
	}
	close(s.probe.probing)
	s.probe.probing = nil
	s.probe = nil
}

// afterRenewal returns err. If a remembered token was refused before, the returned error
// says that, too.
func (s *session) afterRenewal(err error) error {
	var e *content.Error
	if s.renewed == nil || !errors.As(err, &e) {
		return err
	}
	with := *e
	with.Err = fmt.Errorf("after a kept token was refused (%d %s): %w", s.renewed.status, http.StatusText(s.renewed.status), e.Err)
	return &with
}
