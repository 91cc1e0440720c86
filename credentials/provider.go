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
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pullkit/pullkit/internal/share"
	"github.com/pullkit/pullkit/reference"
)

// A ProviderConfig says how exec credential provider plugins are run.
type ProviderConfig struct {
	// BinDir is the directory of the plugins. It must be set: a program is taken
	// from nowhere else.
	BinDir string
	// Exec bounds the plugins. Zero means a minute and 1 MiB.
	Exec Exec
	// Token returns a token of pod's service account for an audience, as the
	// TokenRequest API gives it: bound to the Pod. It is called for each look-up
	// with a Pod and a plugin that needs one, concurrently; keep tokens as long as
	// they are good. Nil means that there are none, which such a plugin's look-ups
	// report as an error.
	Token func(ctx context.Context, pod Pod, audience string) (Sensitive, error)
	// Rules are those of MatchImages and of the keys in answers.
	Rules Rules
	// Logger hears of each run of a plugin, at debug level; nil means that nothing is logged.
	Logger *slog.Logger
}

// Providers are exec credential provider plugins, in the order of their
// configuration. It is a [PodKeyring], a [Fingerprinter] and an [Explainer], safe
// for concurrent use, and keeps answers in memory as long as the plugins say.
//
// A plugin is run only when the candidates of those before it have failed, once
// for a question however many ask it at the same time, and its failures are not
// kept. The zero Providers have no plugin, nor have nil ones.
type Providers struct {
	rules Rules
	list  []*provider
}

// ReadProviders makes a keyring of the plugins that a CredentialProviderConfig names. It
// reads one file, or all files of a directory that end in .json, .yaml or .yml, in the
// order of their names. See [ParseProviders] for what is an error; it wraps [ErrNoFile]
// if there is neither file nor directory.
func ReadProviders(path string, c ProviderConfig) (*Providers, error) {
	list, err := c.Rules.readProviderFiles(path)
	if err != nil {
		return nil, fmt.Errorf("credential providers: %w", err)
	}
	return newProviders(c, list...)
}

// ParseProviders makes a keyring of the plugins that a CredentialProviderConfig names:
// YAML or JSON, of version v1, v1beta1 or v1alpha1 of kubelet.config.k8s.io. It is
// strict, as the kubelet is: a field that is not known or is there twice is an error.
// The error says which provider is configured wrongly, or wraps [ErrProgramMissing] if
// its program is not there and [ErrProgramStart] if it cannot be run.
func ParseProviders(data []byte, c ProviderConfig) (*Providers, error) {
	list, err := c.Rules.parseProviders(data)
	if err != nil {
		return nil, err
	}
	return newProviders(c, list...)
}

func newProviders(c ProviderConfig, providers ...pluginConfig) (*Providers, error) {
	if c.BinDir == "" {
		return nil, errors.New("credential providers: no directory of plugins is given")
	}
	if err := c.Rules.validate(providers); err != nil {
		return nil, fmt.Errorf("credential providers: %w", err)
	}
	ps := &Providers{rules: c.Rules}
	for _, p := range providers {
		dir, err := filepath.Abs(c.BinDir)
		if err != nil {
			return nil, fmt.Errorf("credential providers: %w", err)
		}
		path, err := findProgram(filepath.Join(dir, p.Name))
		if err != nil {
			return nil, fmt.Errorf("credential provider %s: %w, in directory %s", quote(p.Name), err, quote(dir))
		}
		provider, err := newProvider(c, p)
		if err != nil {
			return nil, fmt.Errorf("credential provider %s: %w", quote(p.Name), err)
		}
		provider.run = provider.exec(c.Exec, path)
		ps.list = append(ps.list, provider)
	}
	return ps, nil
}

// Lookup asks the plugins as for no Pod: those that require a service account
// are passed over.
func (ps *Providers) Lookup(ctx context.Context, ref reference.Reference) iter.Seq2[Credential, error] {
	return ps.For(Pod{}).Lookup(ctx, ref)
}

// Fingerprint hashes the configuration of the plugins that would be asked.
func (ps *Providers) Fingerprint(ref reference.Reference) uint64 {
	return ps.forPod(Pod{}).Fingerprint(ref)
}

// Explain yields a note for each plugin, and runs none.
func (ps *Providers) Explain(ref reference.Reference) iter.Seq[Note] {
	return ps.forPod(Pod{}).Explain(ref)
}

// For returns the keyring of one Pod: plugins with tokenAttributes are given its
// service account's token and annotations.
func (ps *Providers) For(pod Pod) Keyring { return ps.forPod(pod) }

func (ps *Providers) ruledBy() Rules { return orZero(ps).rules }

func (ps *Providers) forPod(pod Pod) providersFor { return providersFor{orZero(ps), pod} }

type providersFor struct {
	ps  *Providers
	pod Pod
}

func (pf providersFor) ruledBy() Rules { return pf.ps.rules }

func (pf providersFor) Lookup(ctx context.Context, ref reference.Reference) iter.Seq2[Credential, error] {
	name := ref.Name()
	if pf.ps.rules.Kubelet {
		return pf.lookupMerged(ctx, name)
	}
	return func(yield func(Credential, error) bool) {
		seen := seenSet{}
		for _, p := range pf.ps.list {
			a, err := p.lookup(ctx, name, pf.pod)
			if err != nil {
				if !yield(Credential{Origin: p.origin()}, &SourceError{p.origin(), name, err}) {
					return
				}
				continue
			}
			for c := range a.candidates(name) {
				if seen.add(c, false) && !yield(c, nil) {
					return
				}
			}
			for _, err := range a.problemsFor(name) {
				if !yield(Credential{Origin: p.origin()}, err) {
					return
				}
			}
		}
	}
}

// lookupMerged asks all plugins before the first candidate is tried, because for
// the kubelet the order of keys counts over all their answers together.
func (pf providersFor) lookupMerged(ctx context.Context, name string) iter.Seq2[Credential, error] {
	return func(yield func(Credential, error) bool) {
		var all []entry
		for _, p := range pf.ps.list {
			a, err := p.lookup(ctx, name, pf.pod)
			if err != nil {
				if !yield(Credential{Origin: p.origin()}, &SourceError{p.origin(), name, err}) {
					return
				}
				continue
			}
			all = append(all, a.entries...)
		}
		t := newTable(entries{rules: pf.ps.rules, list: all})
		for c := range t.candidates(name) {
			if !yield(c, nil) {
				return
			}
		}
	}
}

func (pf providersFor) Fingerprint(ref reference.Reference) uint64 {
	h := newHash()
	for i, p := range pf.ps.list {
		if !p.matches(ref.Name()) {
			continue
		}
		hashUint(h, uint64(i))
		p.hash(h)
		if id, asked, err := p.identify(pf.pod); err == nil && asked {
			id.hash(h)
			if id.account.Name != "" && p.Token.CacheType == cacheByToken { // each Pod has its own
				hashString(h, pf.pod.Namespace)
				hashString(h, pf.pod.Name)
				hashString(h, pf.pod.UID)
			}
		}
	}
	return h.Sum64()
}

func (pf providersFor) Explain(ref reference.Reference) iter.Seq[Note] {
	return func(yield func(Note) bool) {
		for _, p := range pf.ps.list {
			if !yield(p.note(ref.Name(), pf.pod)) {
				return
			}
		}
	}
}

// A provider is one plugin with its cache.
type provider struct {
	pluginConfig
	rules    Rules
	patterns []pattern
	token    func(ctx context.Context, pod Pod, audience string) (Sensitive, error)
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
	answer   table
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

func newProvider(c ProviderConfig, p pluginConfig) (*provider, error) {
	out := &provider{pluginConfig: p, rules: c.Rules, token: c.Token, log: c.Logger}
	out.cache.kept.Max = maxCached
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

var errNoToken = errors.New("needs a service-account token, and the program has none to give")

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
func (p *provider) lookup(ctx context.Context, name string, pod Pod) (table, error) {
	if !p.matches(name) {
		return table{}, nil
	}
	id, asked, err := p.identify(pod)
	if err != nil || !asked {
		return table{}, err
	}
	r := request{Kind: "CredentialProviderRequest", APIVersion: p.APIVersion, Image: name}
	var token Sensitive
	if id.account != (ServiceAccount{}) {
		if p.token == nil {
			return table{}, errNoToken
		}
		pod.ServiceAccount = id.account
		if token, err = p.token(ctx, pod, p.Token.Audience); err != nil {
			return table{}, fmt.Errorf("service-account token: %w", err)
		}
		r.Annotations = p.annotations(pod)
		if p.Token.CacheType == cacheByToken {
			id.token = token
		}
	}
	q := question{name, id}
	for {
		if a, ok := p.cache.get(q); ok {
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
func (p *provider) ask(ctx context.Context, q question, r request, token Sensitive) (table, error) {
	if a, ok := p.cache.get(q); ok {
		return a, nil
	}
	r.Token = token.Reveal()
	stdin, err := json.Marshal(r)
	if err != nil {
		return table{}, err
	}
	p.log.DebugContext(ctx, "running a credential provider", "provider", p.Name, "image", q.image)
	stdout, err := p.run(ctx, stdin, p.secrets(token))
	if err != nil {
		p.cache.learn("")
		return table{}, err
	}
	resp, err := parseResponse(stdout, p.APIVersion)
	if err == nil {
		err = resp.check(p.pluginConfig, token)
	}
	if err != nil {
		p.cache.learn("")
		return table{}, fmt.Errorf("%w: %w", ErrProgramAnswer, err)
	}
	keep := p.DefaultCacheDuration
	if resp.duration != nil {
		keep = *resp.duration
	}
	answer := p.table(resp, q.account, time.Now(), keep)
	p.cache.put(q, resp.scope, answer, keep)
	return answer, nil
}

// secrets are those that the plugin was given, and those that it gave before.
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
		n.Why = "the image matches, but the plugin needs a service account with its annotations"
	}
	return n
}
