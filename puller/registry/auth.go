package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"sync"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/panics"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/puller/content"
)

// An authorization is the value of one Authorization header; zero for none.
type authorization struct {
	header string
	token  string // of Bearer
}

func bearer(token string) authorization { return authorization{"Bearer " + token, token} }

func basic(cred credentials.Credential) authorization {
	return authorization{header: "Basic " + basicValue(cred)}
}

func basicValue(cred credentials.Credential) string {
	return base64.StdEncoding.EncodeToString([]byte(cred.Username + ":" + cred.Password.Reveal()))
}

func hasPassword(cred credentials.Credential) bool {
	return cred.Username != "" || !cred.Password.IsZero()
}

// secrets lists what of it no error may repeat.
func (a authorization) secrets() []string { return []string{a.token} }

func secretsOf(cred credentials.Credential) []string {
	secrets := []string{cred.Password.Reveal(), cred.IdentityToken.Reveal(), cred.RegistryToken.Reveal()}
	if !cred.Password.IsZero() {
		secrets = append(secrets, basicValue(cred))
	}
	return secrets
}

// An authKey is what an Authorization is good for: one credential, at one
// origin, in one repository. What one credential opened is never used for
// another.
type authKey struct {
	origin     origin
	cred       credentials.Credential
	repository string
}

// clean leaves out what takes no part in authenticating.
func (k authKey) clean() authKey {
	k.cred.Origin, k.cred.Expires = credentials.Origin{}, time.Time{}
	return k
}

// anywhere is the key of what is good in each repository.
func (k authKey) anywhere() authKey {
	k.repository = ""
	return k
}

// maxAuths is how many tokens are kept. Those that have expired go first.
const maxAuths = 4096

// auths remembers how to authenticate, so that a challenge is met once.
type auths struct {
	mu     sync.Mutex
	basics map[authKey]bool
	tokens map[authKey]*tokenEntry
}

// Mask implements content.Masker: it masks cred and the tokens had for it.
func (c *Client) Mask(cred credentials.Credential, text string) string {
	secrets := secretsOf(cred)
	c.auths.mu.Lock()
	for key, e := range c.auths.tokens {
		if key.cred.Same(cred) {
			secrets = append(secrets, e.token)
		}
	}
	c.auths.mu.Unlock()
	return redact.Secrets(text, secrets...)
}

// A tokenEntry is a bearer token, or the flight that fetches one.
type tokenEntry struct {
	token  string
	renew  time.Time // when to fetch the next one
	wanted tokenRequest
	flight *flight
}

// A flight is a token being fetched for all who wait for it. It ends when the
// last of them has left.
type flight struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiting int

	// Set before done is closed.
	token    string
	err      error
	panicked *panics.Error // of a callback, such as Client.AllowRealm
}

// current returns the Authorization to begin with. It fetches a token only to
// follow one that has expired.
func (a *auths) current(ctx context.Context, ep *endpoint, key authKey) (authorization, error) {
	if !key.cred.RegistryToken.IsZero() {
		return bearer(key.cred.RegistryToken.Reveal()), nil
	}
	a.mu.Lock()
	e := a.tokens[key]
	switch {
	case e == nil || e.token == "":
		defer a.mu.Unlock()
		if a.basics[key.anywhere()] {
			return basic(key.cred), nil
		}
		return authorization{}, nil
	case time.Now().Before(e.renew):
		defer a.mu.Unlock()
		return bearer(e.token), nil
	}
	a.mu.Unlock()
	return a.token(ctx, ep, key, e.token, e.wanted)
}

// answer meets the challenges of a 401, which came from the origin of key.
// used is what was refused.
func (a *auths) answer(ctx context.Context, ep *endpoint, key authKey, used authorization, a401 *answer, refused *content.Error) (authorization, error) {
	challenges, err := parseChallenges(a401.Header.Values("WWW-Authenticate"), a401.secrets...)
	if err != nil {
		return authorization{}, a401.failf(content.ErrUnauthorized, "%w: %w", err, refused.Err)
	}
	for _, c := range challenges {
		if c.scheme == "bearer" && (key.cred.RegistryToken.IsZero() || hasPassword(key.cred)) {
			want, err := ep.wanted(key, c, a401)
			if err != nil {
				return authorization{}, err
			}
			return a.token(ctx, ep, key, used.token, want)
		}
	}
	for _, c := range challenges {
		if c.scheme == "basic" && hasPassword(key.cred) && used.header != basic(key.cred).header {
			a.mu.Lock()
			defer a.mu.Unlock()
			if a.basics == nil || len(a.basics) >= maxAuths {
				a.basics = map[authKey]bool{}
			}
			a.basics[key.anywhere()] = true
			return basic(key.cred), nil
		}
	}
	return authorization{}, refused
}

// token returns a token other than used: the one at hand, or a new one, for
// which one request is made however many wait.
func (a *auths) token(ctx context.Context, ep *endpoint, key authKey, used string, want tokenRequest) (authorization, error) {
	a.mu.Lock()
	e := a.entry(key)
	if e.token != "" && e.token != used && time.Now().Before(e.renew) {
		defer a.mu.Unlock()
		return bearer(e.token), nil
	}
	f := e.flight
	if f == nil {
		f = a.takeOff(ctx, ep, e, want)
	}
	f.waiting++
	a.mu.Unlock()

	select {
	case <-f.done:
		f.panicked.Raise()
		if f.err != nil {
			return authorization{}, f.err
		}
		return bearer(f.token), nil
	case <-ctx.Done():
		a.mu.Lock()
		defer a.mu.Unlock()
		if f.waiting--; f.waiting == 0 {
			f.cancel()
			if e.flight == f {
				e.flight = nil // who comes now wants a flight that goes on
			}
		}
		return authorization{}, canceled(ctx, key.origin.host)
	}
}

// takeOff begins to fetch a token. The caller holds the lock.
func (a *auths) takeOff(ctx context.Context, ep *endpoint, e *tokenEntry, want tokenRequest) *flight {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight{done: make(chan struct{}), cancel: cancel}
	e.flight = f
	var life time.Duration
	go panics.Catch(func() {
		f.token, life, f.err = ep.fetchToken(ctx, want)
	}, func(panicked *panics.Error) {
		cancel()
		a.mu.Lock()
		defer a.mu.Unlock()
		f.panicked = panicked
		if e.flight == f {
			e.flight = nil
			if f.err == nil && panicked == nil {
				e.token, e.renew, e.wanted = f.token, time.Now().Add(life-early10(life)), want
			}
		}
		close(f.done)
	})
	return f
}

// early10 is how long before its end a token is renewed: a tenth of its life,
// at most ten seconds.
func early10(life time.Duration) time.Duration { return min(life/10, 10*time.Second) }

// entry returns the entry of a key, and makes room for it. The caller holds the lock.
func (a *auths) entry(key authKey) *tokenEntry {
	if e := a.tokens[key]; e != nil {
		return e
	}
	if a.tokens == nil {
		a.tokens = map[authKey]*tokenEntry{}
	}
	if len(a.tokens) >= maxAuths {
		now := time.Now()
		for k, e := range a.tokens {
			if e.flight == nil && (now.After(e.renew) || len(a.tokens) >= maxAuths) {
				delete(a.tokens, k)
			}
		}
	}
	e := &tokenEntry{}
	a.tokens[key] = e
	return e
}

// A tokenError marks that what failed was getting a token, which has had its
// own tries.
type tokenError struct{ err error }

func (e *tokenError) Error() string {
	if e.err == nil {
		return "no token"
	}
	return "no token: " + e.err.Error()
}
func (e *tokenError) Unwrap() error { return e.err }

// asTokenError marks err.
func asTokenError(err error) error {
	var e *content.Error
	if !errors.As(err, &e) {
		return err
	}
	marked := *e
	marked.Err = &tokenError{e.Err}
	return &marked
}
