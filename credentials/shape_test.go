package credentials

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestWrappedDocumentsAreReported parses valid documents and entries inside of something
// else, one for each form in which that happens. Problems and Explain say where the
// document is, and what to do.
func TestWrappedDocumentsAreReported(t *testing.T) {
	const entries = `{"r.io":{"auth":"dTpw"}}`
	encoded := base64.StdEncoding.EncodeToString([]byte(goodDocument))
	quoted, err := json.Marshal(goodDocument)
	require.NoError(t, err)
	const advice = "leave out what is around"
	for _, tt := range []struct{ key, text, where string }{
		{KeyDockercfg, `{"value":` + entries + `}`, `under "value"`},
		{KeyDockercfg, `{"data":{"value":` + entries + `}}`, `under "value" in "data"`},
		{KeyDockercfg, `{"value":"{\"r.io\":{\"auth\":\"dTpw\"}}"}`, `under "value"`},
		{KeyDockercfg, `{".dockercfg":` + entries + `}`, `under ".dockercfg"`},
		{KeyDockercfg, `{"value":` + goodDocument + `}`, `under "value"`},
		{KeyDockerConfigJSON, `{"auths":{"auths":` + entries + `}}`, `under "auths" in "auths"`},
		{KeyDockerConfigJSON, `{"auths":{"value":` + entries + `}}`, `under "value" in "auths"`},
		{KeyDockerConfigJSON, `{"auths":` + goodDocument + `}`, `under "auths" in "auths"`},
		{KeyDockerConfigJSON, `{"auths":{"data":{"value":` + entries + `}}}`, `under "value" in "data" in "auths"`},
		{KeyDockerConfigJSON, `{"auths":{"value":` + string(quoted) + `}}`, `under "value" in "auths"`},
		{KeyDockerConfigJSON, `{"auths":{"value":"` + encoded + `"}}`, `under "value" in "auths"`},
		{KeyDockerConfigJSON, `{"data":{"value":` + goodDocument + `}}`, `under "value" in "data"`},
		{KeyDockerConfigJSON, `{"data":{"value":` + string(quoted) + `}}`, `under "value" in "data"`},
		{KeyDockerConfigJSON, `{"a":{"b":{"c":{"d":"` + encoded + `"}}}}`, `under "d" in "c" in "b" in "a"`},
		{KeyDockerConfigJSON, `{"kind":"Secret","data":{".dockerconfigjson":"` + encoded + `"}}`, `under ".dockerconfigjson" in "data"`},
		{KeyDockerConfigJSON, `{"items":[` + goodDocument + `]}`, `in a list under "items"`},
		{KeyDockerConfigJSON, `{"auths":{},"value":` + goodDocument + `}`, `under "value"`},
		{KeyDockerConfigJSON, `{"registry.example/x":{"auths":` + entries + `}}`, `under another field`},
	} {
		typ := TypeDockerConfigJSON
		if tt.key == KeyDockercfg {
			typ = TypeDockercfg
		}
		secret := Secret{Namespace: "web", Name: "regcred", Type: typ, Data: map[string]Sensitive{tt.key: Conceal(tt.text)}}
		file := "config.json"
		if tt.key == KeyDockercfg {
			file = ".dockercfg"
		}
		for _, rules := range []Rules{{}, {Kubelet: true}} {
			config, err := ParseFile([]byte(tt.text), file, rules)
			require.NoError(t, err, tt.text)
			for source, ring := range map[string]Keyring{`secret "web/regcred"`: FromSecrets([]Secret{secret}, rules), `file "` + file + `"`: config} {
				problems, notes := texts(t, ring, "r.io/team/app")
				for _, reported := range []string{strings.Join(problems, "\n"), strings.Join(notes, "\n")} {
					assert.Contains(t, reported, source, tt.text)
					assert.Contains(t, reported, tt.where, tt.text)
					assert.Contains(t, reported, advice, tt.text)
					assert.NotContains(t, reported, "dTpw", tt.text)
				}
				if !rules.Kubelet {
					assert.Len(t, problems, 1, tt.text)
					creds, _ := collect(t.Context(), ring, "r.io/team/app")
					assert.Empty(t, creds, tt.text)
				}
			}
		}
	}
}

// TestWrappedEntriesAreReportedNextToGoodOnes holds that entries inside of something else
// are reported even if other entries are good.
func TestWrappedEntriesAreReportedNextToGoodOnes(t *testing.T) {
	for text, want := range map[string]string{
		`{"auths":{"s.io":{"auth":"dTpw"},"auths":{"r.io":{"auth":"dTpw"}}}}`:                `under "auths" in "auths"`,
		`{"auths":{"s.io":{"auth":"dTpw"}},"value":{"auths":{"r.io":{"auth":"dTpw"}}}}`:      `under "value"`,
		`{"auths":{"s.io":{"auth":"dTpw"}},"r.io":{"auth":"dTpw"}}`:                          "entries outside of auths",
		`{"auths":{"s.io":{"auth":"dTpw"},"r.io":{"value":{"auth":"dTpw"}}}}`:                `key "r.io": the entry's fields are under "value": leave out what is around them`,
		`{"auths":{"s.io":{"auth":"dTpw"},"r.io":[{"auth":"dTpw"}]}}`:                        `key "r.io": entry is an array, not an object: leave out the list around it`,
		`{"auths":{"s.io":{"auth":"dTpw"},"r.io":{"auth":{"username":"u","password":"p"}}}}`: `key "r.io": auth is an object, not a string`,
	} {
		s := Secret{Namespace: "web", Name: "regcred", Type: TypeDockerConfigJSON, Data: map[string]Sensitive{KeyDockerConfigJSON: Conceal(text)}}
		ring := FromSecrets([]Secret{s}, Rules{})
		problems, notes := texts(t, ring, "r.io/app")
		for _, reported := range [][]string{problems, notes} {
			if assert.Len(t, reported, 1, text) {
				assert.Contains(t, reported[0], want, text)
			}
		}
		creds, _ := collect(t.Context(), ring, "s.io/app")
		assert.Len(t, creds, 1, text)
	}
	_, err := ParseFile([]byte(`[`+goodDocument+`]`), "config.json", Rules{})
	assert.ErrorContains(t, err, "is an array, not an object: the document is in a list: leave out what is around it")
	for _, text := range []string{
		`{"auths":{},"plugins":{"x":{"username":"u"}},"HttpHeaders":{"auth":"x"},"proxies":{"default":{"password":"p"}}}`,
		`{"auths":{"s.io":{"auth":"dTpw"}},"aliases":{"builder":"buildx"},"credHelpers":{},"x":{"y":[1,{"z":"e30="}]}}`,
	} {
		c, err := ParseFile([]byte(text), "config.json", Rules{})
		require.NoError(t, err)
		assert.Empty(t, Problems(c), text)
	}
	// The time for a deeply nested text is bounded.
	deep := strings.Repeat(`{"a":`, 5000) + `1` + strings.Repeat(`}`, 5000)
	c, err := ParseFile([]byte(deep), "config.json", Rules{})
	require.NoError(t, err)
	assert.Empty(t, Problems(c))
}

// TestDocumentsEncodedTwiceAreReported parses documents and logins that were encoded twice,
// in all kinds of base64. The error says so.
func TestDocumentsEncodedTwiceAreReported(t *testing.T) {
	document := `{"auths":{"r.io":{"username":"u>?","password":"p~~~ÿÿÿ>>>???"}}}`
	wide := utf16.Encode([]rune(document))
	inUTF16 := make([]byte, 0, 2*len(wide))
	for _, c := range wide {
		inUTF16 = append(inUTF16, byte(c), byte(c>>8))
	}
	std := base64.StdEncoding.EncodeToString([]byte(document))
	url := base64.URLEncoding.EncodeToString([]byte(document))
	require.NotEqual(t, std, url)
	for _, text := range []string{
		std, strings.TrimRight(std, "="), url, base64.RawURLEncoding.EncodeToString([]byte(document)), url + "\n", url[:20] + "\r\n" + url[20:],
		"data:application/json;base64," + std, "data:;base64," + std, "DATA:application/json;charset=utf-8;BASE64," + std + "\n",
		"data:text/plain;base64," + url, "base64:" + std, "base64," + std, base64.StdEncoding.EncodeToString([]byte("data:application/json;base64," + std)),
		base64.StdEncoding.EncodeToString([]byte(url)), base64.StdEncoding.EncodeToString(inUTF16), base64.URLEncoding.EncodeToString(append([]byte{0xff, 0xfe}, inUTF16...)),
	} {
		for data, want := range map[string]string{text: "it looks like base64 of JSON: it was encoded twice", `"` + strings.NewReplacer("\r", `\r`, "\n", `\n`).Replace(text) + `"`: "it looks like base64 of JSON, encoded twice"} {
			s := Secret{Namespace: "web", Name: "regcred", Type: TypeDockerConfigJSON, Data: map[string]Sensitive{KeyDockerConfigJSON: Conceal(data)}}
			_, err := ParseFile([]byte(data), "config.json", Rules{})
			assert.ErrorContains(t, err, want, data)
			assert.ErrorContains(t, s.Validate(), want, data)
			problems, notes := texts(t, FromSecrets([]Secret{s}, Rules{}), "r.io/app")
			assert.Contains(t, strings.Join(problems, "\n"), want, data)
			assert.Contains(t, strings.Join(notes, "\n"), want, data)
			assert.NotContains(t, err.Error(), data[len(data)-12:len(data)-2])
		}
		wrapped, err := json.Marshal(map[string]string{"value": text})
		require.NoError(t, err)
		c, err := ParseFile(wrapped, "config.json", Rules{})
		require.NoError(t, err)
		assert.ErrorContains(t, Problems(c)[0], `under "value"`)
	}
	login := "user~~~?>:p4ss~~~?>\xff\xff\xff"
	twice := base64.StdEncoding.EncodeToString([]byte(login))
	for _, auth := range []string{
		base64.StdEncoding.EncodeToString([]byte(twice)), base64.RawStdEncoding.EncodeToString([]byte(twice)),
		base64.StdEncoding.EncodeToString([]byte(base64.URLEncoding.EncodeToString([]byte(login)))),
		base64.StdEncoding.EncodeToString([]byte("data:;base64," + twice)),
	} {
		c, err := ParseFile([]byte(`{"auths":{"r.io":{"auth":"`+auth+`"}}}`), "config.json", Rules{})
		require.NoError(t, err)
		if assert.Len(t, Problems(c), 1, auth) {
			assert.ErrorContains(t, Problems(c)[0], "was encoded twice", auth)
		}
	}
	for auth, want := range map[string]string{
		"data:text/plain;base64," + twice:                `: leave out "data:text/plain;base64,"`,
		"base64:" + twice:                                `: leave out "base64:"`,
		base64.URLEncoding.EncodeToString([]byte(login)): "it may be base64 for URLs",
	} {
		c, err := ParseFile([]byte(`{"auths":{"r.io":{"auth":"`+auth+`"}}}`), "config.json", Rules{})
		require.NoError(t, err)
		if assert.Len(t, Problems(c), 1, auth) {
			assert.ErrorContains(t, Problems(c)[0], want, auth)
		}
	}

	// The data of a manifest can be in the wrong encoding.
	for value, want := range map[string]string{
		`"data:application/json;base64,` + std + `"`: `is not base64: leave out "data:application/json;base64,"`,
		url:                      "is not base64: it may be base64 for URLs, with - and _ in place of + and /",
		`'` + goodDocument + `'`: "is not base64: it is JSON that is not encoded: write it under stringData",
		`"@@@"`:                  "is not base64",
	} {
		secrets, err := ParseSecrets([]byte("kind: Secret\nmetadata: {name: regcred, namespace: web}\ntype: kubernetes.io/dockerconfigjson\ndata:\n  .dockerconfigjson: " + value + "\n"))
		require.NoError(t, err)
		require.Len(t, secrets, 1)
		assert.ErrorContains(t, secrets[0].Validate(), want)
		problems, notes := texts(t, FromSecrets(secrets, Rules{}), "r.io/app")
		assert.Contains(t, strings.Join(problems, "\n"), want)
		assert.Contains(t, strings.Join(notes, "\n"), want)
	}
}

// TestKeysThatMatchNoImageAreReported holds the warnings about keys that match no image, or
// that probably do not mean what they say.
func TestKeysThatMatchNoImageAreReported(t *testing.T) {
	for key, tt := range map[string]struct{ want, image string }{
		"https://r.io/v2/_catalog":              {`the key's path is one of the registry's API, not a repository's; for the whole host write it as "r.io"`, "r.io/app"},
		"https://r.io:5000/v2/_catalog/":        {`for the whole host write it as "r.io:5000"`, "r.io:5000/app"},
		"https://r.io/v1/users/":                {`for the whole host write it as "r.io"`, "r.io/app"},
		"https://index.docker.io/v1/users/":     {`for the whole host write it as "index.docker.io"`, "nginx"},
		"https://r.io/api/docker/x/v2":          {`the registry's API`, "r.io/app"},
		"r.io/v1/_ping":                         {`the registry's API`, "r.io/app"},
		"https://r.io/v2/team/app/tags/list":    {`the registry's API`, "r.io/team/app"},
		"https://r.io/v2/team/app/manifests/v1": {`the registry's API`, "r.io/team/app"},
		"r.io/team/app/blobs/":                  {``, ""},
		"r.io/_catalog":                         {`the key's path has a part that no repository has`, "r.io/app"},
		"r.io/team-":                            {`the key's path has a part that no repository has`, "r.io/team/app"},
		"r.io/.team/app":                        {`the key's path has a part that no repository has`, "r.io/team/app"},
		"r.io/te..am":                           {`the key's path has a part that no repository has`, "r.io/team/app"},
		"r.io/te___am/x":                        {`the key's path has a part that no repository has`, "r.io/team/app"},
		"r.io/te__am/a--b/c_d/e.f":              {``, ""},
		"a.example,r.io":                        {`the key holds a comma, which no registry's name has: write each host as a key of its own, as "a.example"`, "r.io/app"},
		"r.io, a.example":                       {`comma`, "r.io/app"},
		"https://a.example,https://r.io":        {`comma`, "r.io/app"},
		"a.example;r.io:5000/team":              {`the key holds a semicolon`, "r.io:5000/team/app"},
		"a.example|r.io":                        {`the key holds "|"`, "r.io/app"},
		"r.io;":                                 {`the key holds a semicolon, which no registry's name has: write it as "r.io"`, "r.io/app"},
		`"r.io"`:                                {`the key is in quotes, which are part of it: write it as "r.io"`, "r.io/app"},
		"'r.io'":                                {`the key is in quotes`, "r.io/app"},
		"<r.io>":                                {`the key holds "<", which no registry's name has`, "r.io/app"},
		"r.io&x":                                {`the key holds "&", which no registry's name has`, "r.io/app"},
		"(r.io)":                                {`which no registry's name has: write it as "r.io"`, "r.io/app"},
		"$REGISTRY":                             {`the key holds "$"`, ""},
		"${REGISTRY}.io":                        {`a template was left in the key`, ""},
		"{{ .Values.registry }}":                {`a template was left in the key`, ""},
		"<no value>":                            {`a template was left in the key`, ""},
		".r.io":                                 {`the key's host begins with a dot: write "*.r.io" for the hosts one part below it`, "a.r.io/app"},
		".r.io:5000/team":                       {`the key's host begins with a dot: write "*.r.io:5000"`, "a.r.io:5000/team/app"},
		"r..io":                                 {`the key's host has an empty part between dots: write it as "r.io"`, "r.io/app"},
		"r.io.":                                 {`the key's host ends with a dot, which no registry's name does: write it as "r.io"`, "r.io/app"},
		"*..io":                                 {`an empty part between dots`, "a.io/app"},
		"*.r.io,s.io":                           {`comma`, "s.io/app"},
		"r_x.io":                                {`the key's host has an underscore, which no registry's name has`, ""},
		"-r.io":                                 {`the key's host has a part that begins or ends with a dash, which no registry's name has`, ""},
		"r-.io:5000":                            {`begins or ends with a dash`, ""},
		"r.io:0":                                {`the key's port is not one that a server can have`, ""},
		"r.io:65536/x":                          {`the key's port is not one that a server can have`, ""},
		"login.docker.com":                      {"another name of Docker Hub", "nginx"},
		"auth.docker.io":                        {"another name of Docker Hub", "nginx"},
		"https:/r.io":                           {`the key begins with "https:/", which is not a scheme: write the key without it, as "r.io"`, "r.io/app"},
		"oci:/r.io":                             {`the key begins with "oci:/", which is a scheme that is not understood: write the key without it, as "r.io"`, "r.io/app"},
		"https//r.io/team":                      {`the key begins with "https//", which is not a scheme: write the key without it, as "r.io"`, "r.io/team/app"},
		"https;//r.io":                          {`the key begins with "https;//", which is not a scheme`, "r.io/app"},
		"docker:/r.io:5000":                     {`a scheme that is not understood: write the key without it, as "r.io:5000"`, "r.io:5000/app"},
	} {
		for _, r := range []Rules{{}, {Kubelet: true}} {
			text, err := json.Marshal(map[string]any{"auths": map[string]any{key: map[string]string{"auth": "dTpw"}}})
			require.NoError(t, err)
			c, err := ParseFile(text, "config.json", r)
			require.NoError(t, err)
			if tt.want == "" {
				assert.Empty(t, Problems(c), "%q", key)
				continue
			}
			if r.Kubelet && key == "r.io/team-" { // for the kubelet it is the beginning of r.io/team-b
				continue
			}
			if r.Kubelet {
				assert.NotEmpty(t, append(Problems(c), unreadKeys(c)...), "%q", key)
				continue // net/url reads some of these in another way
			}
			if assert.Len(t, Problems(c), 1, "%q", key) {
				assert.ErrorContains(t, Problems(c)[0], tt.want, "%q", key)
			}
			if tt.image == "" {
				continue
			}
			_, notes := texts(t, c, tt.image)
			if assert.Len(t, notes, 1, "%q for %s", key, tt.image) {
				assert.Contains(t, notes[0], tt.want)
			}
			if isWarning(Problems(c)[0]) {
				_, notes = texts(t, c, "other.example:7/x")
				assert.Empty(t, notes, "%q: another host's image is not concerned", key)
			}
		}
	}
	// A key that cannot be read is left out, and the error names its scheme.
	for key, want := range map[string]string{
		"oci:r.io":              `the key begins with "oci:", which is a scheme that is not understood: write the key without it, as "r.io"`,
		"https:r.io":            `the key begins with "https:", which is not a scheme: write the key without it, as "r.io"`,
		"docker:r.io:5000/team": `write the key without it, as "r.io:5000"`,
		`https:\\r.io`:          `write the key without it, as "r.io"`,
		"oci:h":                 `the key begins with "oci:", which is a scheme that is not understood: write the key without it, as "h"`,
		"r.io:x":                "port is not a number",
		"localhost:x":           "port is not a number",
	} {
		c := configOf(t, key)
		problems, notes := texts(t, c, "r.io/app")
		for _, reported := range [][]string{problems, notes} {
			if assert.Len(t, reported, 1, key) {
				assert.Contains(t, reported[0], want, key)
			}
		}
		_, err := Login(key, "u", Conceal("p"))
		assert.ErrorContains(t, err, want, key)
	}
}

// unreadKeys are keys that only the kubelet accepts. Explain says that they cannot be read.
func unreadKeys(c *File) (errs []error) {
	for _, e := range c.table.entries {
		if e.err != nil {
			errs = append(errs, e.err)
		}
	}
	return errs
}

// TestEveryUnusedLoginIsReported parses documents in which a login is in a place where none
// is read. Problems, and the notes of Explain for its image, say where it is.
func TestEveryUnusedLoginIsReported(t *testing.T) {
	const login = `{"auth":"dTpw"}`
	const entries = `{"r.io":` + login + `}`
	const doc = `{"auths":` + entries + `}`
	const good = `"s.io":` + login
	for _, tt := range []struct {
		text  string
		wants []string
	}{
		// A brace in the wrong place.
		{`{"auths":{"s.io":{"auth":"dTpw","r.io":` + login + `}}}`, []string{`key "s.io": the entry of "r.io" is within this one: close the brace of this entry before it`}},
		{`{"auths":{"s.io":{"auth":"dTpw","r.io":` + login + `,"q.io:5000/x":` + login + `}}}`, []string{`the entry of "r.io"`, `the entry of "q.io:5000/x"`}},
		{`{"auths":{"s.io":{"auth":"dTpw","auths":` + entries + `}}}`, []string{`key "s.io": other entries are within this one, under "auths"`}},
		{`{"auths":{"s.io":{"username":"u","password":"p","x":{"y":` + doc + `}}}}`, []string{`under "y" in "x"`}},
		{`{"auths":{"s.io":{"username":"u","password":"p","x":[` + entries + `]}}}`, []string{`in a list under "x"`}},

		// Written twice.
		{`{"auths":{"r.io":` + login + `,"r.io":{"auth":"dTp4"}}}`, []string{`key "r.io": the key is written again after this entry, and the last one counts`}},
		{`{"auths":{"r.io":` + login + `,"r.io":{"auth":"dTp4"},"r.io":{}}}`, []string{"is written again", "is written again", "the entry is empty"}},
		{`{"auths":` + entries + `,"auths":{"r.io":{"auth":"dTp4"}}}`, []string{`is written again`}},
		{`{"auths":{"r.io":{"auth":"dTpw","auth":"dTp4"}}}`, []string{`key "r.io": auth is in the entry twice, and the last one counts`}},
		{`{"auths":{"r.io":{"username":"u","password":"p","Password":"q"}}}`, []string{`password is in the entry twice`}},
		{`{"auths":` + entries + `,"auths":null}`, []string{"auths is there again as null"}},

		// In fields that have another purpose.
		{`{"auths":{` + good + `},"HttpHeaders":{"auths":` + entries + `}}`, []string{`under "HttpHeaders"`}},
		{`{"auths":{` + good + `},"plugins":{"auths":` + entries + `}}`, []string{`under "plugins"`}},
		{`{"auths":{` + good + `},"proxies":` + doc + `}`, []string{`under "proxies"`}},
		{`{"auths":{` + good + `},"proxies":` + entries + `}`, []string{`under "proxies"`}},
		{`{"auths":{` + good + `},"kubernetes":{"x":[` + doc + `]}}`, []string{`in a list under "x" in "kubernetes"`}},
		{`{"auths":{` + good + `},"data":{"a":` + doc + `,"b":` + doc + `}}`, []string{`under "a" in "data"`, `under "b" in "data"`}},
		{`{"auths":{` + good + `},"x":` + strings.Repeat(`{"a":`, 40) + doc + strings.Repeat(`}`, 40) + `}`, []string{`under "a" in "a"`}},

		// Without the object around it.
		{`{"registry":"r.io","username":"u","password":"p"}`, []string{"the document is one login without the registry that it is for"}},
		{login, []string{"the document is one login without the registry"}},
		{`{"auths":{` + good + `},"identitytoken":"x"}`, []string{"the document is one login without the registry"}},
		{`{"r.io":"dTpw"}`, []string{`the document has "r.io" outside of auths: write it as {"auths": {"r.io": {"auth": ...}}}`}},
		{`{"auths":{` + good + `},"https://r.io/v1/":"dTpw"}`, []string{`the document has "https://r.io/v1/" outside of auths`}},
		{`{"r.io":{"email":"a@b"}}`, []string{"entries outside of auths"}},
		{`{"r.io":{}}`, []string{"entries outside of auths"}},
	} {
		for _, rules := range []Rules{{}, {Kubelet: true}} {
			config, err := ParseFile([]byte(tt.text), "config.json", rules)
			require.NoError(t, err, tt.text)
			secret := Secret{Namespace: "web", Name: "regcred", Type: TypeDockerConfigJSON, Data: map[string]Sensitive{KeyDockerConfigJSON: Conceal(tt.text)}}
			for _, ring := range []Keyring{config, FromSecrets([]Secret{secret}, rules)} {
				problems, notes := texts(t, ring, "r.io/team/app")
				if !rules.Kubelet {
					assert.Len(t, problems, len(tt.wants), tt.text)
				}
				for i, want := range tt.wants {
					if rules.Kubelet && want == "the entry is empty" {
						continue
					}
					if assert.Greater(t, len(problems), i, tt.text) {
						assert.Contains(t, problems[i], want, tt.text)
					}
					assert.Contains(t, strings.Join(notes, "\n"), want, tt.text)
				}
				assert.NotContains(t, strings.Join(problems, "\n"), "dTp", tt.text)
			}
		}
	}
	for _, text := range []string{
		`{"auths":{"s.io":{"auth":"dTpw","email":"a@b","x":{"y":{"auth":"z"}},"extra.field":{"a":1}}}}`, `{"auths":{"s.io":` + login + `,"s.io":` + login + `}}`,
		`{"auths":{"s.io":` + login + `},"username":"u"}`, `{"auths":{},"currentContext":"x.y","detachKeys":"ctrl-e,e"}`, `{"auths":{},"aliases":{"a.b":"c"}}`,
	} {
		c, err := ParseFile([]byte(text), "config.json", Rules{})
		require.NoError(t, err)
		assert.Empty(t, Problems(c), text)
	}
	// The time to search a deeply nested document is bounded.
	for _, text := range []string{strings.Repeat(`{"a":`, 5000) + `{"auths":{}}` + strings.Repeat(`}`, 5000), `{"auths":{"s.io":{"auth":"dTpw","x":` + strings.Repeat(`[`, 9000) + strings.Repeat(`]`, 9000) + `}}}`} {
		_, err := ParseFile([]byte(text), "config.json", Rules{})
		require.NoError(t, err)
	}
}

// TestDataInTheWrongPlaceIsReported parses manifests of Secrets whose document is in the
// wrong place, or that have two documents.
func TestDataInTheWrongPlaceIsReported(t *testing.T) {
	const encoded = "eyJhdXRocyI6eyJyLmlvIjp7ImF1dGgiOiJkVHB3In19fQ=="
	head := "kind: Secret\nmetadata: {name: regcred, namespace: web}\ntype: kubernetes.io/dockerconfigjson\n"
	other := base64.StdEncoding.EncodeToString([]byte(`{"auths":{"s.io":{"auth":"dTpw"}}}`))
	for manifest, want := range map[string]string{
		head + "stringdata: {.dockerconfigjson: x}\n":                                                                    `it has a field "stringdata", which must be written data, or stringData`,
		head + "StringData: {.dockerconfigjson: x}\n":                                                                    `it has a field "StringData"`,
		head + "Data: {.dockerconfigjson: " + encoded + "}\n":                                                            `it has a field "Data"`,
		head + "binaryData: {.dockerconfigjson: " + encoded + "}\n":                                                      `it has ".dockerconfigjson" under "binaryData": put it under data`,
		head + "spec: {data: {.dockerconfigjson: " + encoded + "}}\n":                                                    `it has ".dockerconfigjson" under "data" in "spec"`,
		head + ".dockerconfigjson: " + encoded + "\n":                                                                    `it has ".dockerconfigjson" outside of data`,
		strings.Replace(head, "web}", "web, data: {.dockerconfigjson: "+encoded+"}}", 1):                                 `it has ".dockerconfigjson" under "data" in "metadata"`,
		head + "data: {dockerconfigjson: '@'}\n":                                                                         `it has data["dockerconfigjson"], which must be called ".dockerconfigjson"`,
		head + "data: {config.json: '{}'}\n":                                                                             `it has data["config.json"], which must be called ".dockerconfigjson"`,
		head + "data: {x: " + encoded + "}\n":                                                                            `it has no data[.dockerconfigjson]; data[x] holds a document, and must have that name`,
		head + "data: {.dockerconfigjson: " + other + ", .dockercfg: " + encoded + "}\n":                                 "data[.dockercfg] holds another document, which is not read",
		head + "data: {.dockerconfigjson: " + other + ", config.json: " + encoded + "}\n":                                "data[config.json] holds another document, which is not read",
		head + "data: {.dockerconfigjson: " + other + ", config.json: '@'}\n":                                            "data[config.json] holds another document",
		head + "data: {.dockerconfigjson: " + other + ", more: " + encoded + "}\n":                                       "data[more] holds another document",
		strings.Replace(head, "dockerconfigjson\n", "dockercfg\n", 1) + "data: {.dockercfg: e30=, x: " + encoded + "}\n": "data[x] holds another document",
	} {
		secrets, err := ParseSecrets([]byte(manifest))
		require.NoError(t, err, manifest)
		ring := FromSecrets(secrets, Rules{})
		problems, notes := texts(t, ring, "r.io/app")
		assert.Contains(t, strings.Join(problems, "\n"), want, manifest)
		assert.Contains(t, strings.Join(notes, "\n"), want, manifest)
		for _, err := range Problems(ring) {
			assert.ErrorIs(t, err, ErrGivesNothing)
		}
	}
	secrets, err := ParseSecrets([]byte(head + "data: {.dockerconfigjson: " + other + ", note: eA==}\n"))
	require.NoError(t, err)
	assert.Empty(t, Problems(FromSecrets(secrets, Rules{})))
}

// TestLayersAroundADocumentAreNamed parses documents and logins with something around them
// that programs put there. The error names the layers.
func TestLayersAroundADocumentAreNamed(t *testing.T) {
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	times := func(n int, s string) string {
		for range n {
			s = b64(s)
		}
		return s
	}
	inUTF16 := func(s string) string {
		var b strings.Builder
		for _, c := range utf16.Encode([]rune(s)) {
			b.Write([]byte{byte(c), byte(c >> 8)})
		}
		return b.String()
	}
	quoted, err := json.Marshal(goodDocument)
	require.NoError(t, err)
	odd := b64(`{"auths":{"r.io":{"username":"u>?","password":"p~~~ÿÿÿ>>>???"}}}`)
	require.Contains(t, odd, "+")
	for document, want := range map[string]string{
		times(4, goodDocument):                                          "it was encoded twice",
		times(6, goodDocument):                                          "it was encoded twice",
		strings.Replace(odd, "+", "-", 1):                               "it was encoded twice",
		b64(string(quoted)):                                             "it looks like base64 around a string of JSON around a document: write the document as it is",
		`b'` + b64(goodDocument) + `'`:                                  "it looks like a bytes literal of Python (b'...') around base64 around a document",
		`b"` + b64(goodDocument) + `"`:                                  "a bytes literal of Python",
		b64(goodDocument)[:8] + `\n` + b64(goodDocument)[8:]:            `line ends that are written out (\n) around base64`,
		strings.ReplaceAll(b64(goodDocument+" "), "=", "%3D"):           "percent-encoding around base64",
		b64("auths:\n  r.io:\n    auth: dTpw\n"):                        "base64 around a document",
		b64("\x1f\x8b\x08\x00xyz"):                                      "base64 around a document",
		"\x1f\x8b\x08\x00xyz":                                           "it is compressed with gzip",
		"---\nauths:\n  r.io:\n":                                        "it is YAML: write it as JSON",
		"-----BEGIN X-----\n" + b64(goodDocument) + "\n-----END X-----": "PEM around base64",
	} {
		_, err := ParseFile([]byte(document), "config.json", Rules{})
		assert.ErrorContains(t, err, want, document)
		s := Secret{Namespace: "web", Name: "regcred", Type: TypeDockerConfigJSON, Data: map[string]Sensitive{KeyDockerConfigJSON: Conceal(document)}}
		_, notes := texts(t, FromSecrets([]Secret{s}, Rules{}), "r.io/app")
		assert.Contains(t, strings.Join(notes, "\n"), want, document)
		assert.NotContains(t, strings.Join(notes, "\n"), b64(goodDocument)[:12])
	}
	for auth, want := range map[string]string{
		times(2, "user:pass"):                              "it was encoded twice",
		times(3, "user:pass"):                              "it was encoded twice",
		times(5, "user:pass"):                              "it was encoded twice",
		b64(inUTF16(b64("user:pass"))):                     "it was encoded twice",
		b64("Basic " + b64("user:pass")):                   `base64 around the word "Basic" around base64 around user:password`,
		"b'" + b64("user:pass") + "'":                      "a bytes literal of Python (b'...') around base64",
		strings.ReplaceAll(b64("user:passwd"), "=", "%3D"): "percent-encoding around base64",
		"Bearer abcdef":                                    "a bearer token belongs in registrytoken",
		b64(`{"username":"u","password":"p"}`):             "auth holds JSON, where it must hold user:password",
		b64(goodDocument):                                  "auth holds JSON",
		b64("Basic user:pass"):                             "auth holds the words of a header",
		b64("Authorization: Basic dTpw"):                   "auth holds the words of a header",
		b64(inUTF16("user:pass")):                          "auth holds UTF-16",
	} {
		c, err := ParseFile([]byte(`{"auths":{"r.io":{"auth":"`+auth+`"}}}`), "config.json", Rules{})
		require.NoError(t, err)
		problems, notes := texts(t, c, "r.io/app")
		assert.Contains(t, strings.Join(problems, "\n"), want, auth)
		assert.Contains(t, strings.Join(notes, "\n"), want, auth)
		assert.NotContains(t, strings.Join(problems, "\n"), "pass:", auth)
	}
	for _, auth := range []string{"user:pass", "{:x", "user:{\"a\":1}", "basic:x", "a:Basic x", "u:dTpw"} {
		c, err := ParseFile([]byte(`{"auths":{"r.io":{"auth":"`+b64(auth)+`"}}}`), "config.json", Rules{})
		require.NoError(t, err)
		assert.Empty(t, Problems(c), auth)
	}
}

// TestAdviceAboutKeysIsRight checks the warnings about keys that look wrong. A key that one
// warning says to write has no warning itself.
func TestAdviceAboutKeysIsRight(t *testing.T) {
	for key, tt := range map[string]struct{ want, write, image string }{
		`r.io\team`:                             {"the key has a backslash where a path has a slash", "r.io/team", "r.io/team/app"},
		`r.io\\team\app`:                        {"the key has a backslash where a path has a slash", "r.io/team/app", "r.io/team/app"},
		`r.io\team/app`:                         {"the key has a backslash where a path has a slash", "", ""},
		"r.io?x":                                {"a ? at the end of a host also matches", "r.io", "r.io/app"},
		"r.io*":                                 {"a * at the end of a host also matches", "r.io", "r.io/app"},
		"r.io*/team":                            {"a * at the end of a host also matches", "r.io/team", "r.io/team/app"},
		"10.0.0.256":                            {"the key's host has only numbers and is not an IP address", "", "10.0.0.256/app"},
		"1.2.3":                                 {"the key's host has only numbers and is not an IP address", "", ""},
		"1.2.3.4.5:5000":                        {"the key's host has only numbers and is not an IP address", "", ""},
		"r.io:05000":                            {"the key's port begins with a zero", "r.io:5000", "r.io:5000/app"},
		"r.io:00443/team":                       {"the key's port begins with a zero", "r.io:443", "r.io:443/team/app"},
		"https://r.io:443":                      {"the key matches only images whose name has the port 443 too", "r.io", "r.io/app"},
		"HTTP://r.io:80/team":                   {"the key matches only images whose name has the port 80 too", "r.io", "r.io/team/app"},
		"index.docker.io/v2":                    {"the key matches only repositories below v2", "index.docker.io", "nginx"},
		"docker.io/v1":                          {"the key matches only repositories below v1", "docker.io", "nginx"},
		"registry-2.docker.io":                  {"another name of Docker Hub", "", "nginx"},
		"registry.docker.io":                    {"another name of Docker Hub", "", "nginx"},
		strings.Repeat("a", 64) + ".io":         {"a part of more than 63 letters", "", ""},
		"{a,b}.io":                              {"the key has braces, which are not a wildcard: write a key for each host", "", ""},
		"r.io/{a,b}":                            {"the key has braces", "", ""},
		"r.io/ team":                            {"the key holds a space (U+0020), which no registry's name has", "r.io/team", "r.io/team/app"},
		"r.io /team":                            {"the key holds a space", "r.io/team", "r.io/team/app"},
		"r.io, s.io":                            {"the key holds a comma", "r.io", "s.io/app"},
		"nginx, s.io":                           {"write each host as a key of its own", "", "s.io/app"},
		"::1":                                   {"the key is an IPv6 address without brackets", "[::1]", ""},
		"fe80::1%eth0":                          {"the key is an IPv6 address without brackets", "[fe80::1]", ""},
		"https://2001:db8::1/team":              {"the key is an IPv6 address without brackets", "[2001:db8::1]/team", ""},
		"app@sha256:" + strings.Repeat("a", 64): {"a key has no tag and no digest", "", ""},
		"r.io/team/app@sha256:" + strings.Repeat("a", 64): {"a key has no tag and no digest", "r.io/team/app", "r.io/team/app"},
		"r.io/team/app:v1":      {"a key has no tag and no digest", "r.io/team/app", "r.io/team/app"},
		"r.io:5000/team/app:v1": {"a key has no tag and no digest", "r.io:5000/team/app", "r.io:5000/team/app"},
		"r.io/team:v1":          {"a key has no tag and no digest", "r.io/team", "r.io/team"},
		"r.io/team:v1/app":      {"a key has no tag and no digest", "r.io", "r.io/team/app"},
		`"nginx"`:               {"the key is in quotes", "", ""},
	} {
		config := configOf(t, key)
		problems, _ := texts(t, config, "r.io/app")
		if !assert.Len(t, problems, 1, key) {
			continue
		}
		said := problems[0]
		assert.Contains(t, said, tt.want, key)
		if tt.write != "" {
			assert.Contains(t, said, "write ", key)
			assert.Contains(t, said, " "+quote(tt.write), key)
			assert.Empty(t, Problems(configOf(t, tt.write)), "the advice for %q is right", key)
		} else {
			assert.NotContains(t, said, ` as "`, key)
		}
		if tt.image != "" {
			_, notes := texts(t, config, tt.image)
			assert.Len(t, notes, 1, key)
		}
	}
	for _, key := range []string{
		`r\-x.io`, "r.*", "r.i?", "*.io", "r-*.io", "127.0.0.1:5000", "10.0.0.1", "r.io:443", "https://r.io:5000", "http://r.io:443", "registry-1.docker.io", "index.docker.io/v2/team", "r.io/v2",
		"*.docker.io", strings.Repeat("a", 63) + ".io", "[::1]/team", "1.2.3.example",
	} {
		assert.Empty(t, Problems(configOf(t, key)), key)
	}
	// A key that matches images is used, and Problems lists what looks wrong in it.
	for _, key := range []string{"https://r.io:443", "r.io*"} {
		ring, err := Login(key, "u", Conceal("p"))
		require.NoError(t, err, key)
		require.Len(t, Problems(ring), 1, key)
		assert.ErrorIs(t, Problems(ring)[0], ErrLooksWrong, key)
	}
	_, err := Login(`r.io\team`, "u", Conceal("p"))
	assert.ErrorContains(t, err, `write it as "r.io/team"`)
	_, err = Login("r.io", "u:x", Conceal("p"))
	assert.ErrorContains(t, err, "a user name must not have a colon")
}
