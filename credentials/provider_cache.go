package credentials

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// maxCached bounds the answers that are kept of one plugin.
	maxCached = 10_000
	// purgeEvery is how often answers are dropped that nobody asks for again.
	purgeEvery = 15 * time.Minute
)

// A cache keeps the answers of one plugin for what the plugin said they are good
// for. The keys of an answer are matched anew at each look-up, so that one which
// is kept for all images still goes only where its keys say.
type cache struct {
	mu     sync.Mutex
	kept   map[question]cached
	purged time.Time
	learnt cacheScope // what the last answer was kept for; "" if there was none
	known  bool       // the plugin was run before
}

type cached struct {
	answer  table
	expires time.Time
}

// get looks for an answer for the image, then its registry, then all.
func (c *cache) get(q question, now time.Time) (table, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, scope := range []cacheScope{scopeImage, scopeRegistry, scopeGlobal} {
		key := q.within(scope)
		if k, ok := c.kept[key]; ok {
			if !now.After(k.expires) { // at its very end it is still good
				return k.answer, true
			}
			delete(c.kept, key)
		}
	}
	return table{}, false
}

// put keeps an answer, unless it is to be used once.
func (c *cache) put(q question, scope cacheScope, a table, now time.Time, keep time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = true
	if keep <= 0 {
		c.learnt = ""
		return
	}
	c.learnt = scope
	c.purge(now)
	if c.kept == nil {
		c.kept = map[question]cached{}
	}
	c.kept[q.within(scope)] = cached{a, now.Add(keep)}
}

// purge drops what has expired, now and then, and some of the rest when there is
// too much.
func (c *cache) purge(now time.Time) {
	if len(c.kept) < maxCached && now.Before(c.purged.Add(purgeEvery)) {
		return
	}
	c.purged = now
	for key, k := range c.kept {
		if now.After(k.expires) {
			delete(c.kept, key)
		}
	}
	for key := range c.kept {
		if len(c.kept) < maxCached {
			return
		}
		delete(c.kept, key)
	}
}

// failed notes that there was no answer to keep.
func (c *cache) failed(question) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known, c.learnt = true, ""
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
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, k := range c.kept {
		for _, e := range k.answer.entries {
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

// table makes a response ready to be looked up. Keys that say the same come in
// reverse byte order, since the text may have passed a YAML reader.
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
