package credentials

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pullkit/pullkit/credentials/internal/keys"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A vector is one case of any of the vector files; see testdata/vectors/README.md.
type vector struct {
	Name, Op       string
	Pattern, Image string
	Format, Config string
	Files          map[string]string
	Paths          []string
	Secrets        []struct {
		Name, Type string
		Data       map[string]string
	}
	Node       *string
	NodeFormat string `json:"node_format"`
	Expect     json.RawMessage
	Recommend  json.RawMessage

	API       string
	Match     []string
	Default   string
	Responses map[string]string
	Steps     []struct{ Image, Advance string }
}

type expectation struct {
	Match     bool
	Error     bool
	Entries   map[string]vectorCred
	Creds     []vectorCred
	Ties      bool
	NodeError bool `json:"node_error"`
	Skip      []string
	Repo      string
	Providers int
	Response  *vectorResponse
	Steps     []struct {
		Image    string
		Executed bool
		Error    bool
		Creds    []vectorCred
	}
}

type vectorCred struct {
	Key, Username, Password, Source string
	IdentityToken                   string `json:"identitytoken"`
	RegistryToken                   string `json:"registrytoken"`
}

// eachVector runs fn for each case of a file under both sets of rules. want is expect for
// the kubelet's rules, and expect with the fields of recommend for those of this package.
func eachVector(t *testing.T, file string, count int, fn func(t *testing.T, v vector, r Rules, want expectation)) {
	data, err := os.ReadFile(filepath.Join("testdata", "vectors", file))
	require.NoError(t, err)
	var doc struct{ Cases []vector }
	require.NoError(t, json.Unmarshal(data, &doc))
	require.Len(t, doc.Cases, count)
	for _, v := range doc.Cases {
		for _, r := range []Rules{{Kubelet: true}, {}} {
			name := v.Name + "/ours"
			var want expectation
			require.NoError(t, json.Unmarshal(v.Expect, &want))
			if r.Kubelet {
				name = v.Name + "/kubelet"
			} else if v.Recommend != nil {
				var over map[string]json.RawMessage
				require.NoError(t, json.Unmarshal(v.Recommend, &over))
				if _, ok := over["entries"]; ok {
					want.Entries, want.Error = nil, false
				}
				if _, ok := over["creds"]; ok {
					want.Creds, want.Error = nil, false
				}
				require.NoError(t, json.Unmarshal(v.Recommend, &want))
			}
			t.Run(name, func(t *testing.T) { fn(t, v, r, want) })
		}
	}
}

// nameOf returns the text that is compared with keys. The kubelet's keyring takes any text.
// That of this package takes a reference, if the text is one.
func nameOf(r Rules, image string) string {
	if r.Kubelet {
		return image
	}
	ref, err := reference.Parse(image)
	if err != nil {
		return image
	}
	return ref.Name()
}

func found(tab *table, name string) (creds []vectorCred) {
	for _, i := range tab.find(nil, name) {
		c := tab.entries[i].cred
		if !tab.rules.Kubelet && slices.ContainsFunc(creds, func(v vectorCred) bool {
			return v.Username == c.Username && v.Password == c.Password.Reveal()
		}) {
			continue
		}
		creds = append(creds, credOf(tab.entries[i]))
	}
	return creds
}

func credOf(e entry) vectorCred {
	v := vectorCred{
		Key: e.text, Username: e.cred.Username, Password: e.cred.Password.Reveal(),
		IdentityToken: e.cred.IdentityToken.Reveal(), RegistryToken: e.cred.RegistryToken.Reveal(),
	}
	if e.cred.Origin.Kind == KindSecret {
		v.Source = e.cred.Origin.Name
	}
	return v
}

func entriesOf(tab *table) map[string]vectorCred {
	m := map[string]vectorCred{}
	for _, e := range tab.entries {
		m[e.cred.Origin.Key] = credOf(e)
	}
	return m
}

// faults returns the problems that are not warnings.
func isWarning(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Warning()
}

func faults(problems []error) []error {
	return slices.DeleteFunc(slices.Clone(problems), isWarning)
}

// checkSkipped compares problems with the names that a vector lists. If the kubelet calls
// the document an error, there must be a problem. Warnings are not about entries that are
// skipped, and vectors do not list them.
func checkSkipped(t *testing.T, r Rules, problems []error, want expectation) {
	var got []string
	for _, p := range faults(problems) {
		var e *Error
		require.ErrorAs(t, p, &e)
		if r.Kubelet && errors.Is(e.Err, keys.ErrNoURL) {
			continue // the kubelet only logs such keys
		}
		name := e.Origin.Key
		if name == "" {
			name = e.Origin.Name
		}
		got = append(got, name)
	}
	if want.Error {
		assert.NotEmpty(t, problems, "at least a warning")
		return
	}
	wanted := make([]string, len(want.Skip))
	for i, key := range want.Skip {
		wanted[i] = keys.Redact(key)
	}
	assert.ElementsMatch(t, wanted, got)
}

func fileName(format string) string {
	if format == "dockercfg" {
		return ".dockercfg"
	}
	return "config.json"
}

func TestMatchVectors(t *testing.T) {
	for file, count := range map[string]int{"match_edge.json": 87, "match_upstream.json": 18} {
		eachVector(t, file, count, func(t *testing.T, v vector, r Rules, want expectation) {
			got, err := Match(v.Pattern, v.Image, r)
			assert.Equal(t, want.Match, got, "Match(%q, %q)", v.Pattern, v.Image)
			assert.Equal(t, want.Error, err != nil, "Match(%q, %q): %v", v.Pattern, v.Image, err)
		})
	}
}

func TestParseVectors(t *testing.T) {
	eachVector(t, "parse.json", 78, func(t *testing.T, v vector, r Rules, want expectation) {
		c, err := ParseFile([]byte(v.Config), fileName(v.Format), r)
		if err != nil {
			assert.True(t, want.Error, "%v", err)
			return
		}
		checkSkipped(t, r, Problems(c), want)
		if want.Entries != nil {
			for key, w := range want.Entries { // the JSON of the vectors cannot have these characters
				if got := c.table.entries; v.Name == "auth-not-utf8" && len(got) == 1 {
					assert.Equal(t, "\xff\xfe", got[0].cred.Password.Reveal())
					w.Password = "\xff\xfe"
					want.Entries[key] = w
				}
			}
			assert.Equal(t, want.Entries, entriesOf(&c.table))
		}
	})
}

func TestLookupVectors(t *testing.T) {
	eachVector(t, "lookup.json", 79, func(t *testing.T, v vector, r Rules, want expectation) {
		c, err := ParseFile([]byte(v.Config), fileName(v.Format), r)
		require.NoError(t, err)
		checkSkipped(t, r, Problems(c), want)
		checkCreds(t, want, found(&c.table, nameOf(r, v.Image)))
	})
}

func checkCreds(t *testing.T, want expectation, got []vectorCred) {
	if len(want.Creds) == 0 {
		assert.Empty(t, got)
	} else if want.Ties {
		assert.ElementsMatch(t, want.Creds, got)
	} else {
		assert.Equal(t, want.Creds, got)
	}
}

func TestSecretsVectors(t *testing.T) {
	eachVector(t, "secrets.json", 27, func(t *testing.T, v vector, r Rules, want expectation) {
		var secrets []Secret
		for _, s := range v.Secrets {
			data := map[string][]byte{}
			for key, value := range s.Data {
				data[key] = []byte(value)
			}
			secrets = append(secrets, Secret{Namespace: "web", Name: s.Name, Type: s.Type, Data: ConcealData(data)})
		}
		ring := fromSecrets(secrets, r)
		checkSkipped(t, r, Problems(ring), want)
		if want.Error {
			return
		}
		got := found(&ring.table, nameOf(r, v.Image))
		if v.Node != nil {
			node, err := ParseFile([]byte(*v.Node), fileName(v.NodeFormat), r)
			assert.Equal(t, want.NodeError, err != nil)
			if err == nil {
				got = append(got, found(&node.table, nameOf(r, v.Image))...)
			}
			if err == nil && !r.Kubelet {
				var joined []vectorCred
				for c, err := range Join(ring, node).Lookup(t.Context(), reference.MustParse(v.Image)) {
					require.NoError(t, err)
					i := slices.IndexFunc(got, func(v vectorCred) bool {
						return v.Username == c.Username && v.Password == c.Password.Reveal() && (v.Source != "") == (c.Origin.Kind == KindSecret)
					})
					require.GreaterOrEqual(t, i, 0)
					joined = append(joined, got[i])
				}
				got = joined
			}
		}
		checkCreds(t, want, got)
	})
}

func TestFilesVectors(t *testing.T) {
	eachVector(t, "files.json", 10, func(t *testing.T, v vector, r Rules, want expectation) {
		dir := t.TempDir()
		for _, name := range slices.Sorted(maps.Keys(v.Files)) {
			path := filepath.Join(dir, filepath.FromSlash(name))
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
			require.NoError(t, os.WriteFile(path, []byte(v.Files[name]), 0o600))
		}
		var paths []string
		for _, name := range []string{"config.json", ".dockercfg"} {
			for _, p := range v.Paths {
				paths = append(paths, filepath.Join(dir, p, name))
			}
		}
		c, err := FindFile(paths, r)
		if err != nil || c.Name() == "" {
			assert.True(t, want.Error, "%v", err)
			return
		}
		if !r.Kubelet {
			assert.Equal(t, want.Error, len(Problems(c)) > 0)
		}
		if want.Entries != nil {
			assert.Equal(t, want.Entries, entriesOf(&c.table))
		}
	})
}

func TestRepoVectors(t *testing.T) {
	eachVector(t, "repo.json", 18, func(t *testing.T, v vector, r Rules, want expectation) {
		ref, err := reference.Parse(v.Image)
		assert.Equal(t, want.Error, err != nil)
		assert.Equal(t, want.Repo, ref.Name())
	})
}

type vectorResponse struct {
	CacheKeyType  string
	CacheDuration *string
	Auth          map[string]struct{ Username, Password string }
}
