package credentials

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDocumentsEditedByHand brings documents with the faults that people make in an
// editor. The error says what to do, and shows nothing of the document.
func TestDocumentsEditedByHand(t *testing.T) {
	for text, want := range map[string]string{
		`{"auths":{"r.io":{"auth":"dTpw",}}}`:                                  "byte 33: there is a comma before a closing bracket: leave it out",
		`{"auths":{"r.io":{"auth":"dTpw"},` + "\n}}":                           "there is a comma before a closing bracket",
		"{\n// mine\n\"auths\":{}}":                                            "it has a comment, and JSON has none",
		"{\"auths\":{} # mine\n}":                                              "it has a comment, and JSON has none",
		"{\"auths\":{} /* mine */}":                                            "it has a comment, and JSON has none",
		`{"auths":{"r.io":{"auth":"dTpw"}}}}`:                                  "there is a closing bracket too many at its end",
		`{"auths":{}}{"auths":{}}`:                                             "another document follows it",
		`{"auths":{}}` + "\n" + `{"auths":{}}`:                                 "another document follows it",
		`{"auths":{}} mine`:                                                    "there is something behind its end",
		`{"auths":{"r.io":{"username":"u","password":"C4nary"C4nary"}}}`:       `a " in a text is written \"`,
		`{"auths":{"r.io":{"username":"u","password":"C4nary""}}}`:             `a " in a text is written \"`,
		`{"auths":{"r.io":{"username":"u","password":"C4nary\q"}}}`:            `a \ in a text is written \\`,
		"{\"auths\":{\"r.io\":{\"username\":\"C4nary\"\n\"password\":\"x\"}}}": "a comma is missing",
		`{"auths":{"r.io":{"auth":"dTpw"} "s.io":{"auth":"dTpw"}}}`:            "a comma is missing",
	} {
		_, err := ParseFile([]byte(text), "config.json", Rules{})
		assert.ErrorContains(t, err, want, text)
		assert.NotContains(t, fmt.Sprint(err), "C4nary", text)
		assert.NotContains(t, fmt.Sprint(err), "mine", text)
	}
	f, err := ParseFile([]byte(`{"auths":{"r.io":{"auth":{"username":"u","password":"p"}}}}`), "config.json", Rules{})
	require.NoError(t, err)
	assert.ErrorContains(t, Problems(f)[0], "auth is an object, not a string: leave out auth and the braces around the fields that it holds")
}

// TestSecretWithHelpersAndEntries makes Secrets of a config.json that has logins and names
// credential helpers. What has a login is used, and only what a helper keeps is said.
func TestSecretWithHelpersAndEntries(t *testing.T) {
	const kept = `: a credential helper keeps its login on the machine of docker login: no helper is asked for a Secret; it gives no credential`
	for text, want := range map[string][]string{
		`{"auths":{"r.io":{"auth":"dTpw"}},"credsStore":"desktop"}`:                        nil,
		`{"auths":{"r.io":{"auth":"dTpw"},"s.io":{}},"credsStore":"desktop"}`:              {`key "s.io"` + kept},
		`{"auths":{"r.io":{"auth":"dTpw"}},"credHelpers":{"gcr.io":"gcloud"}}`:             {`key "gcr.io"` + kept},
		`{"auths":{"r.io":{"auth":"dTpw"},"gcr.io":{}},"credHelpers":{"gcr.io":"gcloud"}}`: {`key "gcr.io"` + kept},
		`{"auths":{"gcr.io":{"auth":"dTpw"}},"credHelpers":{"gcr.io":"gcloud"}}`:           nil,
		`{"auths":{"r.io":{"auth":"dTpw"},"s.io":{}},"credHelpers":{"gcr.io":"gcloud"}}`:   {`key "s.io": the entry is empty`, `key "gcr.io"` + kept},
		`{"auths":{"s.io":{}},"credsStore":"desktop"}`:                                     {"names credential helpers"},
		`{"credsStore":"desktop"}`: {"names credential helpers"},
	} {
		s := Secret{Name: "a", Type: TypeDockerConfigJSON, Data: map[string]Sensitive{KeyDockerConfigJSON: Conceal(text)}}
		problems := Problems(FromSecrets([]Secret{s}, Rules{}))
		require.Len(t, problems, len(want), "%s: %v", text, problems)
		for i := range want {
			assert.ErrorContains(t, problems[i], want[i], text)
		}
	}
}

// TestProblemsAreLimited brings documents with thousands of entries that are malformed. The
// first of each source are listed, and how many more there are.
func TestProblemsAreLimited(t *testing.T) {
	document := func(entry, last string) string {
		var b strings.Builder
		for i := range 5000 {
			fmt.Fprintf(&b, `"r%d.io":%s,`, i, entry)
		}
		return `{"auths":{` + b.String() + `"last.io":` + last + `}}`
	}
	f, err := ParseFile([]byte(document(`5`, `5`)), "config.json", Rules{})
	require.NoError(t, err)
	problems := Problems(f)
	require.Len(t, problems, maxProblems+1)
	assert.EqualError(t, problems[maxProblems], `file "config.json": there are 4901 more problems, which are not listed`)
	assert.False(t, isWarning(problems[maxProblems]))

	for last, warns := range map[string]bool{`{}`: true, `5`: false} {
		f, err := ParseFile([]byte(document(`{}`, last)), "config.json", Rules{})
		require.NoError(t, err)
		problems := Problems(f)
		if assert.Len(t, problems, maxProblems+1) && !warns {
			continue // the entry that is malformed is among the first: it is found first
		}
		assert.True(t, isWarning(problems[maxProblems]))
	}
	var ps problemList
	for i := range maxProblems + 2 {
		p := problem{EntryError: &EntryError{Origin{Kind: KindFile}, warning(ErrLooksWrong, "x")}}
		if i == maxProblems+1 {
			p.Err = errNoColon
		}
		ps = append(ps, p)
	}
	assert.ErrorIs(t, ps[maxProblems+1], errNoColon)
	var last Note
	for note := range ps.all() {
		last = note
	}
	assert.False(t, isWarning(last.Err), "a problem that is not a warning is not hidden behind warnings")

	// Each Secret is a source of its own.
	var secrets []Secret
	for i := range maxProblems + 50 {
		secrets = append(secrets, Secret{Name: fmt.Sprint("s", i), Type: TypeDockerConfigJSON, Data: map[string]Sensitive{KeyDockerConfigJSON: Conceal(base64.StdEncoding.EncodeToString(nil))}})
	}
	assert.Len(t, Problems(FromSecrets(secrets, Rules{})), maxProblems+50)
}
