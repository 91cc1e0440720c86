package credentials

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fieldVectors reads the cases of one of the files of testdata/vectors/field.
func fieldVectors[T any](t *testing.T, file string, count int) []T {
	data, err := os.ReadFile(filepath.Join("testdata", "vectors", "field", file))
	require.NoError(t, err)
	var doc struct{ Cases []T }
	require.NoError(t, json.Unmarshal(data, &doc))
	require.Len(t, doc.Cases, count)
	return doc.Cases
}

func TestFieldVectorsOfHelpers(t *testing.T) {
	type vector struct {
		ID     string
		Config json.RawMessage
		Image  string
		Expect struct{ Users []string }
	}
	log := filepath.Join(t.TempDir(), "log")
	c := Exec{Dir: installProgram(t, "docker-credential-echo"), Environ: programEnv("echo", programLog, log)}
	for _, v := range fieldVectors[vector](t, "helpers.json", 2) {
		config, err := ParseFile(v.Config, "config.json", Rules{})
		require.NoError(t, err, v.ID)
		ring := config.WithHelpers(c)
		assert.Empty(t, Problems(ring), v.ID)
		creds, errs := collect(t.Context(), ring, v.Image)
		assert.Empty(t, errs, v.ID)
		var users []string
		for _, cred := range creds {
			users = append(users, cred.Username)
		}
		assert.Equal(t, v.Expect.Users, users, v.ID)
	}
	assert.Equal(t, []string{"r.example"}, runs(t, log), "the program of credsStore is not run for a host for which credHelpers has an empty name")
}

// TestFieldVectorsOfSecrets holds that Problems and Explain report each reason for which a
// Secret is not used.
func TestFieldVectorsOfSecrets(t *testing.T) {
	type vector struct {
		ID, Manifest, Image string
		Expect              struct{ Contains, Names string }
	}
	for _, v := range fieldVectors[vector](t, "secrets.json", 7) {
		secrets, err := ParseSecrets([]byte(v.Manifest))
		ring := fromSecrets(secrets, Rules{})
		var problems, notes []string
		if err != nil {
			problems, notes = append(problems, err.Error()), append(notes, err.Error())
			assert.NotEmpty(t, secrets, v.ID)
		}
		for _, err := range Problems(ring) {
			problems = append(problems, err.Error())
		}
		for note := range ring.Explain(reference.MustParse(v.Image)) {
			if note.Err != nil {
				notes = append(notes, note.Err.Error())
			}
		}
		for _, reported := range [][]string{problems, notes} {
			if assert.NotEmpty(t, reported, v.ID) {
				assert.Contains(t, strings.Join(reported, "\n"), v.Expect.Contains, v.ID)
				assert.Contains(t, strings.Join(reported, "\n"), v.Expect.Names, v.ID)
			}
		}
	}
}

func TestFieldVectorsOfPeers(t *testing.T) {
	type vector struct {
		ID    string
		Input struct {
			Config json.RawMessage
			Image  string
		}
	}
	for _, v := range fieldVectors[vector](t, "peers.json", 1) {
		config, err := ParseFile(v.Input.Config, "config.json", Rules{})
		require.NoError(t, err, v.ID)
		creds, errs := collect(t.Context(), config, v.Input.Image)
		assert.Empty(t, creds, "%s: a key with a path is only for repositories below it", v.ID)
		assert.Empty(t, errs, v.ID)
		assert.Empty(t, Problems(config), v.ID)
	}
}

// texts returns the texts of a keyring's problems, and of the errors in the notes of its
// Explain.
func texts(t *testing.T, ring Keyring, image string) (problems, notes []string) {
	for _, err := range Problems(ring) {
		var entry *Error
		require.ErrorAs(t, err, &entry)
		problems = append(problems, err.Error())
	}
	for note := range ring.(Explainer).Explain(reference.MustParse(image)) {
		if note.Err != nil {
			notes = append(notes, note.Err.Error())
		}
	}
	return problems, notes
}

// TestEachUnusedSecretIsReported reads Secrets that give no credential, one for each
// reason. Problems and Explain name the Secret, and say what to do.
func TestEachUnusedSecretIsReported(t *testing.T) {
	const image = "r.io/team/app"
	doc := func(text string) map[string]string { return map[string]string{KeyDockerConfigJSON: text} }
	cfg := func(text string) map[string]string { return map[string]string{KeyDockercfg: text} }
	entry := `{"r.io":{"auth":"dTpw"}}`
	for name, tt := range map[string]struct {
		typ  string
		data map[string]string
		text string
	}{
		"Opaque":               {"Opaque", doc(goodDocument), `it is of type "Opaque"`},
		"no type":              {"", doc(goodDocument), "it has no type"},
		"mistyped type":        {"kubernetes.io/dockerConfigJson", doc(goodDocument), "create it again as kubernetes.io/dockerconfigjson"},
		"Opaque, legacy":       {"Opaque", cfg(entry), "create it again as kubernetes.io/dockercfg"},
		"basic auth":           {"kubernetes.io/basic-auth", map[string]string{"username": "u", "password": "p"}, "kubernetes.io/basic-auth"},
		"no data":              {TypeDockerConfigJSON, nil, "it has no data"},
		"empty data":           {TypeDockerConfigJSON, doc(""), "data[.dockerconfigjson] is empty"},
		"key without its dot":  {TypeDockerConfigJSON, map[string]string{"dockerconfigjson": goodDocument}, `it has data["dockerconfigjson"], which must be called ".dockerconfigjson"`},
		"key config.json":      {TypeDockerConfigJSON, map[string]string{"config.json": goodDocument}, `which must be called ".dockerconfigjson"`},
		"key in capitals":      {TypeDockerConfigJSON, map[string]string{".dockerConfigJson": goodDocument}, `which must be called`},
		"key with a space":     {TypeDockerConfigJSON, map[string]string{".dockerconfigjson ": goodDocument}, `which must be called`},
		"legacy without dot":   {TypeDockercfg, map[string]string{"dockercfg": entry}, `which must be called ".dockercfg"`},
		"another key":          {TypeDockerConfigJSON, map[string]string{"x": goodDocument}, "it has no data[.dockerconfigjson]"},
		"other type's key":     {TypeDockerConfigJSON, cfg(entry), "data[.dockercfg] belongs to a Secret of another type"},
		"other type's key, 2":  {TypeDockercfg, doc(goodDocument), "data[.dockerconfigjson] belongs to a Secret of another type"},
		"other type's content": {TypeDockerConfigJSON, doc(entry), "entries outside of auths, which is the form of .dockercfg"},
		"other type's, 2":      {TypeDockercfg, cfg(goodDocument), "has auths, which is the form of config.json"},
		"wrapped as text":      {TypeDockerConfigJSON, doc(`{"value":"{\"auths\":{}}"}`), `within another one, under "value"`},
		"wrapped":              {TypeDockerConfigJSON, doc(`{"data":{"auths":{"r.io":{"auth":"dTpw"}}}}`), `under "data"`},
		"wrapped under key":    {TypeDockerConfigJSON, doc(`{".dockerconfigjson":{"r.io":{"auth":"dTpw"}}}`), `under ".dockerconfigjson"`},
		"wrapped as base64":    {TypeDockerConfigJSON, doc(`{"value":"eyJhdXRocyI6e319"}`), `under "value"`},
		"auth for auths":       {TypeDockerConfigJSON, doc(`{"auth":{"r.io":{"auth":"dTpw"}}}`), `has "auth", not auths`},
		"auths with a space":   {TypeDockerConfigJSON, doc(`{"auths ":{"r.io":{"auth":"dTpw"}}}`), `has "auths ", not auths`},
		"no auths":             {TypeDockerConfigJSON, doc(`{}`), "the document has no auths"},
		"other fields":         {TypeDockerConfigJSON, doc(`{"proxies":{}}`), "the document has no auths"},
		"null":                 {TypeDockerConfigJSON, doc(`null`), "the document has no auths"},
		"auths empty":          {TypeDockerConfigJSON, doc(`{"auths":{}}`), "the document has no entries"},
		"auths null":           {TypeDockerConfigJSON, doc(`{"auths":null}`), "the document has no entries"},
		"legacy empty":         {TypeDockercfg, cfg(`{}`), "the document has no entries"},
		"entry empty":          {TypeDockerConfigJSON, doc(`{"auths":{"r.io":{}}}`), `key "r.io": the entry is empty`},
		"entry null":           {TypeDockerConfigJSON, doc(`{"auths":{"r.io":null}}`), `key "r.io": the entry is empty`},
		"fields mistyped":      {TypeDockerConfigJSON, doc(`{"auths":{"r.io":{"user":"u","pass":"p"}}}`), "it has user, pass"},
		"values empty":         {TypeDockerConfigJSON, doc(`{"auths":{"r.io":{"username":"","password":"","auth":""}}}`), "the entry has none of username"},
		"kept by a helper":     {TypeDockerConfigJSON, doc(`{"auths":{"r.io":{}},"credsStore":"desktop"}`), "no helper is asked for a Secret"},
		"kept by a helper, 2":  {TypeDockerConfigJSON, doc(`{"credHelpers":{"r.io":"ecr-login"}}`), "no helper is asked for a Secret"},
	} {
		ring := FromSecrets([]Secret{{Namespace: "web", Name: "regcred", Type: tt.typ, Data: ConcealData(bytesOf(tt.data))}}, Rules{})
		problems, notes := texts(t, ring, image)
		for _, reported := range [][]string{problems, notes} {
			if assert.NotEmpty(t, reported, name) {
				assert.Contains(t, reported[0], tt.text, name)
				assert.Contains(t, reported[0], `secret "web/regcred"`, name)
			}
		}
		for _, err := range Problems(ring) {
			assert.ErrorIs(t, err, ErrGivesNothing, name)
		}
		creds, errs := collect(t.Context(), ring, image)
		assert.Empty(t, creds, name)
		assert.Empty(t, errs, "a look-up does not yield warnings: %s", name)
	}

	good := FromSecrets([]Secret{{Type: TypeDockerConfigJSON, Data: ConcealData(bytesOf(doc(goodDocument)))}}, Rules{})
	problems, notes := texts(t, good, image)
	assert.Empty(t, problems)
	assert.Empty(t, notes)
}

func bytesOf(data map[string]string) map[string][]byte {
	out := map[string][]byte{}
	for key, value := range data {
		out[key] = []byte(value)
	}
	return out
}

// TestErrorsOfMalformedDocumentsSayWhatTheyAre parses documents that are not JSON, or not
// the right JSON, as other programs write them. The error says what the document seems to
// be.
func TestErrorsOfMalformedDocumentsSayWhatTheyAre(t *testing.T) {
	for text, want := range map[string]string{
		"eyJhdXRocyI6e319":             "it looks like base64 of JSON: it was encoded twice",
		"ZXlKaGRYUm9jeUk2ZTMxOQ==":     "it looks like base64 of JSON: it was encoded twice",
		"eyJhdXRo\r\ncyI6e319\r\n":     "it looks like base64 of JSON: it was encoded twice",
		"77u/eyJhdXRocyI6e319":         "it looks like base64 of JSON: it was encoded twice",
		`"{\"auths\":{}}"`:             "is a string, not an object: it holds JSON that was quoted once too often",
		`"eyJhdXRocyI6e319"`:           "is a string, not an object: it looks like base64 of JSON",
		"\xff\xfe{\x00}\x00":           "it is UTF-16",
		"\xfe\xff\x00{\x00}":           "it is UTF-16",
		"{\x00}\x00":                   "it is UTF-16",
		"\ufeff{\"auths\":":            "it begins with a byte order mark",
		`'{"auths":{}}'`:               "it is in single quotes",
		`{'auths':{}}`:                 "it has single quotes",
		"auths:\n  r.io:\n":            "it is YAML",
		`{"auths":{"r.io":{"auth":"`:   "it ends too soon",
		`{"auths":{"r.io":{}}`:         "it ends too soon",
		`{"auths":{{ .Values.auths }}`: "a template was left in it ({{)",
		`{{ .Values.x | b64enc }}`:     "a template was left in it ({{)",
		`${REGISTRY_JSON}`:             "a template was left in it (${)",
		`{"auths":${AUTHS}}`:           "a template was left in it (${)",
		`{"auths":<no value>}`:         "a template left <no value> in it",
		"{\u00a0\"auths\":{}}":         "there is a no-break space (U+00A0)",
		"{“auths”:{}}":                 "there is a typographic quote (U+201C)",
		"{\"auths\":{\"a\nb\":{}}}":    "there is a line feed (U+000A)",
		"\u200b{\"auths\":{}}":         "there is a zero-width space (U+200B)",
		`[]`:                           "is an array, not an object",
		`7`:                            "is a number, not an object",
		`{"auths":[]}`:                 "auths is an array, not an object",
		`{"auths":"x"}`:                "auths is a string, not an object",
		" \n":                          "is empty",
	} {
		_, err := ParseFile([]byte(text), "config.json", Rules{})
		assert.ErrorContains(t, err, want, "%q", text)
		if strings.Contains(text, `"x"`) || strings.TrimSpace(text) == "" {
			continue
		}
		s := Secret{Name: "s", Type: TypeDockerConfigJSON, Data: map[string]Sensitive{KeyDockerConfigJSON: Conceal(text)}}
		assert.ErrorContains(t, s.Validate(), want, "%q", text)
		if problems := Problems(FromSecrets([]Secret{s}, Rules{})); assert.Len(t, problems, 1, "%q", text) {
			assert.ErrorContains(t, problems[0], want, "%q", text)
			assert.False(t, isWarning(problems[0]), "%q", text)
		}
	}
}

// TestErrorsOfSecretsAreSentences holds that the text of an error of Validate is a sentence
// for each kind of fault.
func TestErrorsOfSecretsAreSentences(t *testing.T) {
	for text, want := range map[string]string{
		`{"auths":[]}`:   "auths is an array, not an object",
		`{"auths":5}`:    "auths is a number, not an object",
		`{"auths":"x"}`:  "auths is a string, not an object",
		`{"auths":true}`: "auths is a boolean, not an object",
		`[]`:             "is an array, not an object",
		`5`:              "is a number, not an object",
		``:               "is empty",
		`{`:              "is not JSON: syntax error at byte 2: it ends too soon, as if a part were cut off",
	} {
		err := Secret{Name: "s", Type: TypeDockerConfigJSON, Data: map[string]Sensitive{KeyDockerConfigJSON: Conceal(text)}}.Validate()
		join := "it "
		if strings.HasPrefix(want, "auths") {
			join = "it: "
		}
		assert.EqualError(t, err, `Secret "s" is invalid: data[.dockerconfigjson]: invalid value: cannot be read as a .docker/config.json file: `+join+want, "%s", text)
	}
}

// TestByteOrderMarkIsSkippedWithAWarning holds that a byte order mark is skipped with a
// warning. The kubelet and the API server refuse it.
func TestByteOrderMarkIsSkippedWithAWarning(t *testing.T) {
	const marked = "\ufeff" + goodDocument
	c, err := ParseFile([]byte(marked), "config.json", Rules{})
	require.NoError(t, err)
	creds, _ := collect(t.Context(), c, "r.io/app")
	assert.Len(t, creds, 1)
	require.Len(t, Problems(c), 1)
	assert.ErrorIs(t, Problems(c)[0], errByteOrderMark)

	s := Secret{Name: "s", Type: TypeDockerConfigJSON, Data: map[string]Sensitive{KeyDockerConfigJSON: Conceal(marked)}}
	ring := FromSecrets([]Secret{s}, Rules{})
	creds, _ = collect(t.Context(), ring, "r.io/app")
	assert.Len(t, creds, 1)
	_, notes := texts(t, ring, "r.io/app")
	assert.Contains(t, strings.Join(notes, "\n"), "byte order mark")
	assert.ErrorIs(t, s.Validate(), ErrSecretInvalid)

	kubelet := Rules{Kubelet: true}
	_, err = ParseFile([]byte(marked), "config.json", kubelet)
	assert.ErrorContains(t, err, "byte order mark")
	ring = FromSecrets([]Secret{s}, kubelet)
	creds, _ = collect(t.Context(), ring, "r.io/app")
	assert.Empty(t, creds)
	require.Len(t, Problems(ring), 1)
	assert.ErrorContains(t, Problems(ring)[0], "byte order mark")
	assert.False(t, isWarning(Problems(ring)[0]))
}

// TestOddLoginsAreUsedWithAWarning holds the warnings about logins that look wrong. The
// logins are used as they are written.
func TestOddLoginsAreUsedWithAWarning(t *testing.T) {
	for name, tt := range map[string]struct{ user, password, want string }{
		"line feed":           {"u", "p4ss\n", "the password ends with a line feed (U+000A)"},
		"CRLF":                {"u", "p4ss\r\n", "the password ends with a line feed (U+000A)"},
		"carriage return":     {"u", "p4ss\r", "the password ends with a carriage return (U+000D)"},
		"space":               {"u", "p4ss ", "the password ends with a space (U+0020)"},
		"space before":        {"u", " p4ss", "the password begins with a space (U+0020)"},
		"tab":                 {"u", "p4ss\t", "the password ends with a tab (U+0009)"},
		"no-break space":      {"u", "p4ss\u00a0", "the password ends with a no-break space (U+00A0)"},
		"zero-width":          {"u", "p4\u200bss", "the password holds a zero-width space (U+200B)"},
		"byte order mark":     {"u", "\ufeffp4ss", "the password begins with a byte order mark (U+FEFF)"},
		"soft hyphen":         {"u", "p4\u00adss", "the password holds a soft hyphen (U+00AD)"},
		"NUL within":          {"u", "p4\x00ss", "the password holds a NUL character (U+0000)"},
		"replaced":            {"u", "p4\ufffdss", "the password holds a replacement character"},
		"double quotes":       {"u", `"p4ss"`, "the password is in quotes"},
		"single quotes":       {"u", `'p4ss'`, "the password is in quotes"},
		"typographic":         {"u", "“p4ss”", "the password is in quotes"},
		"template":            {"u", "{{ .Values.password }}", "the password looks like a placeholder"},
		"shell variable":      {"u", "${PASSWORD}", "the password looks like a placeholder"},
		"command":             {"u", "$(cat pw)", "the password looks like a placeholder"},
		"no value":            {"u", "<no value>", "the password looks like a placeholder"},
		"to be filled in":     {"u", "<your-password>", "the password looks like a placeholder"},
		"fmt":                 {"u", "%!s(<nil>)", "the password looks like a placeholder"},
		"masked":              {"u", "********", "the password looks like a placeholder"},
		"user with a space":   {" u", "p4ss", "the user name begins with a space (U+0020)"},
		"user with a newline": {"u\n", "p4ss", "the user name ends with a line feed (U+000A)"},
		"echo -n":             {"-n u", "p4ss", `the user name begins with "-n "`},
		"user in quotes":      {`"u"`, "p4ss", "the user name is in quotes"},
		"no password":         {"u", "", "it has a user name and no password"},
		"no user name":        {"", "p4ss", "it has a password and no user name"},
	} {
		for _, r := range []Rules{{}, {Kubelet: true}} {
			text, err := json.Marshal(map[string]any{"auths": map[string]any{"r.io": map[string]string{"auth": encodeAuth(tt.user, tt.password)}, "s.io": map[string]string{"auth": "dTpw"}}})
			require.NoError(t, err)
			ring := FromSecrets([]Secret{{Namespace: "web", Name: "regcred", Type: TypeDockerConfigJSON, Data: ConcealData(map[string][]byte{KeyDockerConfigJSON: text})}}, r)
			creds, _ := collect(t.Context(), ring, "r.io/app")
			require.Len(t, creds, 1, name)
			assert.Equal(t, tt.password, creds[0].Password.Reveal(), "%s: it is sent as it is", name)
			problems, notes := texts(t, ring, "r.io/app")
			for _, reported := range [][]string{problems, notes} {
				if assert.Len(t, reported, 1, name) {
					assert.Contains(t, reported[0], `secret "web/regcred", key "r.io": `+tt.want, name)
					assert.NotContains(t, reported[0], "p4", name)
				}
			}
			assert.ErrorIs(t, Problems(ring)[0], ErrLooksWrong, name)
			_, notes = texts(t, ring, "s.io/app")
			assert.Empty(t, notes, "%s: another registry's image is not concerned", name)
		}
	}
	c, err := ParseFile([]byte(`{"auths":{"r.io":{"auth":"dTpw","username":"u","password":"other"},"s.io":{"auth":"dTpw","username":"u","password":"p"},"t.io":{"username":"u","identitytoken":"i"}}}`), "config.json", Rules{})
	require.NoError(t, err)
	require.Len(t, Problems(c), 1)
	assert.ErrorContains(t, Problems(c)[0], `key "r.io": auth holds another login than username and password, and auth counts`)

	for entry, want := range map[string]string{
		`{"auth":"ZFRwdw=="}`:           "auth holds no colon between user name and password: it was encoded twice",
		`{"auth":"u:p4ss"}`:             "auth is not base64: it holds a colon, so it may be the text that should be encoded",
		`{"auth":"Basic dTpw"}`:         `auth is not base64: leave out the word "Basic"`,
		`{"auth":"dTpw "}`:              "auth is not base64: it ends with a space (U+0020)",
		`{"auth":"\ufeffdTpw"}`:         "auth is not base64: it begins with a byte order mark (U+FEFF)",
		`{"auth":"'dTpw'"}`:             "auth is not base64: it is in quotes",
		`{"auth":"${AUTH}"}`:            "auth is not base64: it looks like a placeholder",
		`{"auth":"dTo_Pz8-"}`:           "auth is not base64: it may be base64 for URLs",
		`"dTpw"`:                        `entry is a string, not an object: write {"auth": ...} around it`,
		`{"password":5,"username":"u"}`: "password is a number, not a string",
	} {
		c, err := ParseFile([]byte(`{"auths":{"r.io":`+entry+`}}`), "config.json", Rules{})
		require.NoError(t, err)
		if assert.Len(t, Problems(c), 1, entry) {
			assert.ErrorContains(t, Problems(c)[0], want, entry)
			assert.NotContains(t, Problems(c)[0].Error(), "p4ss")
		}
	}
	c, err = ParseFile([]byte(`{"auths":{"auth":"dTpw"}}`), "config.json", Rules{})
	require.NoError(t, err)
	require.Len(t, Problems(c), 1)
	assert.ErrorContains(t, Problems(c)[0], "the host is missing: auths maps hosts to entries")
}

// TestOddKeysAreReported holds the warnings about keys that are probably mistakes, and for
// which images they are.
func TestOddKeysAreReported(t *testing.T) {
	for key, tt := range map[string]struct{ want, image string }{
		"r.io/*":                      {"a * in a key's path is not a wildcard; write \"r.io\"", "r.io/team/app"},
		"r.io/team/*":                 {"a * in a key's path is not a wildcard; write \"r.io/team\"", "r.io/team/app"},
		"r.io/team-?/app":             {"a ? in a key's path is not a wildcard; write \"r.io\"", "r.io/team-1/app"},
		"*.r.io/[ab]/x":               {"a [ in a key's path is not a wildcard", "a.r.io/a/x"},
		"oci://r.io":                  {`a scheme that is not understood: write the key without it, as "r.io"`, "r.io/app"},
		"docker://r.io/team":          {`a scheme that is not understood: write the key without it, as "r.io"`, "r.io/team/app"},
		"ftp://r.io:5000":             {`a scheme that is not understood: write the key without it, as "r.io:5000"`, "r.io:5000/app"},
		"https://https://r.io":        {`a scheme that is not understood: write the key without it, as "r.io"`, "r.io/app"},
		"https://r.io/v1":             {`matches only repositories below v1; for the whole host write it as "r.io"`, "r.io/app"},
		"http://r.io:5000/v2":         {`matches only repositories below v2; for the whole host write it as "r.io:5000"`, "r.io:5000/app"},
		"HTTPS://R.io/v2":             {`for the whole host write it as "r.io"`, "r.io/app"},
		"https://index.docker.io/v1":  {`matches only repositories below v1; for the whole host write it as "index.docker.io"`, "nginx"},
		"//r.io":                      {"the key has no host", "r.io/app"},
		"/":                           {"the key has no host", ""},
		"":                            {"the key is empty", ""},
		"r.io/team/app:v1":            {`a key has no tag and no digest; write "r.io/team/app"`, "r.io/team/app"},
		"r.io/Team":                   {"the key's path has a capital letter", "r.io/team/app"},
		"r.io//team":                  {"the key has an empty part between slashes", "r.io/team/app"},
		"r.io/team/../x":              {"the key's path has a part that no repository has", "r.io/x"},
		"r.io/team%2Fapp":             {"the key's path has a part that no repository has", "r.io/team/app"},
		"r.io/team ":                  {"the key ends with a space (U+0020)", "r.io/team/app"},
		"r.io/team\u00a0":             {"the key ends with a no-break space (U+00A0)", "r.io/team/app"},
		"hub.docker.com":              {"another name of Docker Hub", "nginx"},
		"registry.hub.docker.com":     {"another name of Docker Hub", "team/app"},
		"https://hub.docker.com/team": {"another name of Docker Hub", "team/app"},
		"team":                        {"the key's host has no dot and no port", "team/app"},
		"library/nginx":               {"the key's host has no dot and no port", "nginx"},
		"https:/r.io":                 {`the key begins with "https:/", which is not a scheme: write the key without it, as "r.io"`, "r.io/app"},
		"*":                           {"a * matches one part of a host's name", ""},
	} {
		for _, r := range []Rules{{}, {Kubelet: true}} {
			text, err := json.Marshal(map[string]any{"auths": map[string]any{key: map[string]string{"auth": "dTpw"}}})
			require.NoError(t, err)
			c, err := ParseFile(text, "config.json", r)
			require.NoError(t, err)
			if r.Kubelet && slices.Contains([]string{"*.r.io/[ab]/x", "r.io/team-?/app", "r.io/team%2Fapp", "HTTPS://R.io/v2", "https:/r.io", "r.io/team\u00a0"}, key) {
				continue // net/url reads these in another way
			}
			if assert.Len(t, Problems(c), 1, "%q", key) {
				assert.ErrorContains(t, Problems(c)[0], tt.want, "%q", key)
				assert.ErrorIs(t, Problems(c)[0], errKeyMatches, "%q", key)
			}
			if tt.image == "" {
				continue
			}
			creds, _ := collect(t.Context(), c, tt.image)
			assert.Empty(t, creds, "%q: what the key means does not change", key)
			_, notes := texts(t, c, tt.image)
			assert.Len(t, notes, 1, "%q", key)
			_, notes = texts(t, c, "other.example:7/x")
			assert.Empty(t, notes, "%q: another host's image is not concerned", key)
		}
	}
	for _, key := range []string{
		"r.io", "r.io/team", "r.io/team/", "r.io/team/app_x.y-z", "*.io", "r.io:5000/v2", "r.io/v2", "https://r.io/v1/", "https://r.io/v2/", "https://r.io/",
		"localhost", "localhost:5000", "registry:5000", "*:5000", "[::1]:5000", "docker.io", "index.docker.io", "https://index.docker.io/v1/", "HTTPS://r.io",
		"http://r.io/path/", "r[a-c].io", "r.io/team/v1", "k8s.gcr.io", "https://r.io/v1/team", "192.168.0.1",
	} {
		assert.Empty(t, Problems(configOf(t, key)), "%q", key)
	}
	c, err := ParseFile([]byte(`{"auths":{"https://user:hunter2@r.io/*":{"auth":"dTpw"}}}`), "config.json", Rules{Kubelet: true})
	require.NoError(t, err)
	assert.NotContains(t, errors.Join(Problems(c)...).Error(), "hunter2")
}

// TestFilesInTheWrongFormAreReported holds the problems of files in the wrong form.
func TestFilesInTheWrongFormAreReported(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"config.json", `{"r.io":{"auth":"dTpw"}}`, "entries outside of auths, which is the form of .dockercfg"},
		{"auth.json", `{"r.io":{"username":"u","password":"p"}}`, "entries outside of auths"},
		{"creds", `{"r.io":{"auth":"dTpw"},"credsStore":""}`, "entries outside of auths"},
		{".dockercfg", goodDocument, "has auths, which is the form of config.json"},
		{"config.json", `{"auth":{"r.io":{"auth":"dTpw"}}}`, `has "auth", not auths`},
		{"config.json", `{"value":{"auths":{"r.io":{"auth":"dTpw"}}}}`, `under "value"`},
		{"config.json", `{"auths":{"r.io":{}}}`, `key "r.io": the entry is empty`},
		{"config.json", `{"auths":{},"credStore":"desktop"}`, `has "credStore", which must be written credsStore`},
		{"config.json", `{"credHelper":{"r.io":"x"}}`, `has "credHelper", which must be written credHelpers`},
	} {
		c, err := ParseFile([]byte(tt.text), tt.name, Rules{})
		require.NoError(t, err, "it was read before, and gives nothing")
		problems, notes := texts(t, c, "r.io/app")
		for _, reported := range [][]string{problems, notes} {
			if assert.Len(t, reported, 1, tt.text) {
				assert.Contains(t, reported[0], tt.want, tt.text)
			}
		}
		assert.ErrorIs(t, Problems(c)[0], ErrGivesNothing)
	}
	for _, text := range []string{`{}`, `{"auths":{}}`, `null`, `{"proxies":{"default":{"httpProxy":"x"}}}`, `{"credsStore":""}`, `{"plugins":{"x":{"y":"z"}},"HttpHeaders":{"User-Agent":"x"}}`} {
		c, err := ParseFile([]byte(text), "config.json", Rules{})
		require.NoError(t, err)
		assert.Empty(t, Problems(c), "docker writes such files: %s", text)
	}
}
