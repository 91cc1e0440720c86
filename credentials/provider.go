package credentials

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pullkit/pullkit/internal/share"
)

// A provider is one plugin with its cache.
type provider struct {
	Provider
	rules    Rules
	patterns []pattern
	token    func(ctx context.Context, pod Pod, audience string) (Sensitive, error)
	now      func() time.Time
	log      *slog.Logger
	run      func(ctx context.Context, request []byte, secrets []string) (stdout []byte, err error)

	cache cache
	runs  share.Calls[question, answered]
}

// A question is what a plugin is asked: two that are equal have one answer.
type question struct {
	image string
	identity
}

// answered is the answer to a question, for callers with other questions too.
type answered struct {
	question question
	answer   answer
}

// An identity is whose answer it is: empty if no service account takes part.
type identity struct {
	account     ServiceAccount
	annotations string    // those passed on, encoded
	token       Sensitive // only where answers belong to the token
}

func (id identity) hash(h *maphash.Hash) {
	for _, s := range []string{id.account.Namespace, id.account.Name, id.account.UID, id.annotations} {
		hashString(h, s)
	}
}

func newProvider(c ProviderConfig, p Provider) (*provider, error) {
	out := &provider{Provider: p, rules: c.Rules, token: c.Token, now: c.Now, log: c.Logger}
	if out.now == nil {
		out.now = time.Now
	}
	if out.log == nil {
		out.log = slog.New(slog.DiscardHandler)
	}
	for _, key := range p.MatchImages {
		pattern, err := c.Rules.compile(key)
		if err != nil {
			return nil, &KeyError{Key: redactKey(key), Err: err}
		}
		out.patterns = append(out.patterns, pattern)
	}
	return out, nil
}

func (p *provider) exec(x Exec, path string) func(context.Context, []byte, []string) ([]byte, error) {
	return func(ctx context.Context, request []byte, secrets []string) ([]byte, error) {
		return x.run(ctx, command{path: path, args: p.Args, env: p.Env, stdin: request, secrets: secrets})
	}
}

func (p *provider) origin() Origin { return Origin{Kind: KindPlugin, Name: p.Name} }

// matches reports whether the plugin is to be asked for an image.
func (p *provider) matches(name string) bool {
	t, err := p.rules.target(name)
	return err == nil && slices.ContainsFunc(p.patterns, func(k pattern) bool { return k.match(t) == matched })
}

var errNoToken = errors.New("wants a service-account token, and the program has none to give")

// identify returns whose answer the plugin would give, and whether it is to be
// asked at all.
func (p *provider) identify(pod Pod) (id identity, asked bool, err error) {
	if p.Token == nil {
		return id, true, nil
	}
	account := pod.ServiceAccount
	if account.Name == "" {
		return id, !p.Token.RequireServiceAccount, nil
	}
	if account.Namespace == "" {
		account.Namespace = pod.Namespace
	}
	for _, key := range p.Token.RequiredAnnotations {
		if _, ok := pod.Annotations[key]; !ok {
			return id, false, nil
		}
	}
	encoded, err := json.Marshal(p.annotations(pod)) // sorted by key
	if err != nil {
		return id, false, err
	}
	return identity{account: account, annotations: string(encoded)}, true, nil
}

// annotations are those of pod's service account that the plugin is given.
func (p *provider) annotations(pod Pod) map[string]string {
	out := map[string]string{}
	for _, key := range slices.Concat(p.Token.RequiredAnnotations, p.Token.OptionalAnnotations) {
		if value, ok := pod.Annotations[key]; ok {
			out[key] = value
		}
	}
	return out
}

// lookup returns the plugin's answer for an image: an empty one if it is not to
// be asked.
func (p *provider) lookup(ctx context.Context, name string, pod Pod) (answer, error) {
	if !p.matches(name) {
		return answer{}, nil
	}
	id, asked, err := p.identify(pod)
	if err != nil || !asked {
		return answer{}, err
	}
	r := request{Kind: "CredentialProviderRequest", APIVersion: p.APIVersion, Image: name}
	var token Sensitive
	if id.account != (ServiceAccount{}) {
		if p.token == nil {
			return answer{}, errNoToken
		}
		pod.ServiceAccount = id.account
		if token, err = p.token(ctx, pod, p.Token.Audience); err != nil {
			return answer{}, fmt.Errorf("service-account token: %w", err)
		}
		r.Annotations = p.annotations(pod)
		if p.Token.CacheType == CacheByToken {
			id.token = token
		}
	}
	q := question{name, id}
	for {
		if a, ok := p.cache.get(q, p.now()); ok {
			return a, nil
		}
		got, err := p.runs.Do(ctx, p.cache.scope(q), func(ctx context.Context) (answered, error) {
			a, err := p.ask(ctx, q, r, token)
			return answered{q, a}, err
		})
		if got.question == q || ctx.Err() != nil {
			return got.answer, err
		}
		// The plugin was running for another question. Its answer may hold for this
		// one as well, so the cache is looked into again.
	}
}

// ask runs the plugin, unless the answer has come in the meantime.
func (p *provider) ask(ctx context.Context, q question, r request, token Sensitive) (answer, error) {
	if a, ok := p.cache.get(q, p.now()); ok {
		return a, nil
	}
	r.Token = token.Reveal()
	stdin, err := json.Marshal(r)
	if err != nil {
		return answer{}, err
	}
	p.log.DebugContext(ctx, "running a credential provider", "provider", p.Name, "image", q.image)
	stdout, err := p.run(ctx, stdin, p.secrets(token))
	if err != nil {
		p.cache.failed(q)
		return answer{}, err
	}
	resp, err := parseResponse(stdout, p.APIVersion)
	if err == nil {
		err = resp.check(p.Provider, token)
	}
	if err != nil {
		p.cache.failed(q)
		return answer{}, fmt.Errorf("%w: %w", ErrProgramAnswer, err)
	}
	keep := p.DefaultCacheDuration
	if resp.duration != nil {
		keep = *resp.duration
	}
	now := p.now()
	a := p.answer(resp, q.account, now, keep)
	p.cache.put(q, resp.scope, a, now, keep)
	return a, nil
}

// secrets are what the plugin was told, and what it has told before.
func (p *provider) secrets(token Sensitive) []string {
	out := p.cache.secrets()
	for _, v := range p.Env {
		out = append(out, v.Value.Reveal())
	}
	return append(out, token.Reveal())
}

// hash adds the plugin's configuration.
func (p *provider) hash(h *maphash.Hash) {
	hashString(h, p.Name)
	hashString(h, p.APIVersion)
	for _, s := range p.Args {
		hashString(h, s)
	}
	for _, v := range p.Env {
		hashString(h, v.Name)
		hashString(h, v.Value.Reveal())
	}
	if p.Token != nil {
		hashString(h, p.Token.Audience)
	}
}

func (p *provider) note(name string, pod Pod) Note {
	n := Note{Origin: p.origin()}
	t, err := p.rules.target(name)
	if err != nil {
		n.Why = string(malformedName)
		return n
	}
	whys := map[string]bool{}
	for i, k := range p.patterns {
		why := k.match(t)
		if why == matched {
			n.Matched = true
			n.Origin.Key = redactKey(p.MatchImages[i])
			n.Why = "the image matches; the plugin was not run"
			break
		}
		text := string(why)
		if advice, _ := keyAdvice(p.MatchImages[i], k); advice != "" {
			text += " (" + advice + ")"
		}
		whys[text] = true
	}
	if !n.Matched {
		n.Why = "no entry of matchImages matches: " + strings.Join(slices.Sorted(maps.Keys(whys)), ", ")
		return n
	}
	if _, asked, err := p.identify(pod); err != nil || !asked {
		n.Matched = false
		n.Why = "the image matches, but the plugin wants a service account with its annotations"
	}
	return n
}

// An answer is what a plugin said, ready to be looked up.
type answer struct {
	table    *table
	problems problemList // entries that were left out, and warnings
}

// problemsFor returns the entries that were left out, and the warnings that may be
// why an image has no good credential.
func (a answer) problemsFor(rules Rules, name string) []error {
	t, err := rules.target(name)
	var errs []error
	for _, p := range a.problems {
		if !isWarning(p.Err) || err == nil && p.concerns(t) {
			errs = append(errs, p.EntryError)
		}
	}
	return errs
}

func (a answer) candidates(name string) iter.Seq[Credential] {
	if a.table == nil {
		return func(func(Credential) bool) {}
	}
	return a.table.candidates(name)
}

func (a answer) entries() []entry {
	if a.table == nil {
		return nil
	}
	return slices.Clone(a.table.entries)
}
