package puller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A planningRuntime is a Planner, whose plans come from a function.
type planningRuntime struct {
	fakeRuntime
	plan func(Spec) (Plan, error)
}

func (r *planningRuntime) Plan(_ context.Context, spec Spec) (Plan, error) {
	r.call("plan %s with %s", spec.Written, credentialID(spec.Credential))
	return r.plan(spec)
}

func descriptor(n byte, size int64) ocispec.Descriptor {
	return ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.Digest("sha256:" + strings.Repeat(string(n), 64)), Size: size,
		Annotations: map[string]string{"from": "a stranger"},
	}
}

func TestExplainReadsTheIndexWithAPlanner(t *testing.T) {
	r := &planningRuntime{fakeRuntime: fakeRuntime{store: map[string]string{}}}
	arm, attested := descriptor('3', 500), descriptor('7', 500)
	arm.Platform, attested.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	r.plan = func(spec Spec) (Plan, error) {
		if credentialID(spec.Credential) == "registry.example:5000/team" {
			return Plan{}, statusError("registry.example:5000", 401, "UNAUTHORIZED")
		}
		return Plan{
			Digest: descriptor('9', 0).Digest, Manifest: arm.Digest,
			Verdicts: []index.Verdict{{Descriptor: arm, Chosen: true, Reason: "exact"}, {Descriptor: attested, Reason: "attestation"}},
			Fetch:    []ocispec.Descriptor{descriptor('a', 40<<20), descriptor('b', 1258291)},
			Present:  []ocispec.Descriptor{descriptor('c', 1)},
		}, nil
	}
	w := newWorld(t, Config{Runtime: r, Platform: platform("linux", "arm64")})
	keys := credentials.FromSecrets([]credentials.Secret{dockerSecret("awesomeapps", "team-key", "registry.example:5000/team", "ro-team"), dockerSecret("awesomeapps", "all", "*.example:5000", "ro-all"), dockerSecret("awesomeapps", "port", "registry.example", "ro-port")}, credentials.Rules{})
	req := Request{Image: "registry.example:5000/team/app:v2", Keyring: keys, Pod: credentials.Pod{Namespace: "awesomeapps", UID: "pod-uid"}}
	d, err := w.Explain(t.Context(), req)
	require.NoError(t, err)
	assert.Equal(t, `image       registry.example:5000/team/app:v2
  parsed    host registry.example:5000  repository team/app  tag v2  digest -
  platform  linux/arm64
policy      IfNotPresent        (default: tag is not latest)
  store     absent              -> pull
back-off    none                (key: pod-uid, registry.example:5000/team/app:v2; failures: 0)
credentials 2 candidates, tried in this order
  1  secret "awesomeapps/team-key", key "registry.example:5000/team"   user ro-team   matches
  x  secret "awesomeapps/port", key "registry.example"   user ro-port   the port is another one
  2  secret "awesomeapps/all", key "*.example:5000"      user ro-all    matches
attempts    1  secret "awesomeapps/team-key", key "registry.example:5000/team": 401 UNAUTHORIZED
            2  secret "awesomeapps/all", key "*.example:5000": accepted
index       sha256:999999999999  2 manifests, want linux/arm64
  chosen    sha256:333333333333   linux/arm64/v8    exact
  skipped   sha256:777777777777   unknown/unknown   attestation
blobs       2 to fetch (41.2 MiB), 1 already present
`, d.String())
	assert.Equal(t, []string{
		"inspect registry.example:5000/team/app:v2",
		"plan registry.example:5000/team/app:v2 with registry.example:5000/team",
		"plan registry.example:5000/team/app:v2 with *.example:5000",
	}, r.took())

	data, err := json.MarshalIndent(d, "", " ")
	require.NoError(t, err)
	var back map[string]any
	require.NoError(t, json.Unmarshal(data, &back))
	for _, field := range []string{"image", "registry", "repository", "tag", "platform", "policy", "policyWhy", "store", "action", "backOff", "candidates", "attempts", "resolved", "manifest", "index", "fetch", "present"} {
		assert.Contains(t, back, field)
	}
	assert.NotContains(t, string(data), "a stranger")

	pinned, err := w.Resolve(t.Context(), req)
	require.NoError(t, err)
	assert.Equal(t, req.Image+"@"+d.Resolved.String(), pinned.String())
}

func dockerSecret(namespace, name, key, user string) credentials.Secret {
	doc := fmt.Sprintf(`{"auths":{%q:{"username":%q,"password":"p"}}}`, key, user)
	return credentials.Secret{
		Namespace: namespace, Name: name, Type: credentials.TypeDockerConfigJSON,
		Data: credentials.ConcealData(map[string][]byte{credentials.KeyDockerConfigJSON: []byte(doc)}),
	}
}

func TestDecisionsPrintAsReadableText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{Platform: platform("linux", "amd64")})
		explain := func(req Request) string {
			d, err := w.Explain(t.Context(), req)
			require.NoError(t, err)
			return d.String()
		}
		assert.Equal(t, `image       a/UPPER
result      InvalidImageName: image name "a/UPPER": repository at byte 2: upper case letter; write it in lower case
`, explain(Request{Image: "a/UPPER"}))
		assert.Equal(t, `image       a.example/a
  parsed    host a.example  repository a  tag latest  digest -
  platform  linux/amd64
policy      Never               (as requested)
  store     absent              -> ErrImageNeverPull: not present, and the pull policy is Never
`, explain(Request{Image: "a.example/a", Policy: pullpolicy.Never}))
		w.runtime.store["a.example/b:1"] = "sha256:1"
		assert.Equal(t, `image       a.example/b:1
  parsed    host a.example  repository b  tag 1  digest -
  platform  linux/amd64
policy      IfNotPresent        (default: tag is not latest)
  store     present             -> use what is stored
`, explain(Request{Image: "a.example/b:1"}))

		w.runtime.pull = answers(map[string]string{"a": "401"})
		ring := keyringOf(secret("a", "1"))
		_, err := w.Pull(t.Context(), Request{Image: "a.example/a", Keyring: ring})
		require.Error(t, err)
		time.Sleep(time.Second)
		assert.Equal(t, `image       a.example/a
  parsed    host a.example  repository a  tag latest  digest -
  platform  linux/amd64
policy      Always              (default: tag is latest)
  store     not asked           -> ImagePullBackOff
back-off    next try in 9s      (key: no pod, a.example/a:latest; failures: 1)
  previous  ErrImagePull: with secret "team/secret-a", key "a": 401
credentials 1 candidate
  1  secret "team/secret-a", key "a"   user user   matches
`, explain(Request{Image: "a.example/a", Keyring: ring}))
		assert.Contains(t, explain(Request{Image: "a.example/a", Keyring: keyringOf(secret("a", "2"))}), "back-off    open: secrets are new")
		assert.Contains(t, explain(Request{Image: "a.example/a", Keyring: ring, Pod: credentials.Pod{Namespace: "other"}}),
			`  x  secret "team/secret-a", key "a"   user user   refused: the Secret is of another namespace than the Pod, which is in "other"`)
		assert.Contains(t, explain(Request{Image: "a.example/z:1", Keyring: struct{ credentials.Keyring }{ring}}),
			"  1  no credential   the request's keyring cannot say what it would yield")
		bad := &fakeKeyring{problem: errors.New("unexpected end of JSON input")}
		assert.Contains(t, explain(Request{Image: "a.example/z:1", Keyring: bad}), "credentials none: one anonymous try\n  x  secret \"bad\"   left out: unexpected end of JSON input")
		w.runtime.inspectErr = errors.New("store is\ncorrupt")
		assert.Contains(t, explain(Request{Image: "a.example/b:1"}), `  store     unknown             -> ImageInspectError: store is\x0acorrupt`)
	})
}

func TestExplainSaysWhyThePolicy(t *testing.T) {
	const pinned = "a.example/a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	tests := []struct {
		config Config
		req    Request
		policy pullpolicy.Policy
		why    string
	}{
		{Config{}, Request{Image: "a.example/a"}, pullpolicy.Always, "default: tag is latest"},
		{Config{}, Request{Image: "a.example/a:1"}, pullpolicy.IfNotPresent, "default: tag is not latest"},
		{Config{}, Request{Image: pinned}, pullpolicy.IfNotPresent, "default: no tag, but a digest"},
		{Config{}, Request{Image: "a.example/a", Policy: "Never"}, pullpolicy.Never, "as requested"},
		{Config{AlwaysPull: true}, Request{Image: pinned, Policy: "Never"}, pullpolicy.Always, "AlwaysPullImages"},
		{Config{Kubelet: Kubelet{PolicyAsWritten: true}}, Request{Image: "a.example/a:1", Policy: "Foo"}, pullpolicy.Always, "not one of the three policies: pulled without asking the store"},
		{Config{Kubelet: Kubelet{PolicyAsWritten: true}}, Request{Image: "a.example/a:1"}, pullpolicy.Always, "not one of the three policies: pulled without asking the store"},
	}
	for _, tt := range tests {
		w := newWorld(t, tt.config)
		d, err := w.Explain(t.Context(), tt.req)
		require.NoError(t, err)
		assert.Equal(t, tt.policy, d.Policy, "%+v", tt.req)
		assert.Equal(t, tt.why, d.PolicyWhy, "%+v", tt.req)
		w.runtime.store[tt.req.Image] = "sha256:1"
		_, err = w.Pull(t.Context(), tt.req)
		assert.Equal(t, tt.policy == pullpolicy.Always, len(w.runtime.used) == 1, "%+v: %v", tt.req, err)
	}
}

func TestExplainAsksNoRegistryInAWindow(t *testing.T) {
	r := &planningRuntime{fakeRuntime: fakeRuntime{store: map[string]string{}}}
	r.plan = func(Spec) (Plan, error) { return Plan{}, errors.New("404") }
	r.pull = answers(map[string]string{"anonymous": "404"})
	w := newWorld(t, Config{Runtime: r})
	d, err := w.Explain(t.Context(), Request{Image: "a.example/a:1"})
	require.NoError(t, err)
	assert.Equal(t, ActionPull, d.Action)
	assert.Equal(t, ErrImagePull, d.Reason, "what the registry has just answered")
	assert.Equal(t, "without a credential: 404", d.Why)
	_, err = w.Pull(t.Context(), Request{Image: "a.example/a:1"})
	require.ErrorIs(t, err, ErrImagePull, "a failure of Explain's own attempt is not counted")
	r.took()
	d, err = w.Explain(t.Context(), Request{Image: "a.example/a:1"})
	require.NoError(t, err)
	assert.Equal(t, ActionWait, d.Action)
	assert.Equal(t, []string{"inspect a.example/a:1"}, r.took())
}

// Under FailOnBadSecret, Explain reports the secret that would fail the pull in the words of
// the pull's error.
func TestExplainReportsABadSecretInThePullsWords(t *testing.T) {
	broken := keyringOf(secret("a", "1"))
	broken.problem = errors.New("unexpected end of JSON input")
	for _, req := range []Request{
		{Image: "a.example/a:1", Keyring: broken},
		{Image: "a.example/a:1", Keyring: keyringOf(secret("a", "1")), Pod: credentials.Pod{Namespace: "other"}},
	} {
		w := newWorld(t, Config{Kubelet: Kubelet{FailOnBadSecret: true}})
		d, err := w.Explain(t.Context(), req)
		require.NoError(t, err)
		assert.Equal(t, ActionFail, d.Action)
		_, err = w.Pull(t.Context(), req)
		assert.EqualError(t, err, `image "a.example/a:1": `+d.Why)
		assert.Empty(t, d.Reason)
	}
}

// A credential that both the Pod and the node have is tried once, or twice under
// KeepDuplicates. Explain lists it as often.
func TestExplainListsDuplicatesAsPullTriesThem(t *testing.T) {
	both := secret("a", "1")
	ofNode := both
	ofNode.Origin = node("n").Origin
	for _, keep := range []bool{false, true} {
		w := newWorld(t, Config{Keyring: credentials.Static{ofNode, node("m")}, Kubelet: Kubelet{KeepDuplicates: keep}})
		w.runtime.pull = answers(map[string]string{"a": "401", "n": "401", "m": "401"})
		req := Request{Image: "a.example/a:1", Policy: pullpolicy.Always, Keyring: credentials.Static{both}}
		d, err := w.Explain(t.Context(), req)
		require.NoError(t, err)
		var said []string
		for _, c := range d.Candidates {
			if c.Order > 0 {
				said = append(said, "pull a.example/a:1 with "+c.Key)
			}
		}
		_, err = w.Pull(t.Context(), req)
		require.Error(t, err)
		assert.Equal(t, said, w.runtime.took())
		if !keep {
			assert.Contains(t, d.String(), `  x  file "/var/lib/kubelet/config.json", key "n"   user user   matches, but the Pod has the same credential`)
		}
	}
}

func TestExplainWritesNoRecords(t *testing.T) {
	recs := &scriptedRecords{record: &records.Record{Names: map[string]records.Access{"priv.example/app": {
		Secrets: []records.SecretID{{Namespace: "x", Name: "x", UID: "x", Hash: records.NewSecretID(secret("a", "1")).Hash}},
	}}}}
	w := newWorld(t, Config{Records: recs})
	w.runtime.store["priv.example/app:1"] = "sha256:1"
	d, err := w.Explain(t.Context(), Request{Image: "priv.example/app:1", Keyring: keyringOf(secret("a", "1"))})
	require.NoError(t, err)
	assert.Equal(t, ActionUse, d.Action)
	assert.Equal(t, "a Secret with the same content has pulled the image before", d.StoreWhy)
	assert.Empty(t, recs.grants)
	d, err = w.Explain(t.Context(), Request{Image: "priv.example/app:1", Keyring: keyringOf(secret("b", "2"))})
	require.NoError(t, err)
	assert.Equal(t, StoreNotYours, d.Store)
	d, err = w.Explain(t.Context(), Request{Image: "priv.example/app:1", Policy: pullpolicy.Never, Keyring: keyringOf(secret("b", "2"))})
	require.NoError(t, err)
	assert.Equal(t, ErrImageNeverPull, d.Reason)
	assert.Equal(t, "not for this Pod, and the pull policy is Never", d.Why)
	assert.Empty(t, recs.begun)
	assert.Empty(t, w.took())
}

func TestExplainListsAtMost100EntriesThatDoNotMatch(t *testing.T) {
	var secrets []credentials.Secret
	for i := range 500 {
		secrets = append(secrets, dockerSecret("n", fmt.Sprint("s", i), fmt.Sprintf("r%d.example", i), "u"))
	}
	w := newWorld(t, Config{})
	d, err := w.Explain(t.Context(), Request{Image: "r7.example/a:1", Keyring: credentials.FromSecrets(secrets, credentials.Rules{})})
	require.NoError(t, err)
	assert.Len(t, d.Candidates, 101)
	assert.Equal(t, 399, d.Skipped)
	assert.Contains(t, d.String(), "  x  and 399 more that do not match\n")
}

func TestExplainEndsWithItsContext(t *testing.T) {
	w := newWorld(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := w.Explain(ctx, Request{Image: "a.example/a:1"})
	assert.ErrorIs(t, err, context.Canceled)
}

// unprinted has the fields of a Decision that String leaves out, with the reason.
var unprinted = map[string]string{
	"Manifest":                "the chosen entry of Index has it",
	"Candidates[].Origin":     "From is the Origin as text",
	"Attempts[].Origin":       "From is the Origin as text",
	"Attempts[].Host":         "the error names it where it is another host than the image's",
	"Attempts[].SourceFailed": "the error says it",
}

// TestDecisionPrintsEachField holds that String shows each field of a Decision and of the
// values in it, except the fields in unprinted.
func TestDecisionPrintsEachField(t *testing.T) {
	blobs := []ocispec.Descriptor{descriptor('a', 1)}
	var d Decision
	fill(reflect.ValueOf(&d).Elem())
	d.Action, d.Fetch, d.Present = ActionFail, blobs, blobs
	d.BackOff.Repaired = false // Repaired is shown in place of Wait
	d.Access.Error = ""        // with an error it is not known which names the record has
	printed := d.String()
	left := map[string]bool{}
	eachField(reflect.ValueOf(&d).Elem(), "", func(path string, field reflect.Value) {
		before := reflect.New(field.Type()).Elem()
		before.Set(field)
		if field.Kind() == reflect.Bool {
			field.SetBool(!field.Bool())
		} else {
			field.SetZero()
		}
		shown := d.String() != printed
		if field.Kind() == reflect.String {
			field.SetString(string(ActionUse))
			shown = shown || d.String() != printed
		}
		if !shown {
			left[path] = true
			assert.Contains(t, unprinted, path, "String does not show the field; if that is right, add it to the list")
		}
		field.Set(before)
	})
	for path := range unprinted {
		assert.Contains(t, left, path, "String shows the field")
	}
}

// fill sets all fields of v, and puts one element into each slice.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("filled")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int:
		v.SetInt(7)
	case reflect.Int64:
		v.SetInt(int64(7 * time.Second))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		if v.Type().Elem() != reflect.TypeFor[ocispec.Descriptor]() {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fill(v.Index(0))
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(7, 0)))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	}
}

// eachField calls fn for each field of a struct, and of the structs in its slices and behind
// its pointers. An Origin is one field.
func eachField(v reflect.Value, path string, fn func(path string, field reflect.Value)) {
	for i := range v.NumField() {
		field, name := v.Field(i), path+v.Type().Field(i).Name
		switch {
		case field.Kind() == reflect.Pointer:
			eachField(field.Elem(), name+".", fn)
		case field.Kind() == reflect.Slice && field.Type().Elem().Kind() == reflect.Struct && field.Type().Elem() != reflect.TypeFor[ocispec.Descriptor]():
			eachField(field.Index(0), name+"[].", fn)
		default:
			fn(name, field)
		}
	}
}
