package registry

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/content"
)

// A tokenRequest is what a token is asked for, and whether the way there is open.
type tokenRequest struct {
	realm   *url.URL // nil for no request
	own     bool     // the realm is at the origin that challenged
	near    bool     // the registry had a private address when it named the realm
	private bool     // the realm may have a private address
	service string
	scopes  []string
	cred    credentials.Credential
	ahead   bool // the registry did not ask for it yet: one try is enough
}

// same reports whether two requests ask one token server for the same.
func (t tokenRequest) same(other tokenRequest) bool {
	return t.realm != nil && other.realm != nil && t.realm.String() == other.realm.String() &&
		t.service == other.service && slices.Equal(t.scopes, other.scopes)
}

// errNobody marks a Bearer challenge that names no token server. It endangers no
// secret, so another challenge may be met.
var errNobody = errors.New("the realm names no token server")

// wanted makes a token request from a Bearer challenge, if its realm may be asked.
func (ep *endpoint) wanted(key authKey, c challenge, a *answer) (tokenRequest, error) {
	raw := c.params["realm"]
	if c.unclear {
		return tokenRequest{}, a.failf(content.ErrUnauthorized, "a Bearer challenge with more than one realm")
	}
	if raw == "" {
		return tokenRequest{}, a.fail(content.ErrUnauthorized, nobody("a Bearer challenge without realm"))
	}
	realm, err := url.Parse(raw)
	if err != nil {
		return tokenRequest{}, a.failf(content.ErrForbiddenURL, "token realm %s is not a URL", quote(withoutQuery(raw), 200, a.secrets))
	}
	if realm.Scheme == "" && realm.Host == "" {
		return tokenRequest{}, a.fail(content.ErrForbiddenURL, nobody("token realm "+quote(withoutQuery(raw), 200, a.secrets)+" is not an http or https URL"))
	}
	want := tokenRequest{realm: realm, service: c.params["service"], cred: key.cred, near: a.private, own: originOf(realm) == key.origin}
	if err := ep.checkRealm(&want, key.origin, a.secrets); err != nil {
		return tokenRequest{}, a.fail(content.ErrForbiddenURL, err)
	}
	want.scopes = scopes(c.params["scope"], ep.repository(key.repository))
	return want, nil
}

// A nobodyError is errNobody with a text of its own.
type nobodyError string

func nobody(text string) error { return nobodyError(text) }

func (e nobodyError) Error() string        { return string(e) }
func (e nobodyError) Is(target error) bool { return target == errNobody }

// checkRealm applies the rules for token servers. Who may be sent a password is
// not the registry's to say alone: the registry's own origin may, and any https
// server if the registry itself is https, as Docker Hub's must.
func (ep *endpoint) checkRealm(want *tokenRequest, registry origin, secrets []string) error {
	realm := want.realm
	want.private = want.near
	scheme := strings.ToLower(realm.Scheme)
	switch {
	case scheme != "http" && scheme != "https" || realm.Hostname() == "":
		return fmt.Errorf("token realm %s is not an http or https URL", quote(withoutQuery(realm.Redacted()), 200, secrets))
	case realm.User != nil:
		return fmt.Errorf("token realm at %s has user info", quote(realm.Host, 200, secrets))
	case want.own:
		return nil
	}
	if allow := ep.client.AllowRealm; allow != nil {
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
		return fmt.Errorf("token realm %s is plain http, the registry is https: the registry's own configuration should name an https realm, or Client.AllowRealm allow this one", quote(realm.Host, 200, secrets))
	}
	return fmt.Errorf("token realm %s is another origin than the registry, which is plain http: Client.AllowRealm can allow it", quote(realm.Host, 200, secrets))
}

// scopes lists what to ask access to: what the challenge says, or pulling from
// the repository. Where a registry asks for more than pulling, no more than
// pulling is asked.
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

// lacksScope reports whether a challenge says that a token was good and lacks a
// scope (RFC 6750, section 3.1).
func (c challenge) lacksScope() bool {
	return c.scheme == "bearer" && c.params["error"] == "insufficient_scope"
}

// pullsOnly reports whether a scope that a registry misses is one that a pull may
// ask for: pulling from one of the names of the repository, or "*", with which
// some registries name all that a user may do.
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

// withoutQuery cuts what may hold a secret off what is not quite a URL.
func withoutQuery(raw string) string {
	if i := strings.IndexAny(raw, "?#"); i >= 0 {
		return raw[:i]
	}
	return raw
}
