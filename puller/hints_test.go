package puller

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pullkit/pullkit/credentials"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// refuse answers every credential, and a pull without a credential, with 401.
func refuse(context.Context, Spec) (string, error) { return "401", fs.ErrPermission }

// The error of a failed pull, and Explain, name each Secret of the request that was not
// used, and say why it was not used.
func TestUnusedSecretsAreNamed(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "credentials", "testdata", "vectors", "field", "secrets.json"))
	require.NoError(t, err)
	var doc struct {
		Cases []struct {
			ID, Manifest, Image string
			Expect              struct{ Contains, Names string }
		}
	}
	require.NoError(t, json.Unmarshal(data, &doc))
	require.Len(t, doc.Cases, 7)
	for _, v := range doc.Cases {
		secrets, manifestErr := credentials.ParseSecrets([]byte(v.Manifest))
		w := newWorld(t, Config{})
		w.runtime.pull = refuse
		req := Request{Image: v.Image, Keyring: credentials.FromSecrets(secrets, credentials.Rules{}), Pod: credentials.Pod{Namespace: "web", UID: "1"}}
		decision, err := w.Explain(t.Context(), req)
		require.NoError(t, err)
		_, err = w.Pull(t.Context(), req)
		require.Error(t, err)
		if manifestErr != nil { // the manifest has no Secret that could be used
			assert.ErrorContains(t, manifestErr, v.Expect.Names, v.ID)
			continue
		}
		for _, text := range []string{err.Error(), decision.String()} {
			assert.Contains(t, text, `secret "web/regcred"`, v.ID)
			assert.Contains(t, text, v.Expect.Contains, v.ID)
		}
		assert.ErrorIs(t, err, fs.ErrPermission, v.ID)
		_, err = w.Pull(t.Context(), req)
		assert.ErrorIs(t, err, ErrImagePullBackOff)
		assert.ErrorContains(t, err, `secret "web/regcred"`, "%s: also while the image is not tried again", v.ID)
	}
}

// The error of a failed pull names the entries of the node's file that were not used for
// the image: helpers that were not asked, entries that cannot be read, and logins that
// look mistyped.
func TestUnusedEntriesOfTheNodeAreNamed(t *testing.T) {
	node, err := credentials.ParseFile([]byte(`{"credsStore":"desktop","credHelpers":{"other.example":"x"},
		"auths":{"r.example":{"auth":"dTpwCg=="},"r.example/*":{"auth":"dTpw"},"r.example/team":{"auth":5},"s.example":{"auth":"!"}}}`), "config.json", credentials.Rules{})
	require.NoError(t, err)
	w := newWorld(t, Config{Keyring: node})
	w.runtime.pull = refuse
	req := Request{Image: "r.example/team/app:1"}
	_, err = w.Pull(t.Context(), req)
	perr := asError(t, err)
	var hints []string
	for _, hint := range perr.Hints {
		var entry *credentials.Error
		require.ErrorAs(t, hint, &entry)
		hints = append(hints, hint.Error())
		assert.Contains(t, err.Error(), hint.Error())
	}
	require.Len(t, hints, 4)
	assert.Contains(t, hints[0], "is not a wildcard")
	assert.Contains(t, hints[1], "the password ends with a line feed (U+000A)")
	assert.Contains(t, hints[2], `key "r.example/team": auth is a number, not a string`)
	assert.Contains(t, hints[3], "names the program docker-credential-desktop; it was not asked")
	assert.NotContains(t, err.Error(), "s.example")
	assert.Contains(t, err.Error(), "; hint: ")
	assert.Len(t, perr.Attempts, 1, "a hint is not an attempt")
	var used credentials.Reason
	assert.False(t, errors.As(err, &used), "a hint is not wrapped")
	assert.NotContains(t, perr.Message(), "hint", "the kubelet's text has no hints")
	decision, err := w.Explain(t.Context(), req)
	require.NoError(t, err)
	for _, part := range []string{"is not a wildcard", "ends with a line feed", "left out: auth is a number", "docker-credential-desktop"} {
		assert.Contains(t, decision.String(), part)
	}

	// No hint is given where it cannot help: if the registry is unavailable, or about a
	// helper that was asked.
	w = newWorld(t, Config{Keyring: node})
	w.runtime.pull = func(context.Context, Spec) (string, error) { return "", ErrRegistryUnavailable }
	_, err = w.Pull(t.Context(), req)
	assert.ErrorIs(t, err, ErrRegistryUnavailable)
	assert.NotContains(t, err.Error(), "hint")
	w = newWorld(t, Config{Keyring: node.WithHelpers(credentials.Exec{Dir: t.TempDir()})})
	w.runtime.pull = refuse
	_, err = w.Pull(t.Context(), req)
	assert.ErrorContains(t, err, "program not found: docker-credential-desktop")
	assert.NotContains(t, err.Error(), "not asked")

	// An error's text has at most ten hints.
	var many []credentials.Secret
	for range 300 {
		many = append(many, credentials.Secret{Namespace: "web", Name: "opaque", Type: "Opaque"})
	}
	w = newWorld(t, Config{})
	w.runtime.pull = refuse
	_, err = w.Pull(t.Context(), Request{Image: "r.example/x:1", Keyring: credentials.FromSecrets(many, credentials.Rules{})})
	assert.ErrorContains(t, err, "; 90 more")
	assert.Less(t, strings.Count(err.Error(), "opaque"), 11)
}

// A malformed entry whose key has a scheme is reported for the images of the key, and not
// for other images.
func TestAMalformedEntryWhoseKeyHasASchemeIsReported(t *testing.T) {
	for key, image := range map[string]string{"https://r.example": "r.example/a:1", "https://r.example/": "r.example/a:1", "https://index.docker.io/v1/": "nginx"} {
		ring := credentials.FromSecrets([]credentials.Secret{credentials.Secret{Namespace: "web", Name: "regcred", Type: credentials.TypeDockerConfigJSON, Data: credentials.ConcealData(map[string][]byte{
			credentials.KeyDockerConfigJSON: []byte(`{"auths":{"` + key + `":{"auth":"!"}}}`),
		})}}, credentials.Rules{})
		w := newWorld(t, Config{})
		w.runtime.pull = refuse
		_, err := w.Pull(t.Context(), Request{Image: image, Keyring: ring})
		assert.ErrorContains(t, err, "auth is not base64", key)
		assert.Equal(t, 1, strings.Count(err.Error(), "auth is not base64"), key)
		assert.Contains(t, w.reasons(), EventBadSecret, key)
		_, err = w.Pull(t.Context(), Request{Image: "other.example/a:1", Keyring: ring})
		assert.NotContains(t, err.Error(), "auth is not base64", key)
	}
}

// If a document has the wrong form, or one of its keys matches no image, the error of a
// failed pull and Explain say what is wrong. That holds for a Pod's Secret and for the
// node's file.
func TestDocumentsOfTheWrongFormAreNamed(t *testing.T) {
	const entries = `{"r.example":{"auth":"dTpw"}}`
	twice := base64.URLEncoding.EncodeToString([]byte(`{"auths":` + entries + `}`))
	for text, want := range map[string]string{
		`{"auths":{"auths":` + entries + `}}`:                         `under "auths" in "auths": leave out what is around`,
		`{"auths":{"value":` + entries + `}}`:                         `under "value" in "auths": leave out what is around`,
		`{"data":{"value":{"auths":` + entries + `}}}`:                `under "value" in "data": leave out what is around`,
		`{"data":{"value":"` + twice + `"}}`:                          `under "value" in "data": leave out what is around`,
		`data:application/json;base64,` + twice:                       "it was encoded twice",
		twice:                                                         "it was encoded twice",
		`{"auths":{"https://r.example/v2/_catalog":{"auth":"dTpw"}}}`: "registry's API",
		`{"auths":{"https://r.example/v1/users/":{"auth":"dTpw"}}}`:   "registry's API",
		`{"auths":{"a.example,r.example":{"auth":"dTpw"}}}`:           "holds a comma",
		`{"auths":{"r.example;":{"auth":"dTpw"}}}`:                    "holds a semicolon",
		`{"auths":{"r..example":{"auth":"dTpw"}}}`:                    "an empty part between dots",
		`{"auths":{".r.example":{"auth":"dTpw"}}}`:                    "begins with a dot",
		`{"auths":{"oci:/r.example":{"auth":"dTpw"}}}`:                `begins with "oci:/", which is a scheme`,
		`{"auths":{"oci:r.example":{"auth":"dTpw"}}}`:                 `begins with "oci:", which is a scheme`,
	} {
		secret := credentials.Secret{Namespace: "web", Name: "regcred", Type: credentials.TypeDockerConfigJSON,
			Data: credentials.ConcealData(map[string][]byte{credentials.KeyDockerConfigJSON: []byte(text)})}
		requests := map[string]Request{"pod": {Image: "r.example/team/app", Keyring: credentials.FromSecrets([]credentials.Secret{secret}, credentials.Rules{}), Pod: credentials.Pod{Namespace: "web", UID: "1"}}}
		var node credentials.Keyring
		if file, err := credentials.ParseFile([]byte(text), "config.json", credentials.Rules{}); err == nil {
			node = file
			requests["node"] = Request{Image: "r.example/team/app"}
		}
		for of, req := range requests {
			config := Config{}
			if of == "node" {
				config.Keyring = node
			}
			w := newWorld(t, config)
			w.runtime.pull = refuse
			decision, err := w.Explain(t.Context(), req)
			require.NoError(t, err)
			assert.Contains(t, decision.String(), want, "%s: %s", of, text)
			_, err = w.Pull(t.Context(), req)
			assert.ErrorContains(t, err, want, "%s: %s", of, text)
			assert.ErrorIs(t, err, fs.ErrPermission, text)
		}
	}
}

// The error and an event name a Secret whose key has the registry's host, but another port
// or path. They do not name a Secret for another registry, and no key of a Secret that has
// another key for the image.
func TestKeysOfTheSameHostAreNamed(t *testing.T) {
	secret := func(keys ...string) credentials.Keyring {
		var auths []string
		for _, key := range keys {
			auths = append(auths, `"`+key+`":{"auth":"dTpw"}`)
		}
		return credentials.FromSecrets([]credentials.Secret{{
			Namespace: "web", Name: "regcred", Type: credentials.TypeDockerConfigJSON,
			Data: credentials.ConcealData(map[string][]byte{credentials.KeyDockerConfigJSON: []byte(`{"auths":{` + strings.Join(auths, ",") + `}}`)}),
		}}, credentials.Rules{})
	}
	for name, tt := range map[string]struct {
		keyring credentials.Keyring
		hint    string // "" for none
	}{
		"port":              {secret("r.example"), `secret "web/regcred", key "r.example": the port is another one; it is for other images`},
		"path":              {secret("r.example:5000/other"), `secret "web/regcred", key "r.example:5000/other": the image is not below the key's path; it is for other images`},
		"wildcard and port": {secret("*.example"), `secret "web/regcred", key "*.example": the port is another one; it is for other images`},
		"host":              {secret("s.example:5000"), ""},
		"host and port":     {secret("s.example"), ""},
		"another key fits":  {secret("r.example:5000/other", "r.example:5000/team"), ""},
	} {
		w := newWorld(t, Config{})
		w.runtime.pull = refuse
		_, err := w.Pull(t.Context(), Request{Image: "r.example:5000/team/app:1", Keyring: tt.keyring, Pod: credentials.Pod{Namespace: "web"}})
		perr := asError(t, err)
		var events []string
		for _, e := range w.events {
			if e.Reason == EventHint {
				events = append(events, e.Message)
			}
		}
		if tt.hint == "" {
			assert.Empty(t, perr.Hints, name)
			assert.Empty(t, events, name)
			continue
		}
		require.Len(t, perr.Hints, 1, name)
		assert.EqualError(t, perr.Hints[0], tt.hint, name)
		assert.ErrorIs(t, perr.Hints[0], credentials.ErrOtherImages, name)
		assert.Empty(t, credentials.Problems(tt.keyring), "%s: the Secret may be right for another image", name)
		require.Len(t, events, 1, name)
		assert.Contains(t, events[0], tt.hint, name)
	}
}

// The text of an Answer names a helper that failed only once.
func TestAnAnswerNamesAHelperOnce(t *testing.T) {
	node, err := credentials.ParseFile([]byte(`{"credsStore":"desktop"}`), "config.json", credentials.Rules{})
	require.NoError(t, err)
	w := newWorld(t, Config{Keyring: node.WithHelpers(credentials.Exec{Dir: t.TempDir()})})
	w.runtime.pull = refuse
	_, err = w.Pull(t.Context(), Request{Image: "r.example/app:1"})
	answers := asError(t, err).Answers()
	require.Len(t, answers, 2)
	assert.Equal(t, `helper "desktop": program not found: docker-credential-desktop`, answers[0].String())
}
