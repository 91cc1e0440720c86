package credentials

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// usersOf returns the user names of the candidates for an image, in order.
func usersOf(t *testing.T, ring Keyring, image string) (users []string) {
	creds, errs := collect(t.Context(), ring, image)
	assert.Empty(t, errs, image)
	for _, c := range creds {
		users = append(users, c.Username)
	}
	return users
}

// TestHelperIsChosenByHost holds which program is asked for a host, and for which server
// name.
func TestHelperIsChosenByHost(t *testing.T) {
	c := Exec{Dir: installProgram(t, "docker-credential-a", "docker-credential-b"), Environ: programEnv("servers")}
	const hub = "for https://index.docker.io/v1/"
	for _, tt := range []struct {
		config, image string
		want          []string
		problems      int
	}{
		{`{"credHelpers":{"r.io":""},"credsStore":"a"}`, "r.io/app", nil, 0},
		{`{"credHelpers":{"r.io":null},"credsStore":"a"}`, "r.io/app", nil, 0},
		{`{"credHelpers":{"https://R.io/":""},"credsStore":"a"}`, "r.io/app", nil, 0},
		{`{"credHelpers":{"r.io":""},"credsStore":"a"}`, "s.io/app", []string{"for s.io"}, 0},
		{`{"credHelpers":{"r.io:5000":""},"credsStore":"a"}`, "r.io/app", []string{"for r.io"}, 0},
		{`{"credHelpers":{"docker.io":""},"credsStore":"a"}`, "nginx", nil, 0},
		{`{"credHelpers":{"https://index.docker.io/v1/":""},"credsStore":"a"}`, "nginx", nil, 0},
		{`{"credHelpers":{"r.io":"a/b"},"credsStore":"a"}`, "r.io/app", nil, 1}, // the name is malformed, and the program of credsStore is not asked either
		{`{"credHelpers":{"r.io":7},"credsStore":"a"}`, "r.io/app", nil, 1},
		{`{"credHelpers":{"r.io":" "},"credsStore":"a"}`, "r.io/app", nil, 1},
		{`{"credHelpers":{"docker.io":"a"}}`, "nginx", []string{"for docker.io"}, 0},
		{`{"credHelpers":{"Docker.io":"a"}}`, "nginx", []string{"for docker.io"}, 0},
		{`{"credHelpers":{"https://docker.io":"a"}}`, "nginx", []string{"for docker.io"}, 0},
		{`{"credHelpers":{"index.docker.io":"a"}}`, "nginx", []string{hub}, 0},
		{`{"credHelpers":{"registry-1.docker.io":"a"}}`, "nginx", []string{hub}, 0},
		{`{"credHelpers":{"https://index.docker.io/v1/":"a"}}`, "nginx", []string{hub}, 0},
		{`{"credHelpers":{"docker.io":"a","https://index.docker.io/v1/":"b"}}`, "nginx", []string{hub, "for docker.io"}, 0},
		{`{"credHelpers":{"https://index.docker.io/v1/":"b","docker.io":"a"}}`, "nginx", []string{hub, "for docker.io"}, 0},
		{`{"credHelpers":{"index.docker.io":"a","https://index.docker.io/v1/":""},"credsStore":"b"}`, "nginx", nil, 0},
		{`{"credsStore":"a"}`, "nginx", []string{hub}, 0},
		{`{"credsStore":"a"}`, "r.io:5000/app", []string{"for r.io:5000"}, 0},
		{`{"credsStore":""}`, "r.io/app", nil, 0},
	} {
		config, err := ParseFile([]byte(tt.config), "config.json", Rules{})
		require.NoError(t, err)
		ring := config.WithHelpers(c)
		assert.Len(t, Problems(ring), tt.problems, tt.config)
		assert.Equal(t, tt.want, usersOf(t, ring, tt.image), "%s for %s", tt.config, tt.image)
	}
	a, err := ParseFile([]byte(`{"credHelpers":{"docker.io":"a"}}`), "config.json", Rules{})
	require.NoError(t, err)
	b, err := ParseFile([]byte(`{"credHelpers":{"index.docker.io":"a"}}`), "config.json", Rules{})
	require.NoError(t, err)
	ref := reference.MustParse("nginx")
	assert.NotEqual(t, a.WithHelpers(c).(Fingerprinter).Fingerprint(ref), b.WithHelpers(c).(Fingerprinter).Fingerprint(ref))
}

// TestHelpersThatAreNotAskedAreReported holds that Problems lists each program that a file
// names and that is not asked, and that no program is started.
func TestHelpersThatAreNotAskedAreReported(t *testing.T) {
	c, log := testHelper(t)
	config, err := ParseFile([]byte(`{"credsStore":"desktop","credHelpers":{"a.io":"test","b.io":"test","c.io":"test","d.io":"test","e.io":"other","f.io":""},"auths":{"https://index.docker.io/v1/":{}}}`), "config.json", Rules{})
	require.NoError(t, err)
	var reported []string
	for _, err := range Problems(config) {
		assert.ErrorIs(t, err, ErrHelperNotAsked)
		reported = append(reported, err.Error())
	}
	const tail = "; it was not asked, because reading a file starts no program: File.WithHelpers asks it"
	assert.Equal(t, []string{
		`file "config.json", key "credHelpers": names the program docker-credential-other for "e.io"` + tail,
		`file "config.json", key "credHelpers": names the program docker-credential-test for "a.io", "b.io", "c.io" and 1 more` + tail,
		`file "config.json", key "credsStore": names the program docker-credential-desktop` + tail,
	}, reported)
	for image, program := range map[string]string{"nginx": "desktop", "a.io/app": "test", "e.io/app": "other", "x.io/app": "desktop", "f.io/app": ""} {
		_, notes := texts(t, Join(config), image)
		if program == "" {
			assert.Empty(t, notes, image)
			continue
		}
		if assert.Len(t, notes, 1, image) {
			assert.Contains(t, notes[0], "docker-credential-"+program+tail, image)
		}
	}
	assert.Empty(t, usersOf(t, config, "a.io/app"))
	assert.Empty(t, runs(t, log))

	ring := config.WithHelpers(c)
	problems, notes := texts(t, ring, "nginx")
	assert.Empty(t, problems, "they are asked")
	assert.Empty(t, notes)

	kubelet, err := ParseFile([]byte(`{"credsStore":"desktop"}`), "config.json", Rules{Kubelet: true})
	require.NoError(t, err)
	assert.Empty(t, Problems(kubelet), "the kubelet knows no helpers")
}

// TestBadSecretDoesNotAffectOthers holds that only the malformed Secret or document of a
// manifest is left out, and that the error has its name.
func TestBadSecretDoesNotAffectOthers(t *testing.T) {
	good := "apiVersion: v1\nkind: Secret\nmetadata:\n  name: good\n  namespace: web\ntype: kubernetes.io/dockerconfigjson\nstringData:\n  .dockerconfigjson: '" + goodDocument + "'\n"
	about := "metadata:\n  namespace: web\n  name: bad\n"
	for name, tt := range map[string]struct {
		bad, want string
		secret    bool
	}{
		"data before metadata":  {"kind: Secret\ndata:\n  .dockerconfigjson: 123\n" + about, `secret "web/bad": data[.dockerconfigjson] is a number, not a string`, true},
		"metadata before data":  {"kind: Secret\n" + about + "data:\n  .dockerconfigjson: {auths: {}}\n", `secret "web/bad": data[.dockerconfigjson] is an object, not a string`, true},
		"data is text":          {"data: x\nkind: Secret\n" + about, `secret "web/bad": data is a string, not an object`, true},
		"stringData a number":   {"stringData:\n  .dockerconfigjson: 1\nkind: Secret\n" + about, `secret "web/bad": stringData[.dockerconfigjson] is a number, not a string`, true},
		"type is a list":        {"type: [x]\nkind: Secret\n" + about, `secret "web/bad": type is an array, not a string`, true},
		"namespace is a number": {"kind: Secret\nmetadata:\n  namespace: 5\n  name: bad\n", `secret "bad": metadata: namespace is a number, not a string`, true},
		"metadata is text":      {"kind: Secret\nmetadata: x\n", `secret: metadata is a string, not an object`, true},
		"a field twice":         {"kind: Secret\ndata: {}\ndata: {}\n" + about, `secret "web/bad" holds a field twice: line `, false},
		"not YAML":              {"kind: Secret\n" + about + "data:\n  x: {{ .Values.x }}\n", `secret "web/bad" is not YAML`, false},
		"template alone":        {"{{ if .Values.x }}\nkind: Secret\n" + about + "{{ end }}\n", `secret "web/bad" is not YAML`, false},
		"quoted names":          {"kind: \"Secret\"\nmetadata:\n  name: 'bad'\n\tx: y\n", `secret "bad" is not YAML`, false},
		"no name":               {"a: b: c\n", `is not YAML`, false},
		"a list":                {"- kind: Secret\n", `is an array, not an object`, false},
	} {
		for _, order := range []string{good + "---\n" + tt.bad, tt.bad + "---\n" + good} {
			secrets, err := ParseSecrets([]byte(order))
			assert.ErrorContains(t, err, tt.want, name)
			var entry *Error
			assert.Equal(t, tt.secret, errors.As(err, &entry), name)
			if assert.Len(t, secrets, 1, name) {
				assert.Equal(t, "good", secrets[0].Name, name)
			}
		}
	}

	// Malformed objects of other kinds are ignored, although kubectl would refuse them.
	secrets, err := ParseSecrets([]byte("kind: Deployment\nspec: 1\nspec: 2\n---\n" + good))
	assert.NoError(t, err)
	assert.Len(t, secrets, 1)

	// Errors count lines from the beginning of the manifest.
	_, err = ParseSecrets([]byte("kind: Pod\n---\nkind: Pod\n--- # b\nkind: Secret\ndata: {}\ndata: {}\n"))
	assert.EqualError(t, err, "manifest, document 3: secret holds a field twice: line 7")

	// Of a list, too, only the malformed Secret is left out.
	list := `{"kind":"List","items":[{"kind":"Secret","data":{"x":1},"metadata":{"name":"one"}},{"kind":"Secret","metadata":{"name":"two"}},5,{"kind":"Secret","metadata":{"name":"three","uid":7}}]}`
	secrets, err = ParseSecrets([]byte(list))
	require.Len(t, secrets, 1)
	assert.Equal(t, "two", secrets[0].Name)
	assert.EqualError(t, err, `manifest, document 1: secret "one": data[x] is a number, not a string; manifest, document 1: is a number, not an object; manifest, document 1: secret "three": metadata: uid is a number, not a string`)
	wrapped, ok := err.(interface{ Unwrap() []error })
	require.True(t, ok)
	assert.Len(t, wrapped.Unwrap(), 3)

	// The text of the error is short, even if much is malformed.
	secrets, err = ParseSecrets([]byte(strings.Repeat(`{"kind":"Secret","data":5}`, 5000)))
	assert.Empty(t, secrets)
	assert.Less(t, len(err.Error()), 2000)
	assert.ErrorContains(t, err, "4990 more")
}

// TestReadDockerTriesTheVariableThenHelpersThenTheFile holds docker's order: the variable, then the helpers that the file
// names, then the file.
func TestReadDockerTriesTheVariableThenHelpersThenTheFile(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	path := filepath.Join(dir, "config.json")
	write := func(text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o600)) }
	variable := func(user string) string { return `{"auths":{"r.io":{"auth":"` + encodeAuth(user, "p") + `"}}}` }

	t.Setenv(dockerAuthConfig, "")
	c, err := ReadDocker()
	require.NoError(t, err, "neither variable nor file")
	assert.Empty(t, usersOf(t, c, "r.io/app"))

	t.Setenv(dockerAuthConfig, variable("env"))
	c, err = ReadDocker()
	require.NoError(t, err, "the variable alone")
	assert.Equal(t, []string{"env"}, usersOf(t, c, "r.io/app"))
	creds, _ := collect(t.Context(), c, "r.io/app")
	assert.Equal(t, Origin{Kind: KindVariable, Name: dockerAuthConfig, Key: "r.io"}, creds[0].Origin)

	write(`{"auths":{"r.io/team":{"auth":"` + encodeAuth("file", "p") + `"},"s.io":{"auth":"` + encodeAuth("other", "p") + `"}},"credsStore":"a"}`)
	c, err = ReadDocker()
	require.NoError(t, err)
	assert.Equal(t, []string{"env", "file"}, usersOf(t, c, "r.io/team/app"), "the variable comes first, even if the key in the file is more special")
	assert.Equal(t, []string{"other"}, usersOf(t, c, "s.io/app"))
	helped := c.WithHelpers(Exec{Dir: installProgram(t, "docker-credential-a"), Environ: programEnv("echo")})
	assert.Equal(t, []string{"env", "helper", "file"}, usersOf(t, helped, "r.io/team/app"))
	assert.Equal(t, []string{"helper", "other"}, usersOf(t, helped, "s.io/app"))
	for _, ring := range []Keyring{c, helped} {
		var matched []string
		for note := range ring.(Explainer).Explain(reference.MustParse("r.io/team/app")) {
			if note.Matched && note.Origin.Kind != KindHelper {
				matched = append(matched, note.Username)
			}
		}
		assert.Equal(t, []string{"env", "file"}, matched)
		data, _, err := MarshalConfig(ring)
		require.NoError(t, err)
		assert.Contains(t, string(data), encodeAuth("env", "p"))
		assert.Contains(t, string(data), encodeAuth("file", "p"))
	}
	before := c.Fingerprint(reference.MustParse("r.io/app"))
	t.Setenv(dockerAuthConfig, variable("changed"))
	c, err = ReadDocker()
	require.NoError(t, err)
	assert.NotEqual(t, before, c.Fingerprint(reference.MustParse("r.io/app")))

	// If docker refuses the variable, it is not used, and the file is.
	write(`{"auths":{"r.io":{"auth":"` + encodeAuth("file", "p") + `"}}}`)
	auth := encodeAuth("env", "p")
	for text, want := range map[string]string{
		`{"auths":{"r.io":{"username":"env","password":"p"}}}`:                        `key "r.io": holds "username", but docker accepts only auth`,
		`{"auths":{"r.io":{"auth":"` + auth + `","email":"x"}}}`:                      `key "r.io": holds "email"`,
		`{"auths":{"r.io":{"auth":"` + auth + `"}},"credsStore":"a"}`:                 `holds "credsStore", but docker accepts only auths`,
		`{"auths":{"r.io":{}}}`:                                                       `key "r.io": auth is missing`,
		`{"auths":{"r.io":{"auth":""}}}`:                                              `key "r.io": auth is missing`,
		`{"auths":{"r.io":{"auth":"!"}}}`:                                             `key "r.io": auth is not base64`,
		`{"auths":{"r.io":{"auth":"` + encodeAuth("", "p") + `"}}}`:                   `key "r.io": auth does not hold a user name`,
		`{"auths":{"r.io":{"auth":"` + auth + `"},"user:p4ss@s.io":{"auth":"bm8="}}}`: `key "***@s.io": auth holds no colon`,
		`{"auths":{"r.io":{"auth":"` + auth + `"}}}{}`:                                "is not JSON",
		`{"auths":[]}`:         "auths is an array",
		`/root/config.json`:    "is not JSON",
		`eyJhdXRocyI6e319`:     "base64 of JSON",
		`{"auths":{"r.io":5}}`: `key "r.io": entry is a number`,
	} {
		t.Setenv(dockerAuthConfig, text)
		c, err = ReadDocker()
		require.NoError(t, err, text)
		assert.Equal(t, []string{"file"}, usersOf(t, c, "r.io/app"), text)
		problems, notes := texts(t, c, "r.io/app")
		for _, reported := range [][]string{problems, notes} {
			if assert.Len(t, reported, 1, text) {
				assert.Contains(t, reported[0], `variable "DOCKER_AUTH_CONFIG": `, text)
				assert.Contains(t, reported[0], want, text)
				assert.NotContains(t, reported[0], "p4ss", text)
			}
		}
		assert.False(t, isWarning(Problems(c)[0]))
	}
	for _, text := range []string{" ", "{}", "null", `{"auths":{}}`, `{"AUTHS":{"r.io":{"Auth":"` + auth + `"}}}`} {
		t.Setenv(dockerAuthConfig, text)
		c, err = ReadDocker()
		require.NoError(t, err, text)
		assert.Empty(t, Problems(c), text)
	}

	// An unusable variable or file is an error only if the other is unusable too.
	write("{")
	t.Setenv(dockerAuthConfig, variable("env"))
	c, err = ReadDocker()
	require.NoError(t, err)
	assert.Equal(t, []string{"env"}, usersOf(t, c, "r.io/app"))
	require.Len(t, Problems(c), 1)
	assert.ErrorContains(t, Problems(c)[0], "config.json")
	t.Setenv(dockerAuthConfig, "{")
	_, err = ReadDocker()
	assert.ErrorContains(t, err, "DOCKER_AUTH_CONFIG")
	assert.ErrorContains(t, err, "config.json")
	t.Setenv(dockerAuthConfig, "")
	_, err = ReadDocker()
	assert.ErrorContains(t, err, "config.json")
}

// TestOnlyReadDockerReadsTheVariable holds that no other source of credentials reads
// DOCKER_AUTH_CONFIG, and that no program inherits it.
func TestOnlyReadDockerReadsTheVariable(t *testing.T) {
	t.Setenv(dockerAuthConfig, `{"auths":{"r.io":{"auth":"`+encodeAuth("env", "hunter2")+`"}}}`)
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("HOME", dir)
	t.Setenv("DOCKER_CONFIG", dir)
	path := filepath.Join(dir, "config.json")
	require.NoError(t, os.WriteFile(path, []byte(`{"auths":{"s.io":{"auth":"dTpw"}}}`), 0o600))
	for name, paths := range map[string][]string{"kubelet": KubeletPaths(dir), "docker": DockerPaths(), "containers": append(ContainersPaths(), path)} {
		for _, rules := range []Rules{{}, {Kubelet: true}} {
			c, err := FindFile(paths, rules)
			require.NoError(t, err, name)
			assert.Empty(t, usersOf(t, c, "r.io/app"), name)
			assert.Equal(t, []string{"u"}, usersOf(t, c, "s.io/app"), name)
		}
	}

	t.Setenv("PULLKIT_TEST_KEPT", "kept")
	for _, v := range (Exec{}).environ([]envVar{{"MORE", Conceal("more")}}) {
		assert.NotContains(t, v, dockerAuthConfig)
	}
	assert.Contains(t, (Exec{}).environ(nil), "PULLKIT_TEST_KEPT=kept")
	given := Exec{Environ: map[string]Sensitive{dockerAuthConfig: Conceal("x")}}
	assert.Contains(t, given.environ(nil), dockerAuthConfig+"=x", "what the caller gives is passed on")

	t.Setenv(programMode, "report")
	p := testProvider("report")
	p.Env = nil
	ps, err := newProviders(ProviderConfig{Exec: Exec{Dir: installProgram(t, p.Name)}}, p)
	require.NoError(t, err)
	creds, errs := collect(t.Context(), ps, "r.io/app")
	require.Empty(t, errs)
	require.Len(t, creds, 1)
	var report struct{ Env []string }
	require.NoError(t, json.Unmarshal([]byte(creds[0].Password.Reveal()), &report))
	assert.Contains(t, report.Env, "PULLKIT_TEST_KEPT=kept")
	assert.NotContains(t, creds[0].Password.Reveal(), dockerAuthConfig)
}

// TestLoginIsSentOnlyToItsRegistry holds that a login matches only images of its own
// registry.
func TestLoginIsSentOnlyToItsRegistry(t *testing.T) {
	for key, want := range map[string][]string{
		"registry.example/team":  {"registry.example/team/app", "registry.example/team"},
		"registry.example":       {"registry.example/team/app", "registry.example/team", "registry.example/other"},
		"https://r.example:5000": {"r.example:5000/x"},
		"docker.io":              {"nginx"},
		"*.example":              {"registry.example/team/app", "registry.example/team", "registry.example/other", "evil.example/team/app"},
	} {
		ring, err := Login(key, "bob", Conceal("p4ss"))
		require.NoError(t, err, key)
		var got []string
		for _, image := range []string{
			"registry.example/team/app", "registry.example/team", "registry.example/other", "registry.example/team-b/app", "registry.example:5000/team/app",
			"evil.example/team/app", "registry.example.evil.org/team/app", "r.example:5000/x", "nginx",
		} {
			if users := usersOf(t, ring, image); len(users) > 0 {
				assert.Equal(t, []string{"bob"}, users)
				got = append(got, image)
			}
		}
		slices.Sort(got)
		if key == "registry.example" || key == "*.example" {
			want = append(want, "registry.example/team-b/app")
		}
		slices.Sort(want)
		assert.Equal(t, want, got, key)
		for _, ok := range []bool{implements[Fingerprinter](ring), implements[Explainer](ring), implements[Lister](ring)} {
			assert.True(t, ok)
		}
		problems, _ := texts(t, ring, "nginx")
		assert.Empty(t, problems)
	}
	ring, err := Login("r.io", "bob", Conceal("p4ss\n"))
	require.NoError(t, err)
	creds, _ := collect(t.Context(), ring, "r.io/app")
	require.Len(t, creds, 1)
	assert.Equal(t, `a given credential, key "r.io"`, creds[0].Origin.String())
	problems, notes := texts(t, ring, "r.io/app")
	assert.Len(t, problems, 1)
	assert.Len(t, notes, 1)

	for _, tt := range []struct{ key, user, password, want string }{
		{"", "u", "p4ss", "the key is empty"},
		{"r.io", "", "p4ss", "needs a user name"},
		{"r.io", "u", "", "needs a password"},
		{"oci://r.io", "u", "p4ss", "scheme that is not understood"},
		{"r.io/*", "u", "p4ss", "is not a wildcard"},
		{"r.io/team:v1", "u", "p4ss", "a key has no tag"},
		{"user:p4ss@r.io", "u", "p4ss", `login for "***@r.io": holds an @`},
		{"r.io:x", "u", "p4ss", "port is not a number"},
		{"team/app", "u", "p4ss", "no dot and no port"},
	} {
		_, err := Login(tt.key, tt.user, Conceal(tt.password))
		assert.ErrorContains(t, err, tt.want, tt.key)
		assert.NotContains(t, fmt.Sprint(err), "p4ss")
	}
}

func implements[T any](v any) bool {
	_, ok := v.(T)
	return ok
}

// TestNoFileIsAnEmptyKeyring holds that a search without a result returns an empty keyring.
// A file that a caller named and that is missing is an error, and not one that looks like a
// missing image.
func TestNoFileIsAnEmptyKeyring(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "a", "config.json")
	for _, paths := range [][]string{nil, {missing}, {missing, filepath.Join(dir, ".dockercfg")}} {
		c, err := FindFile(paths, Rules{})
		require.NoError(t, err)
		require.NotNil(t, c)
		assert.Empty(t, c.Name())
		assert.Empty(t, Problems(c))
		assert.Empty(t, usersOf(t, c, "r.io/app"))
		assert.Empty(t, usersOf(t, c.WithHelpers(Exec{}), "r.io/app"))
	}
	_, err := ReadFile(missing, Rules{})
	assert.EqualError(t, err, `no credential file found at "`+missing+`": file does not exist`)
	assert.ErrorIs(t, err, ErrNoFile)
	assert.NotErrorIs(t, err, fs.ErrNotExist, "which says of an image that it is not there")
	bad := filepath.Join(dir, "bad.json")
	require.NoError(t, os.WriteFile(bad, []byte("{"), 0o600))
	_, err = FindFile([]string{missing, bad}, Rules{})
	assert.ErrorContains(t, err, "no credential file can be used")
	assert.NotErrorIs(t, err, ErrNoFile)
	_, err = ReadFile(bad, Rules{})
	assert.ErrorContains(t, err, "no credential file can be used")
	assert.NotErrorIs(t, err, ErrNoFile)
	_, err = ReadProviders(missing, ProviderConfig{Exec: Exec{Dir: dir}})
	assert.ErrorIs(t, err, ErrNoFile)
	assert.NotErrorIs(t, err, fs.ErrNotExist)
}

// TestErrorSaysWhyAProgramCannotStart holds that the error says whether a program is
// missing or cannot be run, and why.
func TestErrorSaysWhyAProgramCannotStart(t *testing.T) {
	if os.PathSeparator != '/' {
		return // scripts have an interpreter only on Unix
	}
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), mode))
	}
	write("docker-credential-gone", "#!/nowhere/python3 -u\nprint()\n", 0o700)
	write("docker-credential-crlf", "#!/bin/sh\r\nexit 0\r\n", 0o700)
	write("docker-credential-mode", "#!/bin/sh\nexit 0\n", 0o600)
	for name, tt := range map[string]struct {
		fault error
		text  string
	}{
		"gone":    {ErrProgramStart, `program cannot be started: the interpreter that its first line names is missing: "/nowhere/python3 -u"`},
		"crlf":    {ErrProgramStart, `the interpreter that its first line names is missing: "/bin/sh\r"`},
		"mode":    {ErrProgramStart, "the file may not be executed (chmod +x)"},
		"missing": {errProgramMissing, "program not found: docker-credential-missing"},
	} {
		h, err := NewHelper(name, Exec{Dir: dir})
		require.NoError(t, err)
		_, errs := collect(t.Context(), h, "r.io/app")
		require.Len(t, errs, 1, name)
		assert.ErrorIs(t, errs[0], tt.fault, name)
		assert.ErrorContains(t, errs[0], tt.text, name)
	}

	p := testProvider("")
	p.Name = "docker-credential-gone"
	ps, err := newProviders(ProviderConfig{Exec: Exec{Dir: dir}}, p)
	require.NoError(t, err)
	_, errs := collect(t.Context(), ps, "r.io/app")
	require.Len(t, errs, 1)
	assert.ErrorIs(t, errs[0], ErrProgramStart)
	assert.NotErrorIs(t, errs[0], errProgramMissing)
	p.Name = "docker-credential-mode"
	_, err = newProviders(ProviderConfig{Exec: Exec{Dir: dir}}, p)
	assert.ErrorIs(t, err, ErrProgramStart)
	p.Name = "missing"
	_, err = newProviders(ProviderConfig{Exec: Exec{Dir: dir}}, p)
	assert.ErrorIs(t, err, errProgramMissing)
}

// TestUnknownFieldsOfAnswersAreNamed holds that the error about an unknown field of a
// plugin's answer has the field's name, unless the name may be a secret.
func TestUnknownFieldsOfAnswersAreNamed(t *testing.T) {
	head := `{"apiVersion":"credentialprovider.kubelet.k8s.io/v1","kind":"CredentialProviderResponse","cacheKeyType":"Image"`
	for answer, want := range map[string]string{
		head + `,"Auth":{}}`:                                          `holds a field that is not known: "Auth"`,
		head + `,"expiration":"x"}`:                                   `holds a field that is not known: "expiration"`,
		head + `,"auth":{"r.io":{"user":"u","password":"p"}}}`:        `an entry of auth holds a field that is not known: "user"`,
		head + `,"auth":{"r.io":{"password":"p","password":"q"}}}`:    `an entry of auth holds a field twice: "password"`,
		head + `,"hunter2":1}`:                                        "holds a field that is not known",
		head + `,"` + strings.Repeat("x", 33) + `":1}`:                "holds a field that is not known",
		head + `,"auth":{"r.io":{"c4narY-s3cret/value":1}}}`:          "an entry of auth holds a field that is not known",
		`{"ServerURL":"r.io","Username":"u","Secret":"p4ss","x y":1}`: "apiVersion is not",
	} {
		_, err := parseResponse([]byte(answer), "credentialprovider.kubelet.k8s.io/v1")
		assert.ErrorContains(t, err, want, answer)
		for _, secret := range []string{"hunter2", "xxxxx", "c4narY", "p4ss"} {
			assert.NotContains(t, fmt.Sprint(err), secret)
		}
	}
}

// TestOddKeysOfPluginsAreReported holds that keys that match no image, in a plugin's answer
// or in matchImages, are reported for the images that were probably meant.
func TestOddKeysOfPluginsAreReported(t *testing.T) {
	p, err := newProvider(ProviderConfig{}, testProvider(""))
	require.NoError(t, err)
	answer := answerOf(t, p, `{"apiVersion":"credentialprovider.kubelet.k8s.io/v1","kind":"CredentialProviderResponse","cacheKeyType":"Image","auth":{"r.io/*":{"username":"u","password":"p"}}}`)
	errs := answer.problemsFor("r.io/team/app")
	require.Len(t, errs, 1)
	assert.ErrorContains(t, errs[0], "is not a wildcard")
	assert.Empty(t, answer.problemsFor("s.io/team/app"))

	config := testProvider("")
	config.MatchImages = []string{"r.io/*"}
	p, err = newProvider(ProviderConfig{}, config)
	require.NoError(t, err)
	assert.Contains(t, p.note("r.io/team/app", Pod{}).Why, "a * in a key's path is not a wildcard")
}

func answerOf(t *testing.T, p *provider, text string) table {
	r, err := parseResponse([]byte(text), "credentialprovider.kubelet.k8s.io/v1")
	require.NoError(t, err)
	return p.table(r, ServiceAccount{}, time.Now(), 0)
}

// TestHelperNamedByItsFileIsReported holds the warning about a helper that a file calls
// docker-credential-x and not x.
func TestHelperNamedByItsFileIsReported(t *testing.T) {
	for text, want := range map[string]string{
		`{"credHelpers":{"r.io":"docker-credential-x"}}`:    `"r.io": the name of a helper is what follows docker-credential- in the name of its program: write "x"`,
		`{"credsStore":"docker-credential-x"}`:              `write "x"`,
		`{"credsStore":"docker-credential-x.exe"}`:          `write "x"`,
		`{"credsStore":"x.exe"}`:                            `write "x"`,
		`{"credHelpers":{"r.io":"x","r.io":"y"}}`:           `"r.io" is there twice, and the last one counts`,
		`{"credHelpers":{"r.io":"","r.io":"y"},"auths":{}}`: `"r.io" is there twice`,
	} {
		c, err := ParseFile([]byte(text), "config.json", Rules{})
		require.NoError(t, err)
		assert.ErrorContains(t, Problems(c)[0], want, text)
		assert.ErrorIs(t, Problems(c)[0], ErrLooksWrong, text)
	}
	helper, err := NewHelper("docker-credential-x", Exec{Dir: t.TempDir()})
	require.NoError(t, err)
	_, errs := collect(t.Context(), helper, "r.io/app")
	require.Len(t, errs, 1)
	assert.ErrorContains(t, errs[0], `docker-credential-docker-credential-x: the name of a helper is what follows docker-credential-`)
}

// TestLinkWithoutTargetIsReported holds that a link whose target is missing is reported,
// because the user meant a file to be there.
func TestLinkWithoutTargetIsReported(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.Symlink("nowhere", path); err != nil && runtime.GOOS == "windows" {
		t.Log("this user may not make links:", err)
		return
	}
	for _, read := range []func() (*File, error){
		func() (*File, error) { return FindFile([]string{path}, Rules{}) },
		func() (*File, error) { return ReadFile(path, Rules{}) },
	} {
		_, err := read()
		assert.ErrorContains(t, err, "is a link, and its target is missing")
		assert.ErrorIs(t, err, ErrNoFile)
		assert.NotErrorIs(t, err, fs.ErrNotExist)
	}
	good := filepath.Join(t.TempDir(), "config.json")
	require.NoError(t, os.WriteFile(good, []byte(goodDocument), 0o600))
	c, err := FindFile([]string{path, good}, Rules{})
	require.NoError(t, err)
	assert.Equal(t, good, c.Name())
	require.Len(t, Problems(c), 1)
	assert.ErrorContains(t, Problems(c)[0], "is a link")
	c, err = FindFile([]string{path}, Rules{Kubelet: true})
	require.NoError(t, err, "the kubelet passes over it")
	assert.Empty(t, Problems(c))
}

// TestConfigFieldsInADockercfgAreReported holds the error about fields of config.json in a
// .dockercfg.
func TestConfigFieldsInADockercfgAreReported(t *testing.T) {
	for _, field := range []string{`"credsStore":"x"`, `"credHelpers":{"r.io":"x"}`, `"HttpHeaders":{"User-Agent":"x"}`, `"plugins":{}`} {
		c, err := ParseFile([]byte(`{`+field+`,"r.io":{"auth":"dTpw"}}`), ".dockercfg", Rules{})
		require.NoError(t, err)
		require.Len(t, Problems(c), 1, field)
		assert.ErrorContains(t, Problems(c)[0], "is a field of config.json, and a .dockercfg has only entries", field)
		assert.Equal(t, []string{"u"}, usersOf(t, c, "r.io/app"))
	}
}
