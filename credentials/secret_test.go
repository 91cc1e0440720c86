package credentials

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pullkit/pullkit/internal/regular"
	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const goodDocument = `{"auths":{"r.io":{"auth":"dTpw"}}}`

func TestParseSecretsReadsManifests(t *testing.T) {
	encoded := base64.StdEncoding.EncodeToString([]byte(goodDocument))
	wrapped := encoded[:20] + "\n" + encoded[20:]
	one := "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: web, uid: '1'}\ntype: kubernetes.io/dockerconfigjson\ndata:\n  .dockerconfigjson: " + encoded + "\n"
	list := `{"apiVersion":"v1","kind":"List","items":[{"kind":"Secret","metadata":{"name":"b"},"type":"kubernetes.io/dockercfg","stringData":{".dockercfg":"{}"}},{"kind":"Pod"}]}`
	for name, tt := range map[string]struct {
		text  string
		names string
	}{
		"YAML":                       {one, "a"},
		"several, markers":           {"---\n" + one + "---\n# nothing\n--- # b\nkind: Secret\nmetadata: {name: b}\n...\n---", "a b"},
		"text after the marker":      {"--- {kind: Secret, metadata: {name: c}}\n", "c"},
		"marker in a block":          {"kind: Secret\nmetadata:\n  name: a\nstringData:\n  x: |\n    ---\n    y\n  z: --- \n", "a"},
		"CRLF":                       {strings.ReplaceAll(one+"---\n"+one, "\n", "\r\n"), "a a"},
		"List in JSON":               {list, "b"},
		"List in YAML":               {"kind: List\nitems:\n- kind: Secret\n  metadata: {name: x}\n- kind: List\n  items: [{kind: Secret, metadata: {name: z}}]\n", "x z"},
		"SecretList without kinds":   {`{"kind":"SecretList","items":[{"metadata":{"name":"x"}},{}]}`, "x "},
		"JSON after JSON":            {list + "\n" + list, "b b"},
		"JSON between markers":       {list + "\n---\n" + list + "\n--- \n" + one, "b b a"},
		"YAML with a quoted key":     {"\"kind\": Secret\nmetadata: {name: a}\n", "a"},
		"flow YAML":                  {"{kind: Secret, metadata: {name: a}}", "a"},
		"other kinds":                {"kind: Deployment\nmetadata: {name: x}\n---\nkind: ConfigMap\n", ""},
		"nothing":                    {"", ""},
		"null":                       {"null", ""},
		"other kind of strange form": {"kind: Pod\nmetadata: 5\ndata: [1]\n", ""},
	} {
		secrets, err := ParseSecrets([]byte(tt.text))
		require.NoError(t, err, name)
		var names []string
		for _, s := range secrets {
			names = append(names, s.Name)
		}
		assert.Equal(t, tt.names, strings.Join(names, " "), name)
	}

	secrets, err := ParseSecrets([]byte(one))
	require.NoError(t, err)
	assert.Equal(t, []Secret{{
		Namespace: "web", Name: "a", UID: "1", Type: TypeDockerConfigJSON,
		Data: map[string]Sensitive{KeyDockerConfigJSON: Conceal(goodDocument)},
	}}, secrets)

	secrets, err = ParseSecrets(fmt.Appendf(nil, "kind: Secret\ntype: kubernetes.io/dockerconfigjson\ndata:\n  .dockerconfigjson: %q\n  other: null\nstringData:\n  other: x\n", wrapped))
	require.NoError(t, err)
	assert.Equal(t, goodDocument, secrets[0].Data[KeyDockerConfigJSON].Reveal())
	assert.Equal(t, "x", secrets[0].Data["other"].Reveal())

	for name, text := range map[string]string{
		"list of items":      `{"kind":"List","items":[5]}`,
		"no YAML":            "kind: Secret\n\tdata: x",
		"key twice":          "kind: Secret\nkind: Secret\n",
		"data is text":       "kind: Secret\ndata: x",
		"value is a number":  "kind: Secret\ndata:\n  x: 5",
		"metadata is text":   "kind: Secret\nmetadata: x",
		"name is a list":     "kind: Secret\nmetadata: {name: [x]}",
		"text after JSON":    `{"kind":"Secret"} x`,
		"JSON cut short":     `{"kind":"Secret"} {"kind":`,
		"top is a list":      "- kind: Secret",
		"too large":          strings.Repeat(" ", maxDocument+1),
		"too deep":           strings.Repeat(`{"kind":"List","items":[`, 12) + strings.Repeat("]}", 12),
		"stringData is list": "kind: Secret\nstringData: {a: [x]}",
	} {
		_, err := ParseSecrets([]byte(text))
		assert.Error(t, err, name)
	}
}

// TestValidateFindsWhatTheAPIServerRefuses holds the two errors that the Kubernetes page about images shows.
func TestValidateFindsWhatTheAPIServerRefuses(t *testing.T) {
	secrets, err := ParseSecrets([]byte("kind: Secret\nmetadata: {name: myregistrykey, namespace: web}\ntype: kubernetes.io/dockerconfigjson\ndata:\n  .dockerconfigjson: UmVh=bGx5\n"))
	require.NoError(t, err)
	require.Len(t, secrets, 1)
	err = secrets[0].Validate()
	assert.ErrorIs(t, err, ErrSecretInvalid)
	assert.EqualError(t, err, `no objects passed to create: data[.dockerconfigjson] of Secret "myregistrykey" is not base64`)
	ring := FromSecrets(secrets, Rules{})
	require.Len(t, Problems(ring), 1)
	assert.ErrorIs(t, Problems(ring)[0], ErrSecretInvalid)

	of := func(typ, key, value string) error {
		return Secret{Name: "myregistrykey", Type: typ, Data: map[string]Sensitive{key: Conceal(value)}}.Validate()
	}
	err = of(TypeDockerConfigJSON, KeyDockerConfigJSON, "Really really reeee auth keys")
	assert.ErrorIs(t, err, ErrSecretInvalid)
	assert.EqualError(t, err, `Secret "myregistrykey" is invalid: data[.dockerconfigjson]: invalid value: cannot be read as a .docker/config.json file: it is not JSON: syntax error at byte 1`)

	assert.ErrorIs(t, of(TypeDockercfg, KeyDockercfg, "[]"), ErrSecretInvalid)
	err = of(TypeDockerConfigJSON, KeyDockercfg, goodDocument)
	assert.ErrorIs(t, err, ErrSecretInvalid)
	assert.EqualError(t, err, `Secret "myregistrykey" is invalid: data[.dockerconfigjson]: required value`)
	assert.NoError(t, of(TypeDockerConfigJSON, KeyDockerConfigJSON, goodDocument))
	assert.NoError(t, of(TypeDockercfg, KeyDockercfg, `{}`))
	assert.NoError(t, of("Opaque", "x", "y"))

	// A Secret of another type is valid, even if its data is malformed.
	secrets, err = ParseSecrets([]byte("kind: Secret\ntype: Opaque\ndata: {'': '!', x: '!'}\n"))
	require.NoError(t, err)
	assert.NoError(t, secrets[0].Validate())
	assert.Empty(t, faults(Problems(FromSecrets(secrets, Rules{}))))

	// The time to read malformed values grows linearly with their number.
	var b strings.Builder
	b.WriteString(`{"kind":"Secret","data":{"-":""`)
	for i := range rounds.Of(200_000) {
		fmt.Fprintf(&b, `,"%d":"!"`, i)
	}
	b.WriteString(`},"stringData":{"-":""`)
	for i := range rounds.Of(200_000) {
		fmt.Fprintf(&b, `,"%d":""`, i)
	}
	b.WriteString("}}")
	start := time.Now()
	secrets, err = ParseSecrets([]byte(b.String()))
	require.NoError(t, err)
	assert.Empty(t, secrets[0].notBase64)
	assert.Less(t, time.Since(start), 30*time.Second)

	// A value of stringData replaces one of data that cannot be decoded.
	secrets, err = ParseSecrets([]byte("kind: Secret\ntype: kubernetes.io/dockercfg\ndata: {.dockercfg: '!'}\nstringData: {.dockercfg: '{}'}\n"))
	require.NoError(t, err)
	assert.NoError(t, secrets[0].Validate())
}

func TestSecretNamesOfThePodReplaceThoseOfItsAccount(t *testing.T) {
	assert.Equal(t, []string{"a", "b"}, SecretNames([]string{"a", "", "b", "a"}, []string{"c"}))
	assert.Equal(t, []string{"c"}, SecretNames(nil, []string{"c"}))
	assert.Empty(t, SecretNames(nil, nil))
}

// TestDockerConfigWritesTheBytesOfKubectl holds the bytes that kubectl writes.
func TestDockerConfigWritesTheBytesOfKubectl(t *testing.T) {
	got, err := DockerConfig{Username: "janedoe", Password: Conceal("pass<word>"), Email: "jdoe@example.com"}.JSON()
	require.NoError(t, err)
	assert.Equal(t, `{"auths":{"https://index.docker.io/v1/":{"username":"janedoe","password":"pass\u003cword\u003e","email":"jdoe@example.com","auth":"`+
		base64.StdEncoding.EncodeToString([]byte("janedoe:pass<word>"))+`"}}}`, string(got))
	c, err := ParseFile(got, "config.json", Rules{})
	require.NoError(t, err)
	creds, _ := collect(t.Context(), c, "nginx")
	require.Len(t, creds, 1)
	assert.True(t, creds[0].Same(Credential{Username: "janedoe", Password: Conceal("pass<word>")}))

	for _, args := range [][3]string{{"r.io", "", "p"}, {"r.io", "u", ""}, {"r.io", "a:b", "p"}, {"r.io:x", "u", "p"}, {"https://u:p@r.io", "u", "p"}} {
		_, err := DockerConfig{Server: args[0], Username: args[1], Password: Conceal(args[2])}.JSON()
		assert.Error(t, err, args)
	}
}

func TestMarshalConfigKeepsTheFirstCredentialOfEachKey(t *testing.T) {
	secret := func(name, text string) Secret {
		return Secret{Name: name, Type: TypeDockerConfigJSON, Data: map[string]Sensitive{KeyDockerConfigJSON: Conceal(text)}}
	}
	secrets := FromSecrets([]Secret{secret("a", `{"auths":{"https://r.io/v1/":{"auth":"dTpw"},"*.io":{"identitytoken":"i"},"empty.io":{}}}`), secret("b", `{"auths":{"r.io":{"auth":"dTpx"},"r.io/team":{"username":"a:b","password":"\"\u0007"},"q.io":{"auth":"dTpw"}}}`)}, Rules{})
	node, err := ParseFile([]byte(`{"auths":{"r.io":{"auth":"bjpu"},"q.io":{"auth":"dTpw"},"node.io":{"registrytoken":"r","auth":"bjpu"}},"credsStore":"pass"}`), "config.json", Rules{})
	require.NoError(t, err)
	plugins := testProviders(t, ProviderConfig{}, testProvider(""))
	data, dropped, err := MarshalConfig(Join(secrets, Join(node.WithHelpers(Exec{}), plugins), plugins.For(Pod{})))
	require.NoError(t, err)
	var names []string
	for _, o := range dropped {
		names = append(names, o.String())
	}
	assert.Equal(t, []string{
		`secret "b", key "r.io"`, `helper "pass"`, `file "config.json", key "r.io"`, `plugin "test-plugin"`, `plugin "test-plugin"`,
	}, names)

	merged, err := ParseFile(data, "merged.json", Rules{})
	require.NoError(t, err)
	assert.Empty(t, faults(Problems(merged)))
	for image, want := range map[string][]Credential{
		"r.io/app":      {{Username: "u", Password: Conceal("p")}, {IdentityToken: Conceal("i")}},
		"r.io/team/app": {{Username: "a:b", Password: Conceal("\"\a")}, {Username: "u", Password: Conceal("p")}, {IdentityToken: Conceal("i")}},
		"node.io/app":   {{Username: "n", Password: Conceal("n"), RegistryToken: Conceal("r")}, {IdentityToken: Conceal("i")}},
		"x.example/app": nil,
	} {
		creds, _ := collect(t.Context(), merged, image)
		if assert.Len(t, creds, len(want), image) {
			for i := range want {
				assert.True(t, want[i].Same(creds[i]), "%s: %v", image, creds[i])
			}
		}
	}

	_, _, err = MarshalConfig(Join(secrets, struct{ Keyring }{plugins}))
	assert.ErrorContains(t, err, "cannot be listed", "a wrapped keyring is refused, not left out")
	_, _, err = MarshalConfig(Static{{Username: "u"}})
	assert.Error(t, err, "a static keyring has no keys")
	data, dropped, err = MarshalConfig(nil)
	require.NoError(t, err)
	assert.Empty(t, dropped)
	_, err = ParseFile(data, "config.json", Rules{})
	assert.NoError(t, err)
}

// TestForKeepsTheSecretOfThePod holds that For keeps the Secret of the Pod's namespace if
// one of another namespace holds the same credential, and that Explain says the same as
// Lookup.
func TestForKeepsTheSecretOfThePod(t *testing.T) {
	in := func(namespace, key string) Secret {
		return Secret{Namespace: namespace, Name: "s", Type: TypeDockerConfigJSON,
			Data: ConcealData(map[string][]byte{KeyDockerConfigJSON: []byte(`{"auths":{"` + key + `":{"username":"u","password":"p"}}}`)})}
	}
	secrets := fromSecrets([]Secret{in("a", "r.io/team"), in("b", "r.io/team"), in("web", "r.io")}, Rules{})
	for namespace, want := range map[string][]string{"web": {"web"}, "b": {"b"}, "a": {"a"}, "": {"a"}, "none": {"a"}} {
		for name, ring := range map[string]Keyring{
			"alone": secrets.For(Pod{Namespace: namespace}), "joined": Join(secrets).For(Pod{Namespace: namespace}),
		} {
			creds, errs := collect(t.Context(), ring, "r.io/team/app")
			assert.Empty(t, errs)
			var got, explained []string
			for _, c := range creds {
				got = append(got, c.Origin.Namespace)
			}
			for note := range ring.(Explainer).Explain(reference.MustParse("r.io/team/app")) {
				if note.Matched {
					explained = append(explained, note.Origin.Namespace)
				}
			}
			assert.Equal(t, want, got, "%s for %q", name, namespace)
			assert.Equal(t, want, explained, "%s for %q", name, namespace)
		}
	}
	for namespace, want := range map[string][]string{"web": {"a", "web"}, "b": {"b"}, "a": {"a"}, "": {"a"}, "none": {"a"}} {
		ring := Join(FromSecrets([]Secret{in("a", "r.io/team"), in("b", "r.io/team")}, Rules{}), FromSecrets([]Secret{in("web", "r.io"), in("a", "r.io")}, Rules{})).For(Pod{Namespace: namespace})
		creds, _ := collect(t.Context(), ring, "r.io/team/app")
		var got, explained []string
		for _, c := range creds {
			got = append(got, c.Origin.Namespace)
		}
		for note := range ring.(Explainer).Explain(reference.MustParse("r.io/team/app")) {
			if note.Matched {
				explained = append(explained, note.Origin.Namespace)
			}
		}
		assert.Equal(t, want, got, "for %q", namespace)
		assert.Equal(t, want, explained, "for %q", namespace)
	}
	for note := range secrets.For(Pod{Namespace: "web"}).(Explainer).Explain(reference.MustParse("r.io/team/app")) {
		if note.Origin.Namespace == "a" {
			assert.Equal(t, "matches, but a Secret of the Pod's namespace holds the same credential", note.Why)
		}
	}
	assert.Equal(t, secrets.Fingerprint(reference.MustParse("r.io/team/app")), secrets.For(Pod{Namespace: "web"}).(Fingerprinter).Fingerprint(reference.MustParse("r.io/team/app")))
}

func TestFindFileReadsTheFirstUsableFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	good, bad, large := write("config.json", goodDocument), write("bad.json", "{"), write("large.json", strings.Repeat(" ", maxDocument)+"{}")
	legacy := write(".dockercfg", `{"r.io":{"auth":"dTpw"}}`)
	missing := filepath.Join(dir, "missing")

	c, err := FindFile([]string{missing, bad, large, dir, good, legacy}, Rules{})
	require.NoError(t, err)
	assert.Equal(t, good, c.Name())
	require.Len(t, Problems(c), 3)
	assert.ErrorIs(t, Problems(c)[1], errTooLarge)
	assert.ErrorIs(t, Problems(c)[2], regular.ErrNotRegular)
	c, err = ReadFile(legacy, Rules{})
	require.NoError(t, err)
	creds, _ := collect(t.Context(), c, "r.io/app")
	require.Len(t, creds, 1)
	assert.Equal(t, Origin{Kind: KindFile, Name: legacy, Key: "r.io"}, creds[0].Origin)

	_, err = FindFile([]string{missing, bad}, Rules{})
	assert.NotErrorIs(t, err, ErrNoFile)
	var entry *Error
	assert.ErrorAs(t, err, &entry)
}

func TestPathsAreThoseOfTheKubeletDockerAndPodman(t *testing.T) {
	t.Setenv("HOME", "/home/u")
	assert.Equal(t, []string{
		"/var/lib/kubelet/config.json", "config.json", "/home/u/.docker/config.json", "/.docker/config.json",
		"/var/lib/kubelet/.dockercfg", ".dockercfg", "/home/u/.dockercfg", "/.dockercfg",
	}, KubeletPaths(""))
	assert.Equal(t, "/k/config.json", KubeletPaths("/k")[0])

	t.Setenv("DOCKER_CONFIG", "")
	assert.Equal(t, []string{"/home/u/.docker/config.json"}, DockerPaths())
	t.Setenv("DOCKER_CONFIG", "/d")
	assert.Equal(t, []string{"/d/config.json"}, DockerPaths())

	t.Setenv("REGISTRY_AUTH_FILE", "")
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/7")
	t.Setenv("XDG_CONFIG_HOME", "")
	assert.Equal(t, []string{"/run/user/7/containers/auth.json", "/home/u/.config/containers/auth.json", "/d/config.json", "/home/u/.dockercfg"}, ContainersPaths())
	t.Setenv("XDG_RUNTIME_DIR", "")
	t.Setenv("XDG_CONFIG_HOME", "/x")
	assert.Equal(t, []string{fmt.Sprintf("/run/containers/%d/auth.json", os.Getuid()), "/x/containers/auth.json", "/d/config.json", "/home/u/.dockercfg"}, ContainersPaths())
	t.Setenv("REGISTRY_AUTH_FILE", "/a.json")
	assert.Equal(t, []string{"/a.json"}, ContainersPaths())
}

func TestReadProvidersReadsAFileOrADirectory(t *testing.T) {
	bin := installProgram(t, "a", "b")
	config := func(name string) string {
		return "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n- name: " + name +
			"\n  apiVersion: credentialprovider.kubelet.k8s.io/v1\n  matchImages: ['*.io']\n  defaultCacheDuration: 1m\n  env: [{name: " + programMode + ", value: image}, {name: " + programSecret + ", value: of " + name + "}]\n"
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	one := write("2.yaml", config("a"))
	write("1.yml", "---\n"+config("b")+"---\n# the end\n")
	write("README.txt", "not a config")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "0.json"), 0o700))

	ps, err := ReadProviders(one, ProviderConfig{Exec: Exec{Dir: bin}})
	require.NoError(t, err)
	creds, errs := collect(t.Context(), ps, "r.io/app")
	assert.Empty(t, errs)
	assert.Len(t, creds, 1)

	ps, err = ReadProviders(dir, ProviderConfig{Exec: Exec{Dir: bin}})
	require.NoError(t, err)
	for _, r := range []Rules{{}, {Kubelet: true}} {
		ps.(*providers).rules = r
		creds, errs = collect(t.Context(), ps, "r.io/app")
		assert.Empty(t, errs)
		require.Len(t, creds, 2, "both, in the order of the files")
		assert.Equal(t, "of b", creds[0].Password.Reveal())
		assert.Equal(t, "of a", creds[1].Password.Reveal())
	}

	write("3.json", `{"apiVersion":"kubelet.config.k8s.io/v1","kind":"CredentialProviderConfig","providers":[{"name":"a","apiVersion":"credentialprovider.kubelet.k8s.io/v1","matchImages":["x"],"defaultCacheDuration":"1m"}]}`)
	_, err = ReadProviders(dir, ProviderConfig{Exec: Exec{Dir: bin}})
	assert.ErrorContains(t, err, `"a": is there twice`)
	_, err = ReadProviders(filepath.Join(dir, "missing"), ProviderConfig{Exec: Exec{Dir: bin}})
	assert.ErrorIs(t, err, ErrNoFile)
	assert.NotErrorIs(t, err, os.ErrNotExist)
	_, err = ReadProviders(t.TempDir(), ProviderConfig{Exec: Exec{Dir: bin}})
	assert.ErrorContains(t, err, "holds no .json, .yaml or .yml file")
	_, err = ReadProviders(one, ProviderConfig{Exec: Exec{Dir: ""}})
	assert.Error(t, err)
	_, err = Rules{}.parseProviders([]byte(config("a") + "---\n" + config("b")))
	assert.ErrorContains(t, err, "more than one document")
	_, err = Rules{}.parseProviders([]byte(strings.Replace(config("a"), "apiVersion: credentialprovider.kubelet.k8s.io/v1", "apiVersion: credentialprovider.kubelet.k8s.io/v1alpha1\n  tokenAttributes: {serviceAccountTokenAudience: a, cacheType: Token, requireServiceAccount: true}", 1)))
	assert.ErrorContains(t, err, "tokenAttributes")
}

// TestKubeletRulesApplyToAllSources holds that files, Secrets and plugins can all be read
// by the kubelet's rules.
func TestKubeletRulesApplyToAllSources(t *testing.T) {
	r := Rules{Kubelet: true}
	text := `{"auths":{"r.io/team":{"auth":"dTpw"}}}`
	path := filepath.Join(t.TempDir(), "config.json")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	file, err := ReadFile(path, r)
	require.NoError(t, err)
	secrets := FromSecrets([]Secret{{Type: TypeDockerConfigJSON, Data: map[string]Sensitive{KeyDockerConfigJSON: Conceal(text)}}}, r)
	plugin := testProvider("report")
	plugin.MatchImages = []string{"r.io/team"}
	plugins := testProviders(t, ProviderConfig{Rules: r}, plugin)
	for name, ring := range map[string]Keyring{"file": file, "secrets": secrets} {
		creds, _ := collect(t.Context(), ring, "r.io/team-b/app")
		assert.Len(t, creds, 1, name)
	}
	assert.True(t, plugins.list[0].matches("r.io/team-b/app"))
	ok, err := Match("r.io/team", "r.io/team-b/app", r)
	assert.True(t, ok)
	assert.NoError(t, err)
	assert.Equal(t, "r.io/team-b/app", reference.MustParse("r.io/team-b/app:v1").Name())
}
