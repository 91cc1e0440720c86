package registry

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/content"
)

// A tokenRequest is what a token is asked for, and whether the way there is open.
type tokenRequest struct {
	realm   *url.URL
	own     bool // the realm is at the origin that challenged
	private bool // it may have a private address
	service string
	scopes  []string
	cred    credentials.Credential
}

// wanted makes a token request from a Bearer challenge, if its realm may be asked.
func (ep *endpoint) wanted(key authKey, c challenge, a *answer) (tokenRequest, error) {
	raw := c.params["realm"]
	if raw == "" {
		return tokenRequest{}, a.failf(content.ErrUnauthorized, "a Bearer challenge without realm")
	}
	realm, err := url.Parse(raw)
	if err != nil {
		return tokenRequest{}, a.failf(content.ErrForbiddenURL, "token realm %s is no URL", quote(raw, 200, a.secrets))
	}
	want := tokenRequest{realm: realm, service: c.params["service"], cred: key.cred, private: a.private, own: originOf(realm) == key.origin}
	if err := ep.checkRealm(&want, key.origin, a.secrets); err != nil {
		return tokenRequest{}, a.fail(content.ErrForbiddenURL, err)
	}
	want.scopes = scopes(c.params["scope"], ep.repository(key.repository))
	return want, nil
}

// checkRealm applies the rules for token servers. Who may be sent a password is
// not the registry's to say alone: the registry's own origin may, and any https
// server if the registry itself is https, as Docker Hub's must.
func (ep *endpoint) checkRealm(want *tokenRequest, registry origin, secrets []string) error {
	realm := want.realm
	scheme := strings.ToLower(realm.Scheme)
	switch {
	case scheme != "http" && scheme != "https" || realm.Hostname() == "":
		return fmt.Errorf("token realm %s is no http or https URL", quote(realm.Redacted(), 200, secrets))
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
		return fmt.Errorf("token realm %s is plain http, the registry is https", quote(realm.Host, 200, secrets))
	}
	return fmt.Errorf("token realm %s is another origin than the registry, which is plain http", quote(realm.Host, 200, secrets))
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
		if actions := strings.Split(scope[cut+1:], ","); slices.Contains(actions, "pull") || slices.Contains(actions, "*") {
			list[i] = scope[:cut] + ":pull"
		}
	}
	return list
}
