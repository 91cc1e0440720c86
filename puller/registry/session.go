package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/pullkit/pullkit/puller/content"
)

// A session is the Authorization of one request to an endpoint: what to begin
// with, and what to send after each refusal by the registry itself. It is
// bounded: a kept token is replaced once, a challenge is met once and once more
// for a missing scope, and the registry is asked once without an Authorization
// that was chosen ahead.
type session struct {
	ep   *endpoint
	key  authKey
	call *call

	probe    *originAuth    // what this session finds out for others
	basic    bool           // the password was shown
	answered bool           // a Bearer challenge was met
	rescoped bool           // a token with another scope was asked for
	without  bool           // nothing is chosen ahead any more
	ahead    *content.Error // the refusal of what was chosen ahead
	misled   string         // the token that was chosen ahead and refused
	// aheadWant is what that token was asked for; zero for a password.
	aheadWant tokenRequest
	renewed   *StatusError // the refusal of a kept token that was replaced
}

// A call is what the requests of one call to a Client share. A token that was
// fetched in a call is fresh in it: that it is refused is the credential's fault.
type call struct {
	fetched []string
	asked   []tokenOutcome
	basic   []authKey // for which a challenge was met with the password
}

// A tokenOutcome is a token request with the error that it led to: no token was
// given, or the registry refused the one that was.
type tokenOutcome struct {
	want tokenRequest
	err  error
}

func (c *call) outcome(want tokenRequest) error {
	for _, o := range c.asked {
		if o.want.same(want) {
			return o.err
		}
	}
	return nil
}

// begin returns the Authorization to begin with. It ends with an error only
// where ctx does.
func (s *session) begin(ctx context.Context) (authorization, error) {
	if !s.key.cred.RegistryToken.IsZero() {
		return bearer(s.key.cred.RegistryToken.Reveal()), nil
	}
	auth, want, wait := s.remembered()
	if wait != nil {
		timer := time.NewTimer(probeWait)
		defer timer.Stop()
		select {
		case <-wait:
			auth, want, _ = s.remembered()
		case <-timer.C: // the registry is slow: each asks for itself
		case <-ctx.Done():
			return authorization{}, canceled(ctx, s.key.origin.host)
		}
	}
	if want.realm != nil {
		return s.fetchAhead(ctx, auth.token, want)
	}
	s.basic = auth.header != "" && auth.token == ""
	auth.ahead = auth.ahead && !slices.Contains(s.call.basic, s.key)
	return auth, nil
}

// probeWait is how long requests to an origin wait for the first answer of it,
// which says for all of them whether a token is wanted.
const probeWait = 250 * time.Millisecond

// remembered returns what the Client knows without asking anyone: an
// Authorization, or what to ask a token for. wait is not nil where another
// session is about to find out.
func (s *session) remembered() (auth authorization, want tokenRequest, wait chan struct{}) {
	a := &s.ep.client.auths
	a.mu.Lock()
	defer a.mu.Unlock()
	if e, _ := a.tokens.get(s.key); e != nil && e.token != "" {
		if e.fresh() {
			return e.authorization(), tokenRequest{}, nil
		}
		return e.authorization(), e.wanted, nil // to be renewed
	}
	switch opened, _ := a.opened.get(s.key); opened {
	case "open":
		return authorization{}, tokenRequest{}, nil
	case "basic":
		return basic(s.key.cred), tokenRequest{}, nil
	}
	o, _ := a.origins.get(s.key.anywhere())
	switch {
	case o == nil:
		s.probe = &originAuth{probing: make(chan struct{})}
		a.origins.put(s.key.anywhere(), s.probe)
	case o.probing != nil:
		return authorization{}, tokenRequest{}, o.probing
	case o.scheme == "basic":
		auth = basic(s.key.cred)
		auth.ahead = true
	case o.scheme == "bearer":
		want = o.bearer
		want.scopes = o.scopes(s.ep.repository(s.key.repository))
	}
	return auth, want, nil
}

// scopes lists what to ask access to in another repository than the one that the
// challenge was about.
func (o *originAuth) scopes(repository string) []string {
	own := scopes("", o.name)
	if slices.Equal(o.bearer.scopes, own) || slices.ContainsFunc(o.bearer.scopes, isRepositoryScope) {
		return scopes("", repository)
	}
	return o.bearer.scopes // such as "*"
}

// fetchAhead fetches a token before the registry asked for it. Without one the
// registry is asked without an Authorization, and what it answers counts.
func (s *session) fetchAhead(ctx context.Context, used string, want tokenRequest) (authorization, error) {
	s.without = true
	if s.ep.checkRealm(&want, s.key.origin, secretsOf(s.key.cred)) != nil || s.call.outcome(want) != nil {
		return authorization{}, nil
	}
	want.ahead = true
	auth, err := s.token(ctx, used, want)
	switch {
	case ctx.Err() != nil:
		return authorization{}, err
	case err != nil:
		return authorization{}, nil
	}
	s.without = false
	auth.ahead, auth.want.ahead = true, false
	return auth, nil
}

// token gets a token for this call.
func (s *session) token(ctx context.Context, used string, want tokenRequest) (authorization, error) {
	auth, err := s.ep.client.auths.token(ctx, s.ep, s.key, used, want)
	switch {
	case err == nil:
		s.call.fetched = append(s.call.fetched, auth.token)
	case ctx.Err() == nil:
		s.call.asked = append(s.call.asked, tokenOutcome{want, s.afterRenewal(err)})
		err = s.afterRenewal(err)
	}
	return auth, err
}

// kept reports whether a token is from an earlier call.
func (s *session) kept(auth authorization) bool {
	return auth.want.realm != nil && !slices.Contains(s.call.fetched, auth.token)
}

// accepted notes that the registry took the Authorization.
func (s *session) accepted(auth authorization) {
	if s.misled != "" && auth.token != s.misled {
		s.ep.client.auths.forget(s.key, s.misled)
	}
	switch {
	case auth.header == "" && s.without:
		s.ep.client.auths.opens(s.key, "open")
	case s.basic && auth.token == "":
		s.ep.client.auths.opens(s.key, "basic")
	}
}

// next returns the Authorization to ask with again after a refusal by the
// registry itself, or the error that the request ends with.
func (s *session) next(ctx context.Context, auth authorization, a *answer, refused *content.Error) (authorization, error) {
	switch {
	case a.StatusCode == http.StatusBadRequest, a.StatusCode == http.StatusUnauthorized, a.StatusCode == http.StatusForbidden:
	case auth.ahead && !s.without && a.StatusCode != http.StatusTooManyRequests && a.StatusCode <= http.StatusNotImplemented:
		// The answer may be about the Authorization that nobody asked for: some
		// registries say that what a token does not open does not exist.
		s.misled, s.aheadWant = auth.token, auth.want
		s.without, s.ahead = true, refused
		return authorization{}, nil
	default:
		if s.ahead != nil && auth.header == "" {
			return authorization{}, s.ahead
		}
		s.accepted(auth)
		return authorization{}, s.afterRenewal(refused)
	}
	kept := s.kept(auth)
	switch {
	case kept:
		s.ep.client.auths.forget(s.key, auth.token)
		errors.As(refused, &s.renewed)
		s.ep.client.logger().InfoContext(ctx, "a kept token was refused", "host", a.host, "status", a.StatusCode)
	case auth.want.realm != nil:
		s.call.asked = append(s.call.asked, tokenOutcome{auth.want, refused})
	case auth.header != "" && auth.token == "" && a.StatusCode == http.StatusUnauthorized:
		s.passwordRefused(refused)
	}
	if auth.ahead {
		s.misled, s.aheadWant = auth.token, auth.want
	}
	again, err := s.meet(ctx, auth, a, refused)
	switch {
	case err != error(refused):
		return again, err
	case kept:
		want := auth.want
		if err := s.ep.checkRealm(&want, s.key.origin, a.secrets); err != nil {
			return authorization{}, a.fail(content.ErrForbiddenURL, err)
		}
		return s.token(ctx, auth.token, want)
	case auth.ahead && !s.without:
		s.without, s.ahead = true, refused
		return authorization{}, nil
	case s.ahead != nil && auth.header == "":
		return authorization{}, s.ahead // it says more than what is said to anyone
	}
	return authorization{}, s.afterRenewal(refused)
}

// passwordRefused notes that a password was shown and refused. What is remembered
// of the origin goes where it has not opened the repository.
func (s *session) passwordRefused(refused *content.Error) {
	var status *StatusError
	if errors.As(refused, &status) {
		status.passwordRefused = true
	}
	a := &s.ep.client.auths
	a.mu.Lock()
	defer a.mu.Unlock()
	_, opened := a.opened.get(s.key)
	if o, _ := a.origins.get(s.key.anywhere()); o != nil && o.probing == nil && !opened {
		a.origins.delete(s.key.anywhere())
	}
}

// meet answers the challenges of a refusal. A Bearer challenge that can be met
// comes before Basic, and of equal ones the first. The error is refused where
// none can be met.
func (s *session) meet(ctx context.Context, auth authorization, a *answer, refused *content.Error) (authorization, error) {
	challenges, unmet := parseChallenges(a.Header.Values("WWW-Authenticate"), a.secrets...)
	if a.StatusCode != http.StatusUnauthorized {
		challenges = slices.DeleteFunc(challenges, func(c challenge) bool { return !c.lacksScope() })
	}
	for _, c := range challenges {
		if c.scheme != "bearer" || !s.key.cred.RegistryToken.IsZero() && !hasPassword(s.key.cred) {
			continue
		}
		want, err := s.ep.wanted(s.key, c, a)
		if errors.Is(err, errNobody) {
			unmet = err
			continue
		}
		if err != nil {
			return authorization{}, err
		}
		return s.challenged(ctx, auth, c, want, refused)
	}
	for _, c := range challenges {
		if c.scheme != "basic" {
			continue
		}
		if !hasPassword(s.key.cred) || s.basic {
			return authorization{}, refused
		}
		s.basic = true
		s.call.basic = append(s.call.basic, s.key)
		s.remember(&originAuth{scheme: "basic"})
		return basic(s.key.cred), nil
	}
	if unmet == nil || auth.header != "" || a.StatusCode != http.StatusUnauthorized {
		return authorization{}, refused
	}
	if content.KindOf(unmet) != "" {
		return authorization{}, unmet
	}
	return authorization{}, a.failf(content.ErrUnauthorized, "%w: %w", unmet, refused.Err)
}

// challenged gets the token that a Bearer challenge wants.
func (s *session) challenged(ctx context.Context, auth authorization, c challenge, want tokenRequest, refused *content.Error) (authorization, error) {
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
	if s.ahead != nil && auth.header == "" && s.aheadWant.same(want) {
		return authorization{}, s.ahead // the registry wants just the token that it got
	}
	if err := s.call.outcome(want); err != nil {
		if s.ahead != nil && auth.header == "" {
			err = s.ahead
		}
		return authorization{}, err
	}
	used := auth.token
	if used == "" {
		used = s.misled
	}
	return s.token(ctx, used, want)
}

// remember keeps what the origin wants of the credential, and lets those go on
// who waited for it.
func (s *session) remember(o *originAuth) {
	a := &s.ep.client.auths
	a.mu.Lock()
	if now, _ := a.origins.get(s.key.anywhere()); now == nil || now.probing == nil || now == s.probe {
		a.origins.put(s.key.anywhere(), o)
	}
	a.mu.Unlock()
	s.end()
}

// end lets those go on who waited for what this session finds out.
func (s *session) end() {
	if s.probe == nil {
		return
	}
	a := &s.ep.client.auths
	a.mu.Lock()
	defer a.mu.Unlock()
	close(s.probe.probing)
	s.probe.probing = nil
	s.probe = nil
}

// afterRenewal adds to an error that a kept token was refused before.
func (s *session) afterRenewal(err error) error {
	var e *content.Error
	if s.renewed == nil || !errors.As(err, &e) {
		return err
	}
	said := fmt.Sprintf("%d %s", s.renewed.Status, http.StatusText(s.renewed.Status))
	with := *e
	with.Err = fmt.Errorf("after a kept token was refused (%s): %w", said, e.Err)
	return &with
}
