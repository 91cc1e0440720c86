package credentials

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestFaultsInDocumentsEditedByHandAreNamed parses documents with the faults that people
// make in an editor. The error says what to do, and shows nothing of the document.
func TestFaultsInDocumentsEditedByHandAreNamed(t *testing.T) {
	for text, want := range map[string]string{
		`{"auths":{"r.io":{"auth":"dTpw",}}}`:                                  "byte 33: there is a comma before a closing bracket: leave it out",
		`{"auths":{"r.io":{"auth":"dTpw"},` + "\n}}":                           "there is a comma before a closing bracket",
		"{\n// mine\n\"auths\":{}}":                                            "it has a comment, and JSON has none",
		"{\"auths\":{} # mine\n}":                                              "it has a comment, and JSON has none",
		"{\"auths\":{} /* mine */}":                                            "it has a comment, and JSON has none",
		`{"auths":{"r.io":{"auth":"dTpw"}}}}`:                                  "there is a closing bracket too many at its end",
		`{"auths":{}}{"auths":{}}`:                                             "another document follows it",
		`{"auths":{}}` + "\n" + `{"auths":{}}`:                                 "another document follows it",
		`{"auths":{}} mine`:                                                    "there is text after its end",
		`{"auths":{"r.io":{"username":"u","password":"C4nary"C4nary"}}}`:       `write a " in a text as \"`,
		`{"auths":{"r.io":{"username":"u","password":"C4nary""}}}`:             `write a " in a text as \"`,
		`{"auths":{"r.io":{"username":"u","password":"C4nary\q"}}}`:            `write a \ in a text as \\`,
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

// TestSecretThatNamesHelpersUsesItsEntries reads Secrets of a config.json that has logins
// and also names credential helpers. The logins are used, and Problems lists only the hosts
// whose login a helper keeps.
func TestSecretThatNamesHelpersUsesItsEntries(t *testing.T) {
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

// TestProblemsOfASourceAreLimited parses documents with thousands of malformed entries.
// Problems lists the first ones of each source, and how many more there are.
func TestProblemsOfASourceAreLimited(t *testing.T) {
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
			continue // the malformed entry makes the last error one that is not a warning
		}
		assert.True(t, isWarning(problems[maxProblems]))
	}
	var ps problemList
	for i := range maxProblems + 2 {
		p := problem{Error: &Error{Origin: Origin{Kind: KindFile}, Err: warning(ErrLooksWrong, "x")}}
		if i == maxProblems+1 {
			p.Err = errNoColon
		}
		ps = append(ps, p)
	}
	assert.ErrorIs(t, ps[maxProblems+1].Error, errNoColon)
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

// TestFilesThatAreNotManifestsAreErrors parses files that users may pass in place of a
// manifest. The error says what each of them is.
func TestFilesThatAreNotManifestsAreErrors(t *testing.T) {
	const file = "is a credential file, not an object: ParseFile reads it"
	for text, want := range map[string]string{
		`{"auths":{"r.io":{"auth":"dTpw"}}}`:                         file,
		"auths:\n  r.io:\n    auth: dTpw\n":                          file,
		`{"r.io":{"auth":"dTpw"}}`:                                   file,
		`Error from server (NotFound): secrets "a" not found` + "\n": "is an error message of kubectl, not an object",
	} {
		secrets, err := ParseSecrets([]byte(text))
		assert.Empty(t, secrets, text)
		assert.EqualError(t, err, "manifest, document 1: "+want, text)
	}
	for text, want := range map[string]string{
		`{"ServerURL":"https://r.io","Username":"u","Secret":"C4nary"}`:      "the document is the answer of a credential helper",
		`{"authorizationData":[{"authorizationToken":"C4nary"}]}`:            "the document is the answer of aws ecr get-authorization-token",
		`{"type":"service_account","project_id":"p","private_key":"C4nary"}`: "the document is the key file of a service account",
	} {
		f, err := ParseFile([]byte(text), "config.json", Rules{})
		require.NoError(t, err)
		if problems := Problems(f); assert.Len(t, problems, 1, text) {
			assert.ErrorContains(t, problems[0], want)
			assert.NotContains(t, problems[0].Error(), "C4nary")
		}
	}
}

// TestFaultsInManifestsEditedByHandAreNamed parses manifests with the faults that people
// make in an editor. The error names the Secret, and says what to do.
func TestFaultsInManifestsEditedByHandAreNamed(t *testing.T) {
	const a = "kind: Secret\nmetadata:\n  name: a\n"
	const b = "kind: Secret\nmetadata:\n  name: b\n"
	const typed = a + "type: kubernetes.io/dockerconfigjson\n"
	for text, want := range map[string]string{
		typed + "stringData:\n  .dockerconfigjson: |\n{\n  \"auths\": {}\n}\n":               `has a text at line 7 that belongs to the field before it and is not indented: indent each of its lines by spaces; not read because of this: secret "a"`,
		"{\n// mine\n\"kind\":\"Secret\",\"metadata\":{\"name\":\"a\"},\"type\":\"Opaque\"}": `secret "a": has a comment with //`,
		"{\n// mine\n\"kind\":\"Secret\",\"metadata\":{\"name\":\"a\"},\"immutable\":true}":  `secret "a": has a comment with //`,
		"kind: Secret\nmetadata:\n\u00a0\u00a0name: a\ndata:\n\u00a0\u00a0x: e30=\n":         `secret "a": is indented by no-break spaces (U+00A0): indent its lines by spaces`,
		"kind: Secret\nmetadata:\n  name: 123\n":                                             `secret "123": metadata: name is a number, not a string: write it in quotes`,
		"```yaml\n" + a + "```\n":                                                            `secret "a" is not YAML: line 1 is the mark of a code block in Markdown: leave it out`,
		"$ kubectl get secret a -o yaml\n" + a:                                               `line 1 is a command: leave it out`,
		a + "===\n" + b:                                                                      `write --- between documents in place of line 4`,
		a + "***\n" + b:                                                                      `write --- between documents in place of line 4`,
		a + "--\n" + b:                                                                       `write --- between documents in place of line 4`,
		"<<<<<<< HEAD\n" + a + "=======\n" + b + ">>>>>>> x\n":                               `line 1 is the mark of a conflict of versions: leave it out`,
	} {
		_, err := ParseSecrets([]byte(text))
		assert.ErrorContains(t, err, want, text)
	}
	for text, want := range map[string]string{
		"!!binary e30=":                  "it is JSON that is not encoded: write it under stringData, or leave out the tag !!binary",
		">-\n    eyJh\n    dXRocyI6e319": "there is space in it: write it on one line without space",
		"eyJh\n    dXRocyI6e319":         "there is space in it: write it on one line without space",
	} {
		secrets, err := ParseSecrets([]byte(typed + "data:\n  .dockerconfigjson: " + text + "\n"))
		require.NoError(t, err, text)
		assert.ErrorContains(t, secrets[0].Validate(), want, text)
	}
}
