package credentials

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pullkit/pullkit/internal/regular"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type hostileInput struct {
	Name, Area string
	Input      json.RawMessage
}

// hostileInputs returns the rows of one area of the hostile inputs, by name.
func hostileInputs(t *testing.T, area string, count int) map[string]hostileInput {
	data, err := os.ReadFile(filepath.Join("testdata", "vectors", "hostile_inputs.json"))
	require.NoError(t, err)
	var all []hostileInput
	require.NoError(t, json.Unmarshal(data, &all))
	rows := map[string]hostileInput{}
	for _, in := range all {
		if in.Area == area {
			rows[in.Name] = in
		}
	}
	require.Len(t, rows, count)
	return rows
}

// TestHostileKeysMatchNoMoreThanTheyMay holds for each hostile key whether it may match. The vectors say why.
func TestHostileKeysMatchNoMoreThanTheyMay(t *testing.T) {
	const (
		yes       = "match"
		no        = "no match"
		malformed = "no match, reported"
	)
	want := map[string]string{
		"sibling-prefix": no, "sibling-prefix-exact": yes,
		"star-one-label": no, "star-zero-label": no, "star-suffix-attack": no,
		"star-alone-dotted": no, "star-alone-local": no, "double-star": no,
		"port-differs": no, "port-default": no, "port-glob": malformed,
		"path-glob": no, "class-separator": malformed, "class-unclosed": malformed,
		"class-negated": yes, "glob-redos": malformed, "glob-many-braces": malformed,
		"backslash-dot": malformed, "case-host": yes, "trailing-dot": no,
		"idn-homograph": malformed, "userinfo-key": malformed, "scheme-http-key": yes,
		"key-v1": yes, "key-docker-io": yes, "hub-lookalike": no, "hub-path": no,
		"ipv6": yes, "empty-key": no, "slash-key": no, "dotdot-key": no, "percent-key": no,
	}
	ordered := map[string][]string{
		"order-longest":   {"registry.io/team/app", "registry.io/team", "registry.io"},
		"order-glob-last": {"registry.io", "*.io"},
	}
	for name, row := range hostileInputs(t, "auths-match", len(want)+len(ordered)) {
		t.Run(name, func(t *testing.T) {
			var in struct{ Key, Image string }
			require.NoError(t, json.Unmarshal(row.Input, &in))
			keys := []string{in.Key}
			if ordered[name] != nil {
				keys = strings.Split(strings.Trim(in.Key, "[]"), ", ")
			}
			c := configOf(t, keys...)
			ref, err := reference.Parse(in.Image)
			if err != nil { // glob-redos: no image can have the label
				ref = reference.MustParse("registry.io/app")
			}
			start := time.Now()
			var got []string
			for cred, err := range c.Lookup(t.Context(), ref) {
				require.NoError(t, err)
				got = append(got, cred.Origin.Key)
			}
			assert.Less(t, time.Since(start), 20*time.Second, "the time does not grow exponentially with the key")
			switch {
			case ordered[name] != nil:
				assert.Equal(t, ordered[name], got)
			case want[name] == yes:
				assert.Len(t, got, 1)
				assert.Empty(t, faults(Problems(c)))
			case want[name] == no:
				assert.Empty(t, got)
				assert.Empty(t, faults(Problems(c)))
			case want[name] == malformed:
				assert.Empty(t, got)
				if assert.Len(t, Problems(c), 1) {
					text := Problems(c)[0].Error()
					assert.NotContains(t, text, "hunter2")
					assert.NotContains(t, text, "user:pass")
					assert.Less(t, len(text), 400)
				}
			default:
				t.Fatal("the row has no expectation here")
			}
		})
	}
}

// configOf returns a config.json with a login under each of keys.
func configOf(t testing.TB, keys ...string) *File {
	var auths []string
	for i, key := range keys {
		name, err := json.Marshal(key)
		require.NoError(t, err)
		auths = append(auths, string(name)+`:{"username":"user`+string(rune('a'+i%26))+`","password":"hunter2"}`)
	}
	c, err := ParseFile([]byte(`{"auths":{`+strings.Join(auths, ",")+`}}`), "config.json", Rules{})
	require.NoError(t, err)
	return c
}

func TestHostileConfigsAreReadOrRefusedAsListed(t *testing.T) {
	rows := hostileInputs(t, "config-json", 18)
	image := reference.MustParse("r.io/app")
	parse := func(name string) (*File, error) {
		var text string
		require.NoError(t, json.Unmarshal(rows[name].Input, &text))
		if name == "huge" { // the row has a shortened document
			text = `{"auths":{"r.io":{"auth":"` + strings.Repeat("A", 64<<20) + `"}}}`
		}
		delete(rows, name)
		return ParseFile([]byte(text), "config.json", Rules{})
	}
	for name, password := range map[string]string{"auth-colon-in-pass": "p:q", "auth-nul": "p", "auth-crlf": "p\r\nX-Evil: 1"} {
		c, err := parse(name)
		require.NoError(t, err, name)
		for cred := range c.Lookup(t.Context(), image) {
			assert.Equal(t, "u", cred.Username, name)
			assert.Equal(t, password, cred.Password.Reveal(), name)
		}
		assert.Empty(t, faults(Problems(c)), name)
	}
	for name, secret := range map[string]string{
		"auth-no-colon": "nocolon", "auth-not-base64": "***", "identitytoken-crlf": "evil", "case-key": "dTpw",
		"helper-traversal": "", "helper-args": "", "helper-env": "",
	} {
		c, err := parse(name)
		require.NoError(t, err, name)
		if assert.Len(t, Problems(c), 1, name) && secret != "" {
			assert.NotContains(t, Problems(c)[0].Error(), secret, name)
		}
		assert.Empty(t, c.helpers.all(), name)
	}
	for _, name := range []string{"auths-array", "huge", "trailing"} {
		_, err := parse(name)
		assert.Error(t, err, name)
	}
	c, err := parse("bom") // the byte order mark is skipped; the kubelet refuses it
	require.NoError(t, err)
	require.Len(t, Problems(c), 1)
	assert.ErrorIs(t, Problems(c)[0], errByteOrderMark)
	for name, creds := range map[string]int{"auths-null": 0, "dup-key": 1} { // two objects add up
		c, err := parse(name)
		require.NoError(t, err, name)
		assert.Len(t, c.table.entries, creds, name)
		assert.Empty(t, Problems(c), name)
	}

	t.Run("world-readable", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "config.json")
		require.NoError(t, os.WriteFile(path, []byte(`{"auths":{"r.io":{"auth":"dTpw"}}}`), 0o644))
		c, err := ReadFile(path, Rules{})
		require.NoError(t, err)
		assert.Len(t, c.table.entries, 1)
		require.Len(t, Problems(c), 1)
		assert.ErrorIs(t, Problems(c)[0], ErrReadableByOthers)
	})
	t.Run("symlink-config", func(t *testing.T) {
		dir := t.TempDir()
		fifo, link := filepath.Join(dir, "fifo"), filepath.Join(dir, "config.json")
		mkfifo(t, fifo)
		require.NoError(t, os.Symlink(fifo, link))
		_, err := ReadFile(link, Rules{})
		assert.ErrorIs(t, err, regular.ErrNotRegular)
		require.NoError(t, os.Remove(link))
		require.NoError(t, os.Symlink(os.DevNull, link))
		_, err = ReadFile(link, Rules{})
		assert.ErrorIs(t, err, regular.ErrNotRegular)
	})
	delete(rows, "world-readable")
	delete(rows, "symlink-config")
	assert.Empty(t, rows, "rows without a test")
}

func TestHostileProvidersAreRefused(t *testing.T) {
	rows := hostileInputs(t, "plugin", 21)
	good := pluginConfig{Name: "p", APIVersion: providerGroup + "v1", MatchImages: []string{"r.io"}}
	for _, name := range []string{"name-slash", "name-dotdot", "name-dot", "name-space", "name-empty", "name-backslash", "name-nul", "match-scheme", "match-empty"} {
		p := good
		in := struct{ Name, MatchImages any }{}
		require.NoError(t, json.Unmarshal(rows[name].Input, &in))
		if s, ok := in.Name.(string); ok {
			p.Name = s
		} else {
			p.MatchImages = nil
			for _, key := range in.MatchImages.([]any) {
				p.MatchImages = append(p.MatchImages, key.(string))
			}
		}
		assert.Error(t, Rules{}.validate([]pluginConfig{p}), name)
		delete(rows, name)
	}
	_, err := newProviders(ProviderConfig{}, good)
	assert.ErrorContains(t, err, "no directory")
	delete(rows, "cwd-binary")

	for _, name := range []string{"wrong-kind", "wrong-version", "cachekey-unknown"} {
		answer := string(rows[name].Input)
		if name == "wrong-version" {
			answer = `"{\"kind\":\"CredentialProviderResponse\",\"apiVersion\":\"credentialprovider.kubelet.k8s.io/v1alpha1\",\"cacheKeyType\":\"Image\"}"`
		}
		var text string
		require.NoError(t, json.Unmarshal([]byte(answer), &text))
		if name == "cachekey-unknown" {
			text = strings.Replace(text, "{", `{"kind":"CredentialProviderResponse","apiVersion":"`+providerGroup+`v1",`, 1)
		}
		r, err := parseResponse([]byte(text), providerGroup+"v1")
		if err == nil {
			err = r.check(good, Sensitive{})
		}
		assert.Error(t, err, name)
		delete(rows, name)
	}
	// The other rows are about programs that run: see provider_test.go.
	for name, test := range programTests {
		assert.Contains(t, rows, name)
		require.NotNil(t, test)
		t.Run(name, test)
		delete(rows, name)
	}
	assert.Empty(t, rows, "rows without a test")
}
