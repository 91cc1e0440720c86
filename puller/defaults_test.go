package puller

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The tests of this file hold what a Puller does by default in cases in which the kubelet
// does something else.

func TestAnEmptyPolicyMeansTheDefault(t *testing.T) {
	w := newWorld(t, Config{})
	w.runtime.store["nginx:1"] = "sha256:1"
	_, err := w.Pull(t.Context(), Request{Image: "nginx:1"})
	require.NoError(t, err)
	assert.Equal(t, []string{"inspect nginx:1"}, w.runtime.took(), "the default for a tag that is not latest is IfNotPresent")
	_, err = w.Pull(t.Context(), Request{Image: "nginx"})
	require.NoError(t, err)
	assert.Equal(t, []string{"pull nginx:latest with anonymous"}, w.runtime.took(), "for latest it is Always")

	_, err = w.Pull(t.Context(), Request{Image: "nginx", Policy: "Foo"})
	assert.EqualError(t, err, `image "nginx": pull policy "Foo" is not supported; write Always, IfNotPresent or Never`)
	assert.ErrorIs(t, err, pullpolicy.ErrNotSupported)
	assert.Empty(t, w.runtime.took())
}

// A platform without OS or architecture is a mistake of the caller. Neither the store nor
// the registry is asked.
func TestHalfAPlatformIsRefused(t *testing.T) {
	w := newWorld(t, Config{})
	const missing = "OS or architecture is missing; write both, such as linux/amd64"
	for _, tt := range []struct {
		half ocispec.Platform
		text string
	}{
		{ocispec.Platform{OS: "linux"}, `platform "linux": ` + missing},
		{ocispec.Platform{Architecture: "arm64"}, `platform "unknown": ` + missing},
		{ocispec.Platform{Variant: "v8"}, `platform "unknown": ` + missing},
		{ocispec.Platform{OS: "unknown", Architecture: "unknown"}, `platform "unknown/unknown": unknown marks attestations and is not a platform`},
	} {
		half, text := tt.half, tt.text
		req := Request{Image: "a.example/a:1", Platform: half}
		_, err := w.Pull(t.Context(), req)
		assert.ErrorIs(t, err, index.ErrPlatform)
		assert.EqualError(t, err, `image "a.example/a:1": `+text)
		assert.Equal(t, &Error{Image: req.Image, Err: asError(t, err).Err}, err)
		_, waited := w.PullWait(t.Context(), req)
		assert.Equal(t, err, waited, "PullWait does not wait, because waiting repairs nothing")
		_, resolved := w.Resolve(t.Context(), req)
		assert.Equal(t, err, resolved)
		d, err := w.Explain(t.Context(), req)
		require.NoError(t, err)
		assert.Equal(t, ActionFail, d.Action)
		assert.Equal(t, text, d.Why)
		_, err = New(Config{Runtime: w.runtime, Platform: half})
		assert.EqualError(t, err, "puller: Config.Platform: "+text)
	}
	assert.Empty(t, w.runtime.took())
	assert.Empty(t, w.took())
	assert.Empty(t, maps.Collect(w.backoff.last.All()))
}

func TestNoOtherCredentialIsTriedAfterARateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		w.runtime.pull = func(context.Context, Spec) (string, error) {
			return "", &RetryError{After: 45 * time.Second, Err: errors.New("429 Too Many Requests")}
		}
		req := Request{Image: "priv.example/app:1", Keyring: keyringOf(secret("a", "1"), secret("b", "2"))}
		_, err := w.Pull(t.Context(), req)
		assert.Equal(t, []string{"inspect priv.example/app:1", "pull priv.example/app:1 with a"}, w.runtime.took(), "b is not tried")
		e := asError(t, err)
		assert.Equal(t, 45*time.Second, e.RetryAfter, "Retry-After lengthens the window")
		assert.EqualError(t, err, `image "priv.example/app:1": ErrImagePull: with secret "team/secret-a", key "a": `+
			`429 Too Many Requests; next try in 45s`)

		time.Sleep(44 * time.Second)
		_, err = w.Pull(t.Context(), req)
		assert.ErrorIs(t, err, ErrImagePullBackOff)
		assert.Equal(t, time.Second, asError(t, err).RetryAfter)
		time.Sleep(time.Second)
		_, err = w.Pull(t.Context(), req)
		assert.ErrorIs(t, err, ErrImagePull)
	})
}

func TestRetryAfterIsAtMostADay(t *testing.T) {
	w := newWorld(t, Config{})
	w.runtime.pull = func(context.Context, Spec) (string, error) {
		return "", &RetryError{After: 1 << 62, Err: errors.New("429")}
	}
	_, err := w.Pull(t.Context(), Request{Image: "a.example/a:1"})
	got := asError(t, err).RetryAfter
	assert.LessOrEqual(t, got, 24*time.Hour)
	assert.Greater(t, got, 23*time.Hour)
}

func TestTheGravestAnswerGivesTheReason(t *testing.T) {
	tests := []struct {
		a, b string
		want Reason
	}{
		{"401", "RegistryUnavailable: refused", ErrRegistryUnavailable},
		{"RegistryUnavailable: one", "RegistryUnavailable: two", ErrRegistryUnavailable},
		{"RegistryUnavailable: one", "SignatureValidationFailed: two", ErrSignatureValidation},
		{"SignatureValidationFailed: one", "401", ErrSignatureValidation},
		{"401", "404", ErrImagePull},
	}
	for _, tt := range tests {
		w := newWorld(t, Config{})
		w.runtime.pull = answers(map[string]string{"a": tt.a, "b": tt.b})
		_, err := w.Pull(t.Context(), Request{Image: "priv.example/app:1", Keyring: keyringOf(secret("a", "1"), secret("b", "2"))})
		assert.Equal(t, tt.want, asError(t, err).Reason, "%s, %s", tt.a, tt.b)
		assert.Len(t, asError(t, err).Attempts, 2)
	}
}

func TestAMalformedSecretIsSkipped(t *testing.T) {
	w := newWorld(t, Config{})
	ring := keyringOf(secret("a", "1"))
	ring.problem = errors.New("unexpected end of JSON input")
	_, err := w.Pull(t.Context(), Request{Image: "priv.example/app:1", Keyring: ring})
	require.NoError(t, err, "the other secret opens it")
	assert.Equal(t, []string{"inspect priv.example/app:1", "pull priv.example/app:1 with a"}, w.runtime.took())
	assert.Equal(t, []EventReason{EventPulling, EventPulled}, w.reasons())

	w.runtime.pull = answers(map[string]string{"a": "401"})
	_, err = w.Pull(t.Context(), Request{Image: "priv.example/app:2", Keyring: ring})
	assert.EqualError(t, err, `image "priv.example/app:2": ErrImagePull: secret "bad" could not answer: unexpected end of JSON input; `+
		`with secret "team/secret-a", key "a": 401`)
	assert.Equal(t, 10*time.Second, asError(t, err).RetryAfter.Round(time.Second), "it backs off")
	events := w.took()
	require.Len(t, events, 4)
	assert.Equal(t, []EventReason{EventPulling, EventAttempt, EventFailed, EventBadSecret},
		[]EventReason{events[0].Reason, events[1].Reason, events[2].Reason, events[3].Reason})
	assert.Equal(t, `Unable to use a pull secret (secret "bad" could not answer: unexpected end of JSON input); `+
		`attempting to pull the image may not succeed.`, events[3].Message)

	_, err = w.Pull(t.Context(), Request{Image: "priv.example/app:2", Keyring: ring})
	assert.ErrorIs(t, err, ErrImagePullBackOff)
	assert.Equal(t, []EventReason{EventBackOff}, w.reasons(), "the bad secret is not reported again during the back-off")

	w.runtime.pull = answers(map[string]string{"a": "RegistryUnavailable: refused"})
	_, err = w.Pull(t.Context(), Request{Image: "priv.example/app:3", Keyring: ring})
	assert.ErrorIs(t, err, ErrRegistryUnavailable)
	assert.NotContains(t, w.reasons(), EventBadSecret, "no secret is to blame")

	ctx, cancel := context.WithCancel(t.Context())
	w.runtime.pull = func(context.Context, Spec) (string, error) {
		cancel()
		return "", context.Canceled
	}
	_, err = w.Pull(ctx, Request{Image: "priv.example/app:4", Keyring: ring})
	assert.ErrorIs(t, err, context.Canceled)
	assert.NotContains(t, w.reasons(), EventBadSecret, "the registry has refused no secret")
}

// The problem of an entry is not reported if the entry's key is for other images.
func TestMalformedEntriesOfOtherImagesAreNotReported(t *testing.T) {
	doc := `{"auths":{"a.example":{"auth":"!"},"*.other.example":{"auth":"!"},"[":{"auth":"!"}}}`
	secrets := credentials.FromSecrets([]credentials.Secret{credentials.Secret{Name: "s", Type: credentials.TypeDockerConfigJSON,
		Data: credentials.ConcealData(map[string][]byte{credentials.KeyDockerConfigJSON: []byte(doc)})}}, credentials.Rules{})
	assert.Len(t, credentials.Problems(secrets), 3)
	w := newWorld(t, Config{})
	w.runtime.pull = answers(map[string]string{"anonymous": "401"})
	_, err := w.Pull(t.Context(), Request{Image: "a.example/a:1", Keyring: secrets})
	var keys []string
	for _, a := range asError(t, err).Attempts {
		keys = append(keys, a.Origin.Key)
	}
	assert.Equal(t, []string{"a.example", "[", ""}, keys)
}

// A credential can be used in spite of a warning, for example because other users can read
// its file. Such a credential is not reported as a bad secret.
func TestASecretUsedInSpiteOfAWarningIsNotReportedAsBad(t *testing.T) {
	for _, warning := range []credentials.Reason{credentials.ErrReadableByOthers, credentials.ErrLooksWrong} {
		ring := keyringOf(secret("a", "1"))
		ring.problem = warning
		w := newWorld(t, Config{Kubelet: Kubelet{FailOnBadSecret: true}})
		_, err := w.Pull(t.Context(), Request{Image: "priv.example/app:1", Keyring: ring})
		require.NoError(t, err)
		assert.Equal(t, []EventReason{EventPulling, EventPulled}, w.reasons())
		w.runtime.pull = answers(map[string]string{"a": "401"})
		_, err = w.Pull(t.Context(), Request{Image: "priv.example/app:2", Keyring: ring})
		assert.Len(t, asError(t, err).Attempts, 1)
		d, err := w.Explain(t.Context(), Request{Image: "priv.example/app:3", Keyring: ring})
		require.NoError(t, err)
		assert.Len(t, d.Candidates, 1)
	}
}

func TestAMalformedSecretProvesNothing(t *testing.T) {
	w := newWorld(t, Config{Records: openRecords(t)})
	_, err := w.Pull(t.Context(), Request{Image: "priv.example/app:1", Keyring: keyringOf(secret("a", "1"))})
	require.NoError(t, err)
	w.runtime.took()
	w.runtime.pull = answers(map[string]string{"anonymous": "401"})
	ring := &fakeKeyring{problem: errors.New("unexpected end of JSON input")}
	_, err = w.Pull(t.Context(), Request{Image: "priv.example/app:1", Pod: credentials.Pod{UID: "2"}, Keyring: ring})
	assert.ErrorIs(t, err, ErrImagePull)
	assert.Equal(t, []string{"inspect priv.example/app:1", "pull priv.example/app:1 with anonymous"}, w.runtime.took(),
		"without a secret that can be read the registry is asked anonymously")
	assert.Contains(t, w.reasons(), EventBadSecret)
}

func TestAllSpellingsOfANameShareOneWindow(t *testing.T) {
	for _, names := range [][]string{
		{"r.example/x", "r.example/x:latest"},
		{"nginx:9", "docker.io/library/nginx:9", "index.docker.io/library/nginx:9"},
	} {
		w := newWorld(t, Config{})
		w.runtime.pull = answers(map[string]string{"anonymous": "404"})
		for i, name := range names {
			_, err := w.Pull(t.Context(), Request{Image: name, Policy: pullpolicy.Always})
			if i == 0 {
				assert.ErrorIs(t, err, ErrImagePull)
			} else {
				assert.ErrorIs(t, err, ErrImagePullBackOff, "%s after %s", name, names[0])
			}
		}
	}
}

func TestEachPlatformHasItsOwnWindow(t *testing.T) {
	w := newWorld(t, Config{})
	w.runtime.pull = answers(map[string]string{"anonymous": "404"})
	for _, arch := range []string{"amd64", "arm64"} {
		req := Request{Image: "a.example/a:1"}
		req.Platform.OS, req.Platform.Architecture = "linux", arch
		_, err := w.Pull(t.Context(), req)
		assert.ErrorIs(t, err, ErrImagePull, arch)
	}
}

func TestARepairedSecretIsTriedWithinTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		w.runtime.pull = answers(map[string]string{"a": "401", "b": "403"})
		pull := func(s credentials.Credential) error {
			_, err := w.Pull(t.Context(), Request{Image: "priv.example/app:1", Pod: credentials.Pod{UID: "1"}, Keyring: keyringOf(s)})
			return err
		}
		assert.ErrorIs(t, pull(secret("a", "1")), ErrImagePull)
		assert.ErrorIs(t, pull(secret("a", "1")), ErrImagePullBackOff)
		time.Sleep(time.Second)
		err := pull(secret("b", "2"))
		assert.ErrorIs(t, err, ErrImagePull, "other secrets are tried within the window")
		assert.Equal(t, 20*time.Second, asError(t, err).RetryAfter, "the streak stays")
		assert.ErrorIs(t, pull(secret("b", "2")), ErrImagePullBackOff, "each secret is let through once")
		assert.ErrorIs(t, pull(secret("a", "1")), ErrImagePullBackOff, "secrets that take turns are not tried again")
		assert.NoError(t, pull(secret("c", "3")), "a third secret, which opens the image")
	})
}

// Changed secrets let 15 attempts through in one streak of failures.
func TestChangedSecretsLetFewAttemptsThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		tries := 0
		w.runtime.pull = func(context.Context, Spec) (string, error) {
			tries++
			return "", errors.New("401")
		}
		for i := range 20 {
			_, err := w.Pull(t.Context(), Request{Image: "priv.example/app:1", Keyring: keyringOf(secret("a", fmt.Sprint(i)))})
			assert.Equal(t, i > 15, errors.Is(err, ErrImagePullBackOff), "%d: %v", i, err)
		}
		assert.Equal(t, 1+15, tries)
	})
}

// A pull beyond Config.QPS tries no secret. So a repaired secret can still be tried later.
func TestAPullBeyondTheRateDoesNotUseUpTheTryOfARepairedSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{QPS: 0.2, Burst: 1})
		w.runtime.pull = answers(map[string]string{"a": "401"})
		pull := func(s credentials.Credential) error {
			_, err := w.Pull(t.Context(), Request{Image: "priv.example/app:1", Keyring: keyringOf(s)})
			return err
		}
		assert.ErrorIs(t, pull(secret("a", "1")), ErrImagePull)
		assert.ErrorIs(t, pull(secret("b", "2")), errRate)
		assert.ErrorIs(t, pull(secret("a", "1")), ErrImagePullBackOff)
		time.Sleep(5 * time.Second)
		assert.NoError(t, pull(secret("b", "2")))
	})
}

func TestASuccessEndsTheStreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		req := Request{Image: "a.example/a:1", Policy: pullpolicy.Always}
		fails := answers(map[string]string{"anonymous": "404"})
		w.runtime.pull = fails
		_, err := w.Pull(t.Context(), req)
		require.Error(t, err)
		time.Sleep(10 * time.Second)
		w.runtime.pull = nil
		_, err = w.Pull(t.Context(), req)
		require.NoError(t, err)
		w.runtime.pull = fails
		_, err = w.Pull(t.Context(), req)
		assert.Equal(t, 10*time.Second, asError(t, err).RetryAfter)
		assert.Empty(t, asError(t, err).Previous)
	})
}

// A source that cannot answer is reported when the pull comes to it, even if another
// credential then opens the image. Explain lists the source too.
func TestSourcesThatCannotAnswerAreReported(t *testing.T) {
	helper, err := credentials.NewHelper("missing", credentials.Exec{Dir: t.TempDir()})
	require.NoError(t, err)
	r := &planningRuntime{fakeRuntime: fakeRuntime{store: map[string]string{}}}
	r.plan = func(spec Spec) (Plan, error) {
		if credentialID(spec.Credential) == "a" {
			return Plan{}, fs.ErrPermission
		}
		return Plan{Digest: descriptor('9', 0).Digest}, nil
	}
	w := newWorld(t, Config{Runtime: r, Keyring: credentials.Join(helper, credentials.Static{node("n")})})
	r.pull = answers(map[string]string{"a": "401"})
	req := Request{
		Image: "priv.example/app:1", Pod: credentials.Pod{Namespace: "team"},
		Keyring: credentials.Join(keyringOf(secret("a", "1")), credentials.FromSecrets([]credentials.Secret{dockerSecret("other", "s", "priv.example", "u")}, credentials.Rules{})),
	}
	d, err := w.Explain(t.Context(), req)
	require.NoError(t, err)
	var asked []string
	for _, a := range d.Attempts {
		asked = append(asked, fmt.Sprint(a.From, " ", a.SourceFailed, " ", a.Error == ""))
	}
	assert.Equal(t, []string{
		`secret "team/secret-a", key "a" false false`,
		`secret "other/s", key "priv.example" true false`,
		`helper "missing" true false`,
		`file "/var/lib/kubelet/config.json", key "n" false true`,
	}, asked)
	_, err = w.Pull(t.Context(), req)
	require.NoError(t, err)
	var told []string
	for _, e := range w.took() {
		if e.Reason == EventAttempt {
			assert.Equal(t, typeWarning, e.Type)
			told = append(told, fmt.Sprint(e.Attempt.SourceFailed, " ", e.Message))
		}
	}
	assert.Equal(t, []string{
		`false Failed to pull image "priv.example/app:1" with secret "team/secret-a", key "a": 401`,
		`true Unable to get a credential for image "priv.example/app:1": secret "other/s", key "priv.example" could not answer: ` +
			`the Secret is of another namespace than the Pod, which is in "team"`,
		`true Unable to get a credential for image "priv.example/app:1": helper "missing", for image "priv.example/app": ` +
			`program not found: docker-credential-missing`,
	}, told)
}

// A plugin that returns a new token each time does not end the back-off: no plugin runs
// within the window, and tokens of plugins are not part of the fingerprint.
func TestANewTokenOfAPluginIsNotTriedWithinTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		plugin := &countingPlugin{runs: &runs}
		w := newWorld(t, Config{Keyring: plugin})
		w.runtime.pull = func(context.Context, Spec) (string, error) { return "", fs.ErrPermission }
		req := Request{Image: "a.example/a:1"}
		_, err := w.Pull(t.Context(), req)
		assert.ErrorIs(t, err, ErrImagePull)
		assert.Equal(t, 1, runs)
		for range 20 {
			_, err = w.Pull(t.Context(), req)
			assert.ErrorIs(t, err, ErrImagePullBackOff)
			assert.ErrorIs(t, err, fs.ErrPermission, "the causes of the last failure")
			assert.NotErrorIs(t, err, ErrImagePull, "but not its reason")
		}
		assert.Equal(t, 1, runs)
	})
}

// A countingPlugin gives another token each time it runs, and counts its runs.
type countingPlugin struct {
	credentials.Static
	runs *int
}

func (c *countingPlugin) Lookup(ctx context.Context, ref reference.Reference) iter.Seq2[credentials.Credential, error] {
	*c.runs++
	return credentials.Static{node("token" + string(rune('a'+*c.runs)))}.Lookup(ctx, ref)
}

func (c *countingPlugin) Fingerprint(reference.Reference) uint64 { return 1 }

func TestWindowsOfEndedStreaksAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{Parallel: -1})
		w.runtime.pull = answers(map[string]string{"anonymous": "404"})
		most := 0
		for i := range rounds.Of(40) {
			for j := range 100 {
				_, err := w.Pull(t.Context(), Request{Image: "a.example/a:1", Pod: credentials.Pod{UID: string(rune(i*100 + j + 0x1000))}})
				require.Error(t, err)
			}
			time.Sleep(15 * time.Minute) // all streaks have ended
			most = max(most, len(maps.Collect(w.backoff.last.All())))
		}
		assert.Zero(t, most)
	})
}

// A sweep while a pull of a preloaded image runs does not change that the image is
// preloaded. Here the pull fails later.
func TestASweepDoesNotAffectRunningPulls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{Records: openRecords(t)})
		w.runtime.store["a.example/a:1"] = "sha256:1"
		w.runtime.pull = slow(time.Second, func(context.Context, Spec) (string, error) { return "", errors.New("down") })
		go w.Pull(t.Context(), Request{Image: "a.example/a:1", Policy: "Always"})
		synctest.Wait()
		require.NoError(t, w.Sweep(t.Context(), time.Now(), func(string) bool { return true }))
		time.Sleep(time.Minute)
		_, err := w.Pull(t.Context(), Request{Image: "a.example/a:1"})
		require.NoError(t, err)
		assert.Empty(t, w.access.intents)
	})
}
