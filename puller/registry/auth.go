package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"sync"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/internal/share"
	"github.com/pullkit/pullkit/puller/content"
)

// An authorization is the value of one Authorization header; zero for none.
type authorization struct {
	header string
	token  string       // of Bearer
	want   tokenRequest // what token was asked for; zero where it was not asked for
	// ahead says that it was chosen by what is remembered of the origin, before
	// the registry asked for it.
	ahead bool
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

// maxAuths is how many tokens, origins and repositories are each remembered at most.
// What was not used for longest goes first.
const maxAuths = 4096

// auths remembers how to authenticate, so that a challenge is met once.
type auths struct {
	mu      sync.Mutex
	origins recent[authKey, *originAuth] // by keys without a repository
	tokens  recent[authKey, *tokenEntry]
	// opened says what opened a repository, where what is remembered of its origin
	// does not say it: "basic" for the password, "open" for no Authorization.
	opened recent[authKey, string]
	// fetches has the tokens that are being fetched. It has a lock of its own.
	fetches share.Calls[authKey, authorization]
}

// An originAuth is what one origin wants of one credential: the scheme of its
// challenge and, for Bearer, the token server. A repository that was not asked for
// before begins with that. It is a saving and never a verdict: the rules for
// token servers and addresses are applied at each use, and where it turns out
// wrong, the registry is asked without an Authorization.
type originAuth struct {
	scheme  string        // "basic" or "bearer"; "" where nothing was asked for
	bearer  tokenRequest  // for scheme "bearer"; its scopes are those of repository
	name    string        // the repository that the challenge was about
	probing chan struct{} // closed when the first answer has come; nil after that
}

// Mask implements content.Masker: it masks cred and the tokens had for it.
func (c *Client) Mask(cred credentials.Credential, text string) string {
	secrets := secretsOf(cred)
	c.auths.mu.Lock()
	for key, e := range c.auths.tokens.all() {
		if key.cred.Same(cred) {
			secrets = append(secrets, e.token)
		}
	}
	c.auths.mu.Unlock()
	return redact.Secrets(text, secrets...)
}

// A tokenEntry is a bearer token that was fetched; token is empty if the registry
// refused it.
type tokenEntry struct {
	token  string
	renew  time.Time // when to fetch the next one
	wanted tokenRequest
}

func (e *tokenEntry) fresh() bool { return time.Now().Before(e.renew) }

func (e *tokenEntry) authorization() authorization {
	auth := bearer(e.token)
	auth.want = e.wanted
	return auth
}

// forget throws away a token that the registry refuses.
func (a *auths) forget(key authKey, token string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e, _ := a.tokens.get(key); e != nil && e.token == token {
		e.token = ""
	}
}

// opens remembers what opened a repository.
func (a *auths) opens(key authKey, with string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.opened.put(key, with)
}

// token returns a token other than used: the one that is kept, or a new one. One
// request is made for a new token, however many callers wait for it.
func (a *auths) token(ctx context.Context, ep *endpoint, key authKey, used string, want tokenRequest) (authorization, error) {
	if auth, ok := a.kept(key, used); ok {
		return auth, nil
	}
	auth, err := a.fetches.Do(ctx, key, func(ctx context.Context) (authorization, error) {
		if auth, ok := a.kept(key, used); ok { // another fetch has ended meanwhile
			return auth, nil
		}
		return a.fetch(ctx, ep, key, want)
	})
	if err != nil && ctx.Err() != nil {
		return authorization{}, canceled(ctx, key.origin.host)
	}
	return auth, err
}

// kept returns the token that is kept for key, if it is fresh and is not used.
func (a *auths) kept(key authKey, used string) (authorization, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e, _ := a.tokens.get(key); e != nil && e.token != "" && e.token != used && e.fresh() {
		return e.authorization(), true
	}
	return authorization{}, false
}

// fetch gets a token and keeps it, unless every caller has left meanwhile.
func (a *auths) fetch(ctx context.Context, ep *endpoint, key authKey, want tokenRequest) (authorization, error) {
	token, life, err := ep.fetchToken(ctx, want)
	if err != nil {
		return authorization{}, err
	}
	want.ahead = false // what is kept was granted, however it was asked for
	if ctx.Err() == nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		e := a.entry(key)
		e.token, e.renew, e.wanted = token, time.Now().Add(life-early10(life)), want
	}
	auth := bearer(token)
	auth.want = want
	return auth, nil
}

// early10 is how long before its end a token is renewed: a tenth of its life,
// at most ten seconds.
func early10(life time.Duration) time.Duration { return min(life/10, 10*time.Second) }

// entry returns the entry of a key, and makes room for it. The caller holds the lock.
func (a *auths) entry(key authKey) *tokenEntry {
	if e, ok := a.tokens.get(key); ok {
		return e
	}
	e := &tokenEntry{}
	a.tokens.put(key, e)
	return e
}

// A tokenError marks that what failed was getting a token, which has had its
// own tries.
type tokenError struct {
	err   error
	shown bool // a password or an identity token was shown for it
}

func (e *tokenError) Error() string {
	if e.err == nil {
		return "no token"
	}
	return "no token: " + e.err.Error()
}
func (e *tokenError) Unwrap() error { return e.err }

// asTokenError marks err. A status that would say something of an image says here
// only that there is no token, because the image's registry was not asked: another
// credential may get one.
func asTokenError(err error, shown bool) error {
	var e *content.Error
	if !errors.As(err, &e) {
		return err
	}
	marked := *e
	marked.Err = &tokenError{e.Err, shown}
	switch marked.Kind {
	case content.ErrNotFound, content.ErrStatus:
		if status := statusOf(err); status >= 400 {
			marked.Kind = content.ErrUnauthorized
		}
	}
	return &marked
}
