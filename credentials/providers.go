package credentials

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"log/slog"
	"path/filepath"
	"time"

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
	// with a Pod and a plugin that wants one, concurrently; keep tokens as long as
	// they are good. Nil means that there are none, which such a plugin's look-ups
	// report as an error.
	Token func(ctx context.Context, pod Pod, audience string) (Sensitive, error)
	// Rules are those of MatchImages and of the keys in answers.
	Rules Rules
	// Now is the clock of the cache; nil means time.Now.
	Now func() time.Time
	// Logger hears of each run of a plugin, at debug level; nil means nobody does.
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

// ReadProviders reads a CredentialProviderConfig, a file or a directory of files,
// for plugins in the directory binDir. For more settings see
// [ProviderConfig.ReadProviders].
func ReadProviders(path, binDir string) (*Providers, error) {
	return ProviderConfig{BinDir: binDir}.ReadProviders(path)
}

// ReadProviders reads a CredentialProviderConfig, YAML or JSON: one file, or all
// files of a directory that end in .json, .yaml or .yml, in the order of their
// names. See [ParseProviders] and [NewProviders] for what is an error; it wraps
// [ErrNoFile] if there is neither file nor directory.
func (c ProviderConfig) ReadProviders(path string) (*Providers, error) {
	list, err := c.Rules.readProviderFiles(path)
	if err != nil {
		return nil, fmt.Errorf("credential providers: %w", err)
	}
	return NewProviders(c, list...)
}

// NewProviders makes a keyring of plugins. The error says which provider is
// configured wrongly, or wraps [ErrProgramMissing] if its program is not there and
// [ErrProgramStart] if it cannot be run.
func NewProviders(c ProviderConfig, providers ...Provider) (*Providers, error) {
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

func (ps *Providers) forPod(pod Pod) providersFor { return providersFor{ps.orZero(), pod} }

func (ps *Providers) orZero() *Providers {
	if ps == nil {
		return new(Providers)
	}
	return ps
}

type providersFor struct {
	ps  *Providers
	pod Pod
}

func (pf providersFor) Lookup(ctx context.Context, ref reference.Reference) iter.Seq2[Credential, error] {
	name := ref.Name()
	if pf.ps.rules.Kubelet {
		return pf.lookupMerged(ctx, name)
	}
	return func(yield func(Credential, error) bool) {
		var seen seenSet
		for _, p := range pf.ps.list {
			a, err := p.lookup(ctx, name, pf.pod)
			if err != nil {
				if !yield(Credential{Origin: p.origin()}, &SourceError{p.origin(), name, err}) {
					return
				}
				continue
			}
			for c := range a.candidates(name) {
				if seen.add(c) && !yield(c, nil) {
					return
				}
			}
			for _, err := range a.problemsFor(p.rules, name) {
				if !yield(Credential{Origin: p.origin()}, err) {
					return
				}
			}
		}
	}
}

// lookupMerged asks all plugins before the first candidate is tried, since for
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
			all = append(all, a.entries()...)
		}
		t := newTable(pf.ps.rules, all)
		for c := range t.candidates(name) {
			if !yield(c, nil) {
				return
			}
		}
	}
}

func (pf providersFor) Fingerprint(ref reference.Reference) uint64 {
	var h maphash.Hash
	h.SetSeed(processSeed())
	for i, p := range pf.ps.list {
		if !p.matches(ref.Name()) {
			continue
		}
		hashUint(&h, uint64(i))
		p.hash(&h)
		if id, asked, err := p.identify(pf.pod); err == nil && asked {
			id.hash(&h)
			if id.account.Name != "" && p.Token.CacheType == CacheByToken { // each Pod has its own
				hashString(&h, pf.pod.Namespace)
				hashString(&h, pf.pod.Name)
				hashString(&h, pf.pod.UID)
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
