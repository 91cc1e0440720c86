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

	"github.com/pullkit/pullkit/credentials/internal/diagnose"
	"github.com/pullkit/pullkit/credentials/internal/keys"
	"github.com/pullkit/pullkit/internal/share"
	"github.com/pullkit/pullkit/reference"
)

// A ProviderConfig says how exec credential provider plugins are run. The kubelet has the
// same plugins.
type ProviderConfig struct {
	// Exec says where the plugins are, and sets their limits and their environment. Its
	// Dir must not be "", because plugins are not looked for in PATH.
	Exec Exec
	// Token returns a token of pod's service account for an audience, such as one of the
	// TokenRequest API that is bound to the Pod. It is called at each look-up for a Pod
	// by a plugin that needs a token, and concurrently. It should keep tokens as long as
	// they are valid. If Token is nil, these look-ups yield an error.
	Token func(ctx context.Context, pod Pod, audience string) (Sensitive, error)
	// Rules are the rules for matchImages, and for the keys in the plugins' answers.
	Rules Rules
	// Logger receives a record of each run of a plugin, at debug level. If it is nil,
	// nothing is logged.
	Logger *slog.Logger
}

// providers is a keyring of exec credential provider plugins, in the order of their
// configuration.
type providers struct {
	rules Rules
	list  []*provider
}

// ReadProviders returns a keyring of the plugins that a CredentialProviderConfig names, as
// [ParseProviders] does. path is a file, or a directory of which all files that end in
// .json, .yaml or .yml are read, in the order of their names. The errors are those of
// ParseProviders. The error wraps [ErrNoFile] if path does not exist.
func ReadProviders(path string, c ProviderConfig) (PodKeyring, error) {
	list, err := c.Rules.readProviderFiles(path)
	if err != nil {
		return nil, fmt.Errorf("credential providers: %w", err)
	}
	return podKeyring(newProviders(c, list...))
}

// ParseProviders returns a keyring of the plugins that a CredentialProviderConfig names. The
// document is YAML or JSON, of the version v1, v1beta1 or v1alpha1 of kubelet.config.k8s.io.
// An unknown field, or a field that is there twice, is an error, as in the kubelet. The
// error says which provider is malformed. It wraps [ErrProgramStart] if a plugin's program
// does not exist or cannot be run.
//
// The plugins are asked in the order of the configuration, and each only after all candidates
// of the plugins before it failed. Look-ups at the same time that need the same answer share
// one run. Answers are kept in memory as long as the plugins say; errors are not kept. An
// error that Lookup yields is an [*Error] about the plugin, or about a part of its answer.
//
// In the keyring of a Pod, plugins with tokenAttributes receive a token and the annotations
// of the Pod's service account. The keyring itself answers for an image that is not for a
// Pod, and does not ask plugins that require a service account.
//
// The keyring is also a [Fingerprinter], whose hash is that of the configuration, and an
// [Explainer], which does not run plugins.
func ParseProviders(data []byte, c ProviderConfig) (PodKeyring, error) {
	list, err := c.Rules.parseProviders(data)
	if err != nil {
		return nil, err
	}
	return podKeyring(newProviders(c, list...))
}

// podKeyring returns ps as a PodKeyring. With an error it returns a nil PodKeyring, and
// not one that holds a nil pointer.
func podKeyring(ps *providers, err error) (PodKeyring, error) {
	if err != nil {
		return nil, err
	}
	return ps, nil
}

func newProviders(c ProviderConfig, plugins ...pluginConfig) (*providers, error) {
	if c.Exec.Dir == "" {
		return nil, errors.New("credential providers: no directory of plugins is given")
	}
	if err := c.Rules.validate(plugins); err != nil {
		return nil, fmt.Errorf("credential providers: %w", err)
	}
	ps := &providers{rules: c.Rules}
	for _, p := range plugins {
		dir, err := filepath.Abs(c.Exec.Dir)
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

func (ps *providers) Lookup(ctx context.Context, ref reference.Reference) iter.Seq2[Credential, error] {
	return ps.For(Pod{}).Lookup(ctx, ref)
}

func (ps *providers) Fingerprint(ref reference.Reference) uint64 {
	return ps.forPod(Pod{}).Fingerprint(ref)
}

func (ps *providers) Explain(ref reference.Reference) iter.Seq[Note] {
	return ps.forPod(Pod{}).Explain(ref)
}

func (ps *providers) For(pod Pod) Keyring { return ps.forPod(pod) }

func (ps *providers) forPod(pod Pod) providersFor { return providersFor{ps, pod} }

type providersFor struct {
	ps  *providers
	pod Pod
}

func (pf providersFor) Lookup(ctx context.Context, ref reference.Reference) iter.Seq2[Credential, error] {
	name := ref.Name()
	if pf.ps.rules.Kubelet {
		return pf.lookupMerged(ctx, name)
	}
	return func(yield func(Credential, error) bool) {
		seen := seenSet[Credential]{}
		for _, p := range pf.ps.list {
			a, err := p.lookup(ctx, name, pf.pod)
			if err != nil {
				if !yield(Credential{Origin: p.origin()}, &Error{Origin: p.origin(), Image: name, Err: err}) {
					return
				}
				continue
			}
			for c := range a.candidates(name) {
				if seen.add(c.bare(), false) && !yield(c, nil) {
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

// lookupMerged is Lookup under the kubelet's rules. It asks all plugins before the first
// candidate is tried, because the kubelet orders the keys of all answers together.
func (pf providersFor) lookupMerged(ctx context.Context, name string) iter.Seq2[Credential, error] {
	return func(yield func(Credential, error) bool) {
		var all []entry
		for _, p := range pf.ps.list {
			a, err := p.lookup(ctx, name, pf.pod)
			if err != nil {
				if !yield(Credential{Origin: p.origin()}, &Error{Origin: p.origin(), Image: name, Err: err}) {
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
			if id.account.Name != "" && p.Token.CacheType == cacheByToken { // each Pod has its own token
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
	patterns []keys.Pattern
	token    func(ctx context.Context, pod Pod, audience string) (Sensitive, error)
	log      *slog.Logger
	run      func(ctx context.Context, request []byte, secrets []string) (stdout []byte, err error)

	cache cache
	runs  share.Calls[question, answered]
}

// A question has everything on which a plugin's answer depends: equal questions have the
// same answer.
type question struct {
	image string
	identity
}

// answered is a question with its answer, which callers with other questions receive,
// too.
type answered struct {
	question question
	answer   table
}

// An identity says which service account an answer is for. It is zero if the answer does
// not depend on a service account.
type identity struct {
	account     ServiceAccount
	annotations string    // the annotations that the plugin receives, as JSON
	token       Sensitive // the token, if an answer holds only for that; zero otherwise
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
			return nil, &Error{Origin: Origin{Key: keys.Redact(key)}, Err: err}
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

// matches reports whether matchImages has a key that matches an image.
func (p *provider) matches(name string) bool {
	t, err := p.rules.target(name)
	return err == nil && slices.ContainsFunc(p.patterns, func(k keys.Pattern) bool { return k.Match(t) == keys.Matched })
}

var errNoToken = errors.New("needs a service-account token, which the caller does not supply")

// identify returns the identity for which the plugin would answer, and whether the plugin is
// to be asked.
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

// annotations returns those annotations of pod's service account that the plugin receives.
func (p *provider) annotations(pod Pod) map[string]string {
	out := map[string]string{}
	for _, key := range slices.Concat(p.Token.RequiredAnnotations, p.Token.OptionalAnnotations) {
		if value, ok := pod.Annotations[key]; ok {
			out[key] = value
		}
	}
	return out
}

// lookup returns the plugin's answer for an image: an empty one if the plugin is not to be
// asked.
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
		// The run was for another question. If its answer is also for this question, the
		// cache has it.
	}
}

// ask runs the plugin, unless an answer to the question is in the cache now.
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
		return table{}, fmt.Errorf("%w: %w", errProgramAnswer, err)
	}
	keep := p.DefaultCacheDuration
	if resp.duration != nil {
		keep = *resp.duration
	}
	answer := p.table(resp, q.account, time.Now(), keep)
	p.cache.put(q, resp.scope, answer, keep)
	return answer, nil
}

// secrets returns the secrets that the plugin received, and those of its earlier answers.
func (p *provider) secrets(token Sensitive) []string {
	out := p.cache.secrets()
	for _, v := range p.Env {
		out = append(out, v.value.Reveal())
	}
	return append(out, token.Reveal())
}

// hash writes the plugin's configuration to h.
func (p *provider) hash(h *maphash.Hash) {
	hashString(h, p.Name)
	hashString(h, p.APIVersion)
	for _, s := range p.Args {
		hashString(h, s)
	}
	for _, v := range p.Env {
		hashString(h, v.name)
		hashString(h, v.value.Reveal())
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
		why := k.Match(t)
		if why == keys.Matched {
			n.Matched = true
			n.Origin.Key = keys.Redact(p.MatchImages[i])
			n.Why = "the image matches; the plugin is run only when a credential is needed"
			break
		}
		text := string(why)
		if hint := diagnose.Key(p.MatchImages[i], k); hint.Text != "" && !hint.Matches {
			text += " (" + hint.Text + ")"
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
