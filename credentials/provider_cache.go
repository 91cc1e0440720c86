package credentials

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pullkit/pullkit/internal/expiring"
)

// maxCached bounds the answers that are kept of one plugin.
const maxCached = 10_000

// A cache keeps the answers of one plugin for as long as the plugin said. The keys of
// an answer are matched again at each look-up, so that one which is kept for all images
// still goes only where its keys say.
type cache struct {
	kept expiring.Map[question, table]

	mu     sync.Mutex
	learnt cacheScope // what the last answer was kept for; "" if it was not kept
	known  bool       // the plugin was run before
}

// get looks for an answer for the image, then its registry, then all.
func (c *cache) get(q question) (table, bool) {
	for _, scope := range []cacheScope{scopeImage, scopeRegistry, scopeGlobal} {
		if answer, ok := c.kept.Get(q.within(scope)); ok {
			return answer, true
		}
	}
	return table{}, false
}

// put keeps an answer, unless it is to be used once.
func (c *cache) put(q question, scope cacheScope, answer table, keep time.Duration) {
	if keep <= 0 {
		c.learn("")
		return
	}
	c.learn(scope)
	c.kept.Put(q.within(scope), answer, endOf(keep))
}

// endOf is when an answer that is good for a while is forgotten. At the very end of its
// time it is still good.
func endOf(keep time.Duration) time.Time { return time.Now().Add(keep + 1) }

// learn notes what the last answer was kept for; "" if there was none to keep.
func (c *cache) learn(scope cacheScope) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known, c.learnt = true, scope
}

// scope says which questions wait for each other: those that one answer held for
// the last time. Before the first answer that is not known, and all wait for it,
// so that a node that starts a hundred Pods runs the plugin once.
func (c *cache) scope(q question) question {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.known:
		return q.within(scopeGlobal)
	case c.learnt == "":
		return q
	}
	return q.within(c.learnt)
}

// secrets returns the passwords of the answers that are kept.
func (c *cache) secrets() []string {
	var out []string
	for _, answer := range c.kept.All() {
		for _, e := range answer.entries {
			out = append(out, e.cred.Password.Reveal())
		}
	}
	return out
}

// within widens a question to what an answer is good for. No image's name has
// angle brackets.
func (q question) within(scope cacheScope) question {
	switch scope {
	case scopeRegistry:
		q.image, _ = cutPath(q.image)
	case scopeGlobal:
		q.image = "<global>"
	}
	return q
}

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

// parseResponse reads an answer strictly: a field that is not known or is there
// twice is an error.
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
func (r response) check(p pluginConfig, token Sensitive) error {
	if r.scope != scopeImage && r.scope != scopeRegistry && r.scope != scopeGlobal {
		return errors.New("cacheKeyType is not Image, Registry or Global")
	}
	if p.Token == nil || token.IsZero() || p.Token.CacheType == cacheByToken {
		return nil
	}
	for _, item := range r.auth {
		if item.password == token {
			return errors.New("it returns the service-account token as a password, which needs the cacheType Token")
		}
	}
	return nil
}

// table makes a response ready to be looked up. Keys that say the same come in
// reverse byte order, because the text may have passed a YAML reader.
func (p *provider) table(r response, account ServiceAccount, now time.Time, keep time.Duration) table {
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
	return newTable(es)
}
