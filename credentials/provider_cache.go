package credentials

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pullkit/pullkit/credentials/internal/keys"
	"github.com/pullkit/pullkit/internal/expiring"
)

// maxCached is the number of answers of one plugin that are kept.
const maxCached = 10_000

// A cache keeps the answers of one plugin, each as long as the plugin says. Each look-up
// matches the keys of an answer again, so that the credentials of an answer for all images
// are used only for the images that their keys match.
type cache struct {
	kept expiring.Map[question, table]

	mu     sync.Mutex
	learnt cacheScope // the scope of the last answer; "" if that was not kept
	known  bool       // the plugin was run before
}

// get returns the answer that is kept for the image, else the one for its registry, else the
// one for all images.
func (c *cache) get(q question) (table, bool) {
	for _, scope := range []cacheScope{scopeImage, scopeRegistry, scopeGlobal} {
		if answer, ok := c.kept.Get(q.within(scope)); ok {
			return answer, true
		}
	}
	return table{}, false
}

// put keeps an answer for the duration keep. If that is 0 or less, it does not keep it.
func (c *cache) put(q question, scope cacheScope, answer table, keep time.Duration) {
	if keep <= 0 {
		c.learn("")
		return
	}
	c.learn(scope)
	c.kept.Put(q.within(scope), answer, endOf(keep))
}

// endOf returns the time at which an answer that is kept from now on is forgotten. It is a
// nanosecond later than keep, so that the answer is still used at exactly that time.
func endOf(keep time.Duration) time.Time { return time.Now().Add(keep + 1) }

// learn notes the scope of the last answer; "" if there was none, or it was not kept.
func (c *cache) learn(scope cacheScope) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known, c.learnt = true, scope
}

// scope returns the key of the run that q shares: questions with the same key wait for the
// same run. The key has the scope of the last answer, because the next one probably has the
// same. Before the first answer all questions share one run, so that a node that starts a
// hundred Pods runs the plugin once.
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

// secrets returns the passwords in the answers that are kept.
func (c *cache) secrets() []string {
	var out []string
	for _, answer := range c.kept.All() {
		for _, e := range answer.entries {
			out = append(out, e.cred.Password.Reveal())
		}
	}
	return out
}

// within returns the question that is the same for all images of a scope. "<global>" is not
// the name of an image, because those have no angle brackets.
func (q question) within(scope cacheScope) question {
	switch scope {
	case scopeRegistry:
		q.image, _ = keys.CutPath(q.image)
	case scopeGlobal:
		q.image = "<global>"
	}
	return q
}

// A request is the document that a plugin reads from its standard input: a
// CredentialProviderRequest of Kubernetes.
type request struct {
	Kind        string            `json:"kind"`
	APIVersion  string            `json:"apiVersion"`
	Image       string            `json:"image"`
	Token       string            `json:"serviceAccountToken,omitempty"`
	Annotations map[string]string `json:"serviceAccountAnnotations,omitempty"`
}

// A response is the document that a plugin wrote: a CredentialProviderResponse of
// Kubernetes. Errors do not quote its text, because it may hold secrets at any place.
type response struct {
	scope    cacheScope
	duration *time.Duration // nil means the default of the configuration
	auth     []authItem     // in the order of the text
	noAuth   bool           // auth is null or missing
}

type authItem struct {
	key      string
	username string
	password Sensitive
}

// A cacheScope says for which images an answer is kept. Its values are those of the field
// cacheKeyType.
type cacheScope string

const (
	scopeImage    cacheScope = "Image"
	scopeRegistry cacheScope = "Registry"
	scopeGlobal   cacheScope = "Global"
)

// parseResponse reads an answer strictly: an unknown field, or a field that is there twice,
// is an error.
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

// check returns an error if the answer must not be used: if its scope is unknown, or if it
// returns the service-account token, which may be used only for that token's Pod.
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

// table returns the table of a response. Keys that mean the same come in reverse byte order,
// and not in the order of the text, because a reader of YAML does not keep that.
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
