package credentials

import (
	"context"
	"fmt"
	"hash/maphash"
	"iter"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pullkit/pullkit/reference"
)

// A Config is a config.json, .dockercfg or auth.json file that was read. It is a
// [Keyring], a [Fingerprinter] and an [Explainer], and starts no program; see
// [Config.WithHelpers] for those that the file names. It never changes. The zero
// Config knows no credentials, nor does a nil one, which [ReadConfig] returns where
// there is no file.
type Config struct {
	name     string
	table    table
	problems []error
	helpers  helperNames
}

// ParseConfig reads the text of a credential file. The base name of name says
// its format: .dockercfg is the legacy one, a bare object of entries; all else
// has them under auths. name is what the Origin of each credential tells.
//
// The error says that the document is unusable: no JSON, larger than 8 MiB, or
// without an object of entries. Entries that are malformed are left out and
// listed by [Config.Problems]; those without any credential are left out.
//
// Field names are read without case, and of fields and keys written twice the
// last counts, as for the kubelet; two auths objects add up.
func ParseConfig(data []byte, name string) (*Config, error) { return Rules{}.ParseConfig(data, name) }

// ParseConfig is [ParseConfig] under the rules r.
func (r Rules) ParseConfig(data []byte, name string) (*Config, error) {
	es := entries{rules: r}
	origin := Origin{Kind: KindFile, Name: name}
	helpers, err := es.addDocument(origin, data, isLegacyName(name))
	if err != nil {
		return nil, &EntryError{Origin: origin, Err: err}
	}
	return &Config{name: name, table: newTable(r, es.list), problems: es.problems, helpers: helpers}, nil
}

func isLegacyName(name string) bool { return filepath.Base(name) == ".dockercfg" }

// Problems returns what was left out and why, and warnings about what was not: each
// an [*EntryError], which for those wraps a [Warning].
func (c *Config) Problems() []error { return slices.Clone(c.orZero().problems) }

// Name returns the name that the file was parsed under: its path, for one that
// was read by [ReadConfig].
func (c *Config) Name() string { return c.orZero().name }

// Lookup yields the credentials of the entries whose key matches, in reverse
// byte order of the keys, which puts the longer path first; keys that say the
// same come in the order of the file.
func (c *Config) Lookup(_ context.Context, ref reference.Reference) iter.Seq2[Credential, error] {
	return c.orZero().table.lookup(ref, "")
}

// Fingerprint hashes what Lookup would yield.
func (c *Config) Fingerprint(ref reference.Reference) uint64 {
	var h maphash.Hash
	h.SetSeed(processSeed())
	c.orZero().table.hash(&h, ref.Name())
	return h.Sum64()
}

// Explain yields a note for each entry.
func (c *Config) Explain(ref reference.Reference) iter.Seq[Note] {
	return c.orZero().table.explain(ref.Name(), "")
}

func (c *Config) orZero() *Config {
	if c == nil {
		return new(Config)
	}
	return c
}

// addDocument reads one credential document into es.
func (es *entries) addDocument(origin Origin, data []byte, legacy bool) (helperNames, error) {
	var helpers helperNames
	if err := checkJSON(data); err != nil {
		return helpers, err
	}
	top, err := readObject(data)
	if err != nil {
		return helpers, err
	}
	if legacy {
		es.addAuths(origin, top)
		return helpers, nil
	}
	var auths []member
	spelling := ""
	for _, m := range top {
		switch strings.ToLower(m.name) {
		case "auths":
			more, err := readObject(m.value)
			if err != nil {
				return helpers, fmt.Errorf("auths %w", err)
			}
			if spelling != "" && spelling != m.name {
				es.problem(origin, ErrSpelledTwice)
			}
			spelling = m.name
			auths = append(auths, more...)
			if kindOf(m.value) == "null" { // takes back what stood before it
				auths = nil
			}
		case "httpheaders":
			if _, err := readObject(m.value); err != nil && es.rules.Kubelet {
				return helpers, fmt.Errorf("HttpHeaders %w", err)
			}
		case "credhelpers":
			if !es.rules.Kubelet {
				helpers.read(es, origin, m.value)
			}
		case "credsstore":
			if !es.rules.Kubelet {
				helpers.readStore(es, origin, m.value)
			}
		}
	}
	es.addAuths(origin, auths)
	return helpers, nil
}
