package credentials

import (
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
	answer  answer
	expires time.Time
}

// get looks for an answer for the image, then its registry, then all.
func (c *cache) get(q question, now time.Time) (answer, bool) {
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
	return answer{}, false
}

// put keeps an answer, unless it is to be used once.
func (c *cache) put(q question, scope cacheScope, a answer, now time.Time, keep time.Duration) {
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
		for _, e := range k.answer.entries() {
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
