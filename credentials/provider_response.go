package credentials

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A request is what a plugin reads from its standard input.
type request struct {
	Kind        string            `json:"kind"`
	APIVersion  string            `json:"apiVersion"`
	Image       string            `json:"image"`
	Token       string            `json:"serviceAccountToken,omitempty"`
	Annotations map[string]string `json:"serviceAccountAnnotations,omitempty"`
}

// A response is what a plugin wrote. Its text may hold secrets at any place: no
// error quotes it.
type response struct {
	scope    cacheScope
	duration *time.Duration // nil: the default of the configuration
	auth     []authItem     // in the order of the text
	noAuth   bool           // null
}

type authItem struct {
	key      string
	username string
	password Sensitive
}

// A cacheScope says what an answer is good for.
type cacheScope string

const (
	scopeImage    cacheScope = "Image"
	scopeRegistry cacheScope = "Registry"
	scopeGlobal   cacheScope = "Global"
)

// parseResponse reads an answer strictly: a field that is not known or stands in
// it twice is an error.
func parseResponse(data []byte, apiVersion string) (response, error) {
	data, err := readDocument(data)
	if err != nil {
		return response{}, err
	}
	f := readAnswer(data)
	if got := f.string("apiVersion"); f.err == nil && got != apiVersion {
		return response{}, fmt.Errorf("apiVersion is not %s", apiVersion)
	}
	if kind := f.string("kind"); f.err == nil && kind != "CredentialProviderResponse" {
		return response{}, errors.New("kind is not CredentialProviderResponse")
	}
	r := response{scope: cacheScope(f.string("cacheKeyType")), duration: f.duration("cacheDuration")}
	value, ok := f.take("auth")
	if err := f.done(); err != nil {
		return response{}, err
	}
	if !ok {
		r.noAuth = true
		return r, nil
	}
	members, err := readObject(value)
	if err != nil {
		return response{}, fmt.Errorf("auth %w", err)
	}
	if len(lastOfEach(members)) != len(members) {
		return response{}, errors.New("auth holds a key twice")
	}
	for _, m := range members {
		e := readAnswer(m.Value)
		item := authItem{key: m.Key, username: e.string("username"), password: Conceal(e.string("password"))}
		if err := e.done(); err != nil {
			return response{}, fmt.Errorf("an entry of auth %w", err)
		}
		r.auth = append(r.auth, item)
	}
	return r, nil
}

// check refuses answers that must not be used or kept.
func (r response) check(p Provider, token Sensitive) error {
	if r.scope != scopeImage && r.scope != scopeRegistry && r.scope != scopeGlobal {
		return errors.New("cacheKeyType is not Image, Registry or Global")
	}
	if p.Token == nil || token.IsZero() || p.Token.CacheType == CacheByToken {
		return nil
	}
	for _, item := range r.auth {
		if item.password == token {
			return errors.New("it returns the service-account token as a password, which needs the cacheType Token")
		}
	}
	return nil
}

// answer makes a response ready to be looked up. Keys that say the same come in
// reverse byte order, since the text may have passed a YAML reader.
func (p *provider) answer(r response, account ServiceAccount, now time.Time, keep time.Duration) answer {
	items := slices.Clone(r.auth)
	slices.SortFunc(items, func(a, b authItem) int { return strings.Compare(b.key, a.key) })
	es := entries{rules: p.rules}
	for _, item := range items {
		c := Credential{Username: item.username, Password: item.password, Origin: p.origin()}
		if c.Anonymous() && !p.rules.Kubelet {
			continue
		}
		c.Origin.Key, c.Origin.ServiceAccount = item.key, account
		if r.duration != nil && keep > 0 {
			c.Expires = now.Add(keep).Round(0)
		}
		es.add(c)
	}
	t := newTable(p.rules, es.list)
	return answer{&t, es.problems}
}
