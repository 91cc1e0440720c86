package credentials

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"path/filepath"
	"strings"

	"github.com/pullkit/pullkit/internal/strictjson"
	"github.com/pullkit/pullkit/reference"
)

// A Config is a config.json, .dockercfg or auth.json file that was read. It is a
// [Keyring], a [Fingerprinter] and an [Explainer], and starts no program; see
// [Config.WithHelpers] for those that the file names. It never changes. The zero
// Config knows no credentials, nor does a nil one. [FindConfig] returns such a
// Config where there is no file.
type Config struct {
	name     string
	table    table
	problems problemList
	helpers  helperNames
	variable *Config // read from the environment, tried before all else; nil if none
}

// ParseConfig reads the text of a credential file. The base name of name says
// its format: .dockercfg is the legacy one, a bare object of entries; all else
// has them under auths. name is what the Origin of each credential tells.
//
// The error says that the document is unusable: no JSON, larger than 8 MiB, or
// with something other than an object in place of an object. Entries that are
// malformed are left out and listed by [Config.Problems]; those without any
// credential are left out too, and listed with [ErrGivesNothing] unless a helper
// keeps the login for their host.
//
// Field names are read without case, and of fields and keys written twice the
// last counts, as for the kubelet; two auths objects add up.
func ParseConfig(data []byte, name string) (*Config, error) { return Rules{}.ParseConfig(data, name) }

// ParseConfig is [ParseConfig] under the rules r.
func (r Rules) ParseConfig(data []byte, name string) (*Config, error) {
	es := entries{rules: r}
	origin := Origin{Kind: KindFile, Name: name}
	legacy := isLegacyName(name)
	doc, err := es.addDocument(origin, data, legacy)
	if err != nil {
		return nil, &EntryError{Origin: origin, Err: err}
	}
	es.warnFile(origin, doc, legacy)
	helpers := doc.helpers
	return &Config{name: name, table: newTable(r, es.list), problems: es.problems, helpers: helpers}, nil
}

func isLegacyName(name string) bool { return filepath.Base(name) == ".dockercfg" }

// Problems returns what was left out and why, and warnings about what was not: each
// an [*EntryError], which for those wraps a [Warning]. A program that the file names
// is among them with [ErrHelperNotAsked].
func (c *Config) Problems() []error {
	c = c.orZero()
	return append(c.ownProblems(), c.helpers.notAsked(c.origin())...)
}

// ownProblems are the Problems without those of the helpers.
func (c *Config) ownProblems() []error {
	if c.variable != nil {
		return append(c.variable.problems.errors(), c.problems.errors()...)
	}
	return c.problems.errors()
}

// Name returns the name that the file was parsed under: its path, for one that
// was read by [ReadConfig].
func (c *Config) Name() string { return c.orZero().name }

// Lookup yields the credentials of the entries whose key matches, in reverse
// byte order of the keys, which puts the longer path first; keys that say the
// same come in the order of the file.
func (c *Config) Lookup(ctx context.Context, ref reference.Reference) iter.Seq2[Credential, error] {
	c = c.orZero()
	if c.variable != nil {
		return c.joined().Lookup(ctx, ref)
	}
	return c.table.lookup(ref, "")
}

// Fingerprint hashes what Lookup would yield.
func (c *Config) Fingerprint(ref reference.Reference) uint64 {
	c = c.orZero()
	if c.variable != nil {
		return c.joined().(Fingerprinter).Fingerprint(ref)
	}
	var h maphash.Hash
	h.SetSeed(processSeed())
	c.table.hash(&h, ref.Name())
	return h.Sum64()
}

// Explain yields a note for each entry, then one for each of the Problems that may
// be why ref has no good credential, and for each helper that [Config.WithHelpers]
// would ask.
func (c *Config) Explain(ref reference.Reference) iter.Seq[Note] {
	c = c.orZero()
	file := inTurn(c.explainFile(ref), c.helpers.notes(c.origin(), ref))
	if c.variable != nil {
		return inTurn(c.variable.Explain(ref), file)
	}
	return file
}

// joined is the Config in two parts: the variable, and the file without its helpers.
func (c *Config) joined() Keyring { return Join(c.variable, c.fileOnly()) }

// fileOnly is the file without the variable, and without the helpers that it names.
func (c *Config) fileOnly() *Config {
	return &Config{name: c.name, table: c.table, problems: c.problems}
}

// explainFile is Explain without the helpers and without the variable.
func (c *Config) explainFile(ref reference.Reference) iter.Seq[Note] {
	return inTurn(c.table.explain(ref.Name(), ""), c.problems.notes(c.table.rules, ref))
}

// inTurn yields all of one sequence after the other.
func inTurn[T any](seqs ...iter.Seq[T]) iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, seq := range seqs {
			for v := range seq {
				if !yield(v) {
					return
				}
			}
		}
	}
}

func (c *Config) origin() Origin { return Origin{Kind: KindFile, Name: c.name} }

func (c *Config) orZero() *Config {
	if c == nil {
		return new(Config)
	}
	return c
}

// A document is what a credential document holds besides its credentials.
type document struct {
	top     []member // the whole of it
	auths   []member // of all auths objects
	markers []member // entries without any credential
	helpers helperNames
}

// addDocument reads one credential document into es.
func (es *entries) addDocument(origin Origin, data []byte, legacy bool) (document, error) {
	var doc document
	if rest, ok := bytes.CutPrefix(data, byteOrderMark); ok && !es.rules.Kubelet && strictjson.Valid(rest) {
		es.problem(origin, ErrByteOrderMark)
		data = rest
	}
	if err := checkJSON(data); err != nil {
		return doc, err
	}
	var err error
	if doc.top, err = readObject(data); err != nil {
		return doc, fmt.Errorf("%w%s", err, cmp.Or(stringHint(data), arrayHint(data)))
	}
	if legacy {
		doc.markers = es.addAuths(origin, doc.top)
		return doc, nil
	}
	if err := es.readTop(origin, &doc); err != nil {
		return doc, err
	}
	doc.markers = es.addAuths(origin, doc.auths, quote("auths"))
	return doc, nil
}

// readTop reads the fields of a config.json.
func (es *entries) readTop(origin Origin, doc *document) error {
	spelling := ""
	for _, m := range doc.top {
		switch strings.ToLower(m.Key) {
		case "auths":
			more, err := readObject(m.Value)
			if err != nil {
				return &fieldError{"auths", fmt.Errorf("%w%s", err, authsHint(m))}
			}
			if spelling != "" && spelling != m.Key {
				es.note(problem{EntryError: &EntryError{origin, ErrSpelledTwice}, aside: true})
			}
			spelling = m.Key
			doc.auths = append(doc.auths, more...)
			if strictjson.KindOf(m.Value) == strictjson.KindNull { // takes back what stood before it
				doc.auths = nil
			}
		case "httpheaders":
			if _, err := readObject(m.Value); err != nil && es.rules.Kubelet {
				return &fieldError{"HttpHeaders", err}
			}
		case "credhelpers":
			if !es.rules.Kubelet {
				doc.helpers.read(es, origin, m.Value)
			}
		case "credsstore":
			if !es.rules.Kubelet {
				doc.helpers.readStore(es, origin, m.Value)
			}
		}
	}
	return nil
}

// A fieldError is what is wrong with one field of a document.
type fieldError struct {
	field string
	err   error
}

func (e *fieldError) Error() string { return e.field + " " + e.err.Error() }
func (e *fieldError) Unwrap() error { return e.err }

// of says of a document, which has a name, what is wrong with it: err begins with a
// verb, or with the field that is wrong.
func of(document string, err error) error {
	var field *fieldError
	if errors.As(err, &field) {
		return fmt.Errorf("%s: %w", document, err)
	}
	return fmt.Errorf("%s %w", document, err)
}

// warnFile notes what a file has that was hardly meant so. A file without auths, and
// an entry that a helper keeps the login for, are as docker writes them.
func (es *entries) warnFile(origin Origin, doc document, legacy bool) {
	for _, hint := range formHints(doc.top, legacy) {
		es.problem(origin, warning(ErrGivesNothing, hint))
	}
	if es.rules.Kubelet {
		return
	}
	for _, m := range doc.top {
		if right := misspeltHelpers(m.Key); right != "" && !legacy {
			es.problem(origin, warning(ErrGivesNothing, "the document has "+quote(m.Key)+", which is written "+right))
		}
	}
	es.warnMarkers(origin, doc)
}

// warnMarkers notes the entries without a credential that no helper knows one for.
func (es *entries) warnMarkers(origin Origin, doc document) {
	for _, m := range doc.markers {
		host, _ := cutPath(normalize(m.Key))
		if len(doc.helpers.rows(host)) > 0 {
			continue
		}
		origin.Key = m.Key
		es.aboutEntry(origin, warning(ErrGivesNothing, markerHint(m)))
	}
}
