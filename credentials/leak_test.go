package credentials

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const canary = "c4narY-s3cret/value"

// leaks reports whether a text has the canary in it, in any spelling from which it can be
// read.
func leaks(text string) bool {
	bytesOf := fmt.Sprint([]byte(canary))
	forms := []string{
		canary, strings.ToLower(canary), url.QueryEscape(canary), url.PathEscape(canary),
		fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), strings.Trim(bytesOf, "[]"),
		base64.StdEncoding.EncodeToString([]byte(canary)), base64.RawURLEncoding.EncodeToString([]byte(canary)),
		base64.StdEncoding.EncodeToString([]byte("user:" + canary)), `c4narY-s3cret\/value`,
		strings.Trim(fmt.Sprintf("%#v", []byte(canary)), "[]byte{}"),
	}
	for _, form := range forms {
		if strings.Contains(text, form) {
			return true
		}
	}
	return strings.Contains(text, canary[3:12])
}

func TestLeaksFindsTheCanary(t *testing.T) {
	for _, text := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%v", []byte(canary)), fmt.Sprintf("%#v", struct{ b []byte }{[]byte(canary)})} {
		assert.True(t, leaks(text), text)
	}
	assert.False(t, leaks("nothing"))
}

// A holder has a value in fields in which package fmt does not call the value's methods.
type holder struct {
	any   any
	Named any
	list  []any
	m     map[string]any
}

// everything returns a value of each type that holds a secret, with the canary in it, and
// the errors of all calls that fail with the canary.
func everything(t *testing.T) (values map[string]any, errs map[string]error) {
	ctx, ref := t.Context(), reference.MustParse("r.io/team/app:v1")
	cred := Credential{Username: "user", Password: Conceal(canary), IdentityToken: Conceal(canary), RegistryToken: Conceal(canary)}
	auth := base64.StdEncoding.EncodeToString([]byte("user:" + canary))
	text := fmt.Sprintf(`{"auths":{"r.io":{"auth":%q,"identitytoken":%q},"*.io":{"username":"user","password":%q},`+
		`"https://user:%s@r.io":{"auth":%q},"bad.io":{"auth":%q},"num.io":{"password":5,"auth":%q},"str.io":%q,"tok.io":{"registrytoken":"%s\n"}},`+
		`"credHelpers":{"%s@x":"y","r.io":"../%s"},"credsStore":"helper"}`, auth, canary, canary, canary, auth, canary, auth, canary, canary, canary, canary)
	config, err := ParseFile([]byte(text), "config.json", Rules{})
	require.NoError(t, err)
	require.Len(t, faults(Problems(config)), 7)
	kubelet, err := ParseFile([]byte(text), "config.json", Rules{Kubelet: true})
	require.NoError(t, err)
	secret := Secret{Namespace: "web", Name: "s", Type: TypeDockerConfigJSON, Data: map[string]Sensitive{KeyDockerConfigJSON: Conceal(text)}}
	secrets := fromSecrets([]Secret{secret}, Rules{})

	dir := installProgram(t, "test-plugin", "docker-credential-test")
	plugin := testProvider("registry", programSecret, canary)
	plugin.Token = &tokenAttributes{Audience: "aud", CacheType: cacheByToken}
	pc := ProviderConfig{Exec: Exec{Dir: dir}, Token: func(context.Context, Pod, string) (Sensitive, error) { return Conceal(canary), nil }}
	plugins := testProviders(t, pc, plugin)
	pod := Pod{Namespace: "web", ServiceAccount: ServiceAccount{Name: "builder"}}
	answered, failed := collect(ctx, plugins.For(pod), "r.io/app")
	require.Empty(t, failed)
	require.Len(t, answered, 1)

	x := Exec{Environ: programEnv("helper", programSecret, canary)}
	asked, err := NewHelper("test", Exec{Dir: dir, Environ: x.Environ})
	require.NoError(t, err)
	kept, failed := collect(ctx, asked, "r.io/app")
	require.Empty(t, failed)
	require.Len(t, kept, 1)

	values = map[string]any{
		"Sensitive": cred.Password, "Credential": cred, "Credential of a plugin": answered[0], "Credential of a helper": kept[0],
		"Config": config, "Config value": *config, "Config of the kubelet": kubelet, "Secret": secret, "Secrets": secrets, "Secrets value": *secrets,
		"Static": Static{cred}, "Join": Join(config, secrets, Static{cred}, plugins, asked), "Providers": plugins, "Providers.For": plugins.For(pod),
		"Provider": plugin, "provider": plugins.list[0], "envVar": plugin.Env[1], "Exec": x, "ProviderConfig": ProviderConfig{Exec: x}, "Helper": asked, "WithHelpers": config.WithHelpers(Exec{}),
		"table": config.table, "entry": config.table.entries[0], "cached answers": &plugins.list[0].cache.kept, "pointer": &cred, "channel": make(chan Credential),
		"AttemptsError": AttemptsError{Attempts: []Attempt{{Origin: cred.Origin, Err: errDenied}}},
	}

	errs = map[string]error{}
	for i, err := range Problems(config) {
		errs[fmt.Sprint("problem ", i)] = err
	}
	for i, err := range Problems(kubelet) {
		errs[fmt.Sprint("kubelet's problem ", i)] = err
	}
	for i, doc := range []string{canary, `{"auths":"` + canary + `"}`, `{"auths":{"r.io":{"auth":"` + canary + `"}`, `["` + canary + `"]`, `{"auths":{}} ` + canary} {
		_, errs[fmt.Sprint("document ", i)] = ParseFile([]byte(doc), "config.json", Rules{})
		bad := secret
		bad.Data = map[string]Sensitive{KeyDockerConfigJSON: Conceal(doc)}
		errs[fmt.Sprint("Validate ", i)] = bad.Validate()
		errs[fmt.Sprint("FromSecrets ", i)] = errors.Join(Problems(FromSecrets([]Secret{bad}, Rules{}))...)
		path := filepath.Join(t.TempDir(), "config.json")
		require.NoError(t, os.WriteFile(path, []byte(doc), 0o600))
		_, errs[fmt.Sprint("ReadConfig ", i)] = ReadFile(path, Rules{})
	}
	for i, doc := range []string{
		"kind: Secret\ndata: " + canary, "kind: Secret\ndata:\n  x: [" + canary + "]", "kind: Secret\n\tdata: " + canary, "{" + canary, canary + ": " + canary + ": x",
		"kind: Secret\nstringData:\n  " + KeyDockerConfigJSON + ": {a: " + canary + "}", `{"kind":"Secret","stringData":{"x":"` + canary + `",}`,
		"kind: Secret\nstringData:\n  a: " + canary + "\n  a: " + canary,
	} {
		_, errs[fmt.Sprint("ParseSecrets ", i)] = ParseSecrets([]byte(doc))
	}
	undecoded, err := ParseSecrets([]byte("kind: Secret\ntype: kubernetes.io/dockerconfigjson\ndata:\n  .dockerconfigjson: '" + canary + "'"))
	require.NoError(t, err)
	errs["not base64"] = undecoded[0].Validate()
	for i, answer := range []string{
		canary, `{"` + canary + `":1}`, `{"apiVersion":"` + canary + `"}`, `{"apiVersion":"credentialprovider.kubelet.k8s.io/v1","kind":"` + canary + `"}`,
		`{"apiVersion":"credentialprovider.kubelet.k8s.io/v1","kind":"CredentialProviderResponse","cacheKeyType":"` + canary + `"}`,
		`{"apiVersion":"credentialprovider.kubelet.k8s.io/v1","kind":"CredentialProviderResponse","cacheKeyType":"Image","cacheDuration":"` + canary + `"}`,
		`{"apiVersion":"credentialprovider.kubelet.k8s.io/v1","kind":"CredentialProviderResponse","cacheKeyType":"Image","auth":{"r.io":{"password":["` + canary + `"]}}}`,
		`{"apiVersion":"credentialprovider.kubelet.k8s.io/v1","kind":"CredentialProviderResponse","cacheKeyType":"Image","auth":{"user:` + canary + `@r.io":{"password":"x"}}}`,
		`{"apiVersion":"credentialprovider.kubelet.k8s.io/v1","kind":"CredentialProviderResponse","cacheKeyType":"Image","auth":{"r.io":{"` + canary + `":"x"}}}`,
		"a: " + canary + ": b", "- " + canary,
	} {
		p, err := newProvider(ProviderConfig{}, testProvider(""))
		require.NoError(t, err)
		p.run = func(context.Context, []byte, []string) ([]byte, error) { return []byte(answer), nil }
		_, failed := collect(ctx, &providers{list: []*provider{p}}, "r.io/app")
		require.NotEmpty(t, failed, "answer %d", i)
		errs[fmt.Sprint("answer ", i)] = failed[0]
	}
	echo := testProvider("registry", programSecret, canary)
	echo.Token = &tokenAttributes{Audience: "aud", CacheType: cacheByServiceAccount}
	_, failed = collect(ctx, testProviders(t, pc, echo).For(pod), "r.io/app")
	require.Len(t, failed, 1)
	errs["token echoed"] = failed[0]
	_, failed = collect(ctx, testProviders(t, pc, testProvider("fail", programSecret, canary)).For(pod), "r.io/app")
	require.Len(t, failed, 1)
	errs["plugin failed"] = failed[0]
	_, failed = collect(ctx, &helper{name: "test", exec: Exec{Dir: dir, Environ: x.Environ}}, "garbage.io/app")
	require.Len(t, failed, 1)
	errs["helper's garbage"] = failed[0]
	_, errs["DockerConfig"] = DockerConfig{Server: "https://user:" + canary + "@r.io", Username: "user", Password: Conceal(canary)}.JSON()
	_, errs["user with a colon"] = DockerConfig{Server: "r.io", Username: "user:" + canary, Password: Conceal(canary)}.JSON()
	_, errs["Match"] = Match("user:"+canary+"@r.io", "r.io/x", Rules{})
	_, errs["Match's name"] = Match("r.io", "user:"+canary+"@r.io/x", Rules{})
	_, errs["ParseProviders"] = Rules{}.parseProviders([]byte(`{"kind":"CredentialProviderConfig","apiVersion":"kubelet.config.k8s.io/v1","providers":[{"env":[{"name":"A","value":["` + canary + `"]}]}]}`))
	_, errs["Each"] = Each(ctx, Join(config, secrets, Static{cred}), ref, func(context.Context, Credential) (int, error) { return 0, errDenied })
	return values, errs
}

// TestSecretsHaveNoPrintedForm prints all values that hold a secret with all verbs of
// package fmt, and with slog and encoding/json.
func TestSecretsHaveNoPrintedForm(t *testing.T) {
	values, errs := everything(t)
	for name, err := range errs {
		require.Error(t, err, name)
		values[name] = err
	}
	for name, value := range values {
		wrapped := holder{value, value, []any{value}, map[string]any{"k": value}}
		for _, v := range []any{value, wrapped, &wrapped, []any{value}, map[any]string{fmt.Sprintf("%p", &value): ""}, struct{ v any }{value}} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%t", "%c", "%U", "%e", "%p", "%T", "%#x", "%+q", "% x"} {
				assert.False(t, leaks(fmt.Sprintf(verb, v)), "%s with %s", name, verb)
			}
			var log bytes.Buffer
			slog.New(slog.NewTextHandler(&log, nil)).Info("m", "v", v)
			slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "v", v)
			assert.False(t, leaks(log.String()), "%s through slog", name)
			if data, err := json.Marshal(v); err == nil {
				assert.False(t, leaks(string(data)), "%s through json", name)
			} else {
				assert.False(t, leaks(err.Error()), "%s through json", name)
			}
		}
	}
}

// TestPluginLogsNoSecret holds that the log about the runs of a plugin does not have a
// secret.
func TestPluginLogsNoSecret(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	ps := testProviders(t, ProviderConfig{Logger: logger}, testProvider("image", programSecret, canary))
	creds, errs := collect(t.Context(), ps, "r.io/app")
	require.Empty(t, errs)
	require.Len(t, creds, 1)
	assert.Contains(t, log.String(), "image=r.io/app")
	assert.False(t, leaks(log.String()))
}

// TestGuessedNamesShowNoSecret parses objects that cannot be read, and in which the text
// behind the name or the namespace seems to be a part of it. An error shows a name only if
// an object can have it.
func TestGuessedNamesShowNoSecret(t *testing.T) {
	const open = `{"kind":"Secret","metadata":{"name":"a},"stringData":{"password":"C4naryPw"}}`
	const head = "kind: Secret\nmetadata:\n"
	for text, place := range map[string]string{
		open:                                     "secret at line 1 is not JSON",
		"\n\n" + open:                            "secret at line 3 is not JSON",
		`{"kind":"List","items":[` + open + `]}`: "secret at line 1 is not JSON",
		"{\"kind\":\"List\",\"items\":[\n" + open + "\n]}":                                                 "secret at line 2 is not JSON",
		`{"kind":"Secret","metadata":{"name":"b","namespace":"a},"stringData":{"password":"C4naryPw"}}`:    `secret "b" is not JSON`,
		head + "  name: a password: C4naryPw\n":                                                            "secret at line 1 is not YAML",
		head + "  name: a stringData: {password: C4naryPw}\n":                                              "secret at line 1 is not YAML",
		"kind: Secret\nmetadata: {name: a password: C4naryPw}\n":                                           "secret at line 1 is not YAML",
		"kind: Secret\nmetadata: {name: a password: C4naryPw\n":                                            "secret at line 1 is not YAML",
		head + "  name: b\n  namespace: web type: Opaque stringData: password: C4naryPw\n":                 `secret "b" is not YAML`,
		head + "  name: C4naryPw\nx: {{ .X }}\n":                                                           "secret at line 1 is not YAML",
		"kind: List\nitems:\n- kind: Secret\n  metadata:\n    name: a password: C4naryPw\n":                "secret at line 3 is not YAML",
		"kind: List\nitems:\n- kind: Secret\n  metadata:\n    name: b\n    namespace: w type: C4naryPw:\n": `secret "b" is not YAML`,
		"- kind: Secret\n  metadata: {name: C4naryPw}\n":                                                   "not read because of this: a secret whose name is not a DNS name",
		"- kind: Secret\n  metadata: {name: b, namespace: C4naryPw}\n":                                     `not read because of this: secret "b"`,
	} {
		_, err := ParseSecrets([]byte(text))
		assert.ErrorContains(t, err, place, text)
		assert.NotContains(t, fmt.Sprint(err), "C4nary", text)
	}
}
