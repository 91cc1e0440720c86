package puller

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestResolveTriesOneCredentialAfterAnother(t *testing.T) {
	r := &planningRuntime{}
	r.plan = func(spec Spec) (Plan, error) {
		if credentialID(spec.Credential) == "a" {
			return Plan{}, fs.ErrPermission
		}
		return Plan{Digest: descriptor('9', 0).Digest}, nil
	}
	w := newWorld(t, Config{Runtime: r})
	req := Request{Image: "priv.example/app", Policy: pullpolicy.Never, Keyring: keyringOf(secret("a", "1"), secret("b", "2"))}
	got, err := w.Resolve(t.Context(), req)
	require.NoError(t, err)
	assert.Equal(t, "priv.example/app:latest@"+descriptor('9', 0).Digest.String(), got.String())
	assert.Equal(t, []string{"plan priv.example/app:latest with a", "plan priv.example/app:latest with b"}, r.took())

	req.Image = got.String()
	again, err := w.Resolve(t.Context(), req)
	require.NoError(t, err)
	assert.Equal(t, got, again)
	assert.Empty(t, r.took(), "a name with a digest is not asked about")

	req.Image, req.Keyring = "priv.example/app:1", keyringOf(secret("a", "1"))
	_, err = w.Resolve(t.Context(), req)
	assert.ErrorIs(t, err, ErrImagePull)
	assert.ErrorIs(t, err, fs.ErrPermission)
	_, err = w.Resolve(t.Context(), Request{Image: "UPPER"})
	assert.ErrorIs(t, err, ErrInvalidImageName)
	r.plan = func(Spec) (Plan, error) { return Plan{Digest: "nonsense"}, nil }
	_, err = w.Resolve(t.Context(), req)
	assert.ErrorIs(t, err, ErrImagePull)
	_, err = newWorld(t, Config{}).Resolve(t.Context(), req)
	assert.ErrorIs(t, err, errors.ErrUnsupported)
	assert.EqualError(t, err, `image "priv.example/app:1": the runtime cannot resolve a name without a pull: unsupported operation`)
	assert.Empty(t, maps.Collect(w.backoff.last.All()))
}

// A resolvingRuntime knows the digests of names, but has no image for any platform.
type resolvingRuntime struct {
	planningRuntime
	answer error // nil: the digest
}

func (r *resolvingRuntime) Resolve(_ context.Context, spec Spec) (digest.Digest, error) {
	r.call("resolve %s with %s", spec.Written, credentialID(spec.Credential))
	if credentialID(spec.Credential) == "a" {
		return "", &RetryError{After: time.Minute, Err: fs.ErrPermission}
	}
	if r.answer != nil {
		return "", r.answer
	}
	return descriptor('9', 0).Digest, nil
}

// The digest of a name does not depend on a platform. So a Runtime that is a Resolver is
// not asked for a Plan.
func TestResolveAsksAResolverAndNoPlanner(t *testing.T) {
	r := &resolvingRuntime{}
	r.plan = func(Spec) (Plan, error) { return Plan{}, index.ErrNoMatch }
	w := newWorld(t, Config{Runtime: r})
	got, err := w.Resolve(t.Context(), Request{Image: "priv.example/app:1", Keyring: keyringOf(secret("b", "2"))})
	require.NoError(t, err)
	assert.Equal(t, "priv.example/app:1@"+descriptor('9', 0).Digest.String(), got.String())
	_, err = w.Resolve(t.Context(), Request{Image: "priv.example/app:1", Keyring: keyringOf(secret("a", "1"), secret("b", "2"))})
	assert.NotErrorIs(t, err, fs.ErrPermission, "a registry that asks to wait has not refused")
	assert.Equal(t, time.Minute, asError(t, err).RetryAfter)
	assert.Equal(t, []string{"resolve priv.example/app:1 with b", "resolve priv.example/app:1 with a"}, r.took())
}

// The events of Resolve and Find say which credential opened the image, which credentials
// did not help, and which sources were not asked.
func TestResolveSendsEvents(t *testing.T) {
	node, err := credentials.ParseFile([]byte(`{"credHelpers":{"priv.example":"gcloud"}}`), "config.json", credentials.Rules{})
	require.NoError(t, err)
	w := newWorld(t, Config{Runtime: &resolvingRuntime{}, Keyring: node})
	malformed := credentials.Secret{Namespace: "web", Name: "bad", Type: "kubernetes.io/dockerconfigjson", Data: map[string]credentials.Sensitive{".dockerconfigjson": credentials.Conceal("{")}}
	req := Request{Image: "priv.example/app:1", Pod: credentials.Pod{Namespace: "web", Name: "p"}, Keyring: credentials.FromSecrets([]credentials.Secret{
		dockerSecret("other", "foreign", "priv.example", "u"), malformed, {Namespace: "web", Name: "opaque", Type: "Opaque"}}, credentials.Rules{})}
	lines := func() (out []string) {
		for _, e := range w.events {
			assert.Equal(t, "priv.example/app:1", e.Image)
			assert.Equal(t, "web", e.Pod.Namespace)
			out = append(out, fmt.Sprintf("%s %s: %s", e.Type, e.Reason, e.Message))
		}
		w.events = nil
		return out
	}

	found, err := w.Find(t.Context(), req)
	require.NoError(t, err)
	require.NotEmpty(t, w.events)
	last := w.events[len(w.events)-1]
	assert.Equal(t, found.Ref.Digest(), last.Digest)
	assert.Equal(t, found.Answers[len(found.Answers)-1], *last.Attempt)
	assert.Equal(t, []string{
		`Warning AttemptFailed: Unable to get a credential for image "priv.example/app:1": secret "other/foreign", key "priv.example" could not answer: the Secret is of another namespace than the Pod, which is in "web"`,
		`Normal Resolved: Resolved image "priv.example/app:1" to ` + string(descriptor('9', 0).Digest),
	}, lines())

	w.config.Runtime.(*resolvingRuntime).answer = fs.ErrPermission
	_, err = w.Resolve(t.Context(), req)
	require.ErrorIs(t, err, ErrImagePull)
	got := lines()
	require.Len(t, got, 6)
	assert.Equal(t, `Warning AttemptFailed: Failed to resolve image "priv.example/app:1" without a credential: permission denied`, got[1])
	assert.Contains(t, got[4], `Warning ResolveFailed: Failed to resolve image "priv.example/app:1": [`)
	assert.Contains(t, got[5], `Warning FailedToRetrieveImagePullSecret: Unable to use a pull secret (secret "web/bad" could not answer: `)
	assert.Contains(t, got[2], `Warning CredentialHint: A credential for image "priv.example/app:1" may be missing because of this: secret "web/opaque": it is of type "Opaque"`)
	assert.Contains(t, got[3], `names the program docker-credential-gcloud; it was not asked`)

	req.Image = "UPPER"
	_, err = w.Resolve(t.Context(), req)
	require.Error(t, err)
	require.Len(t, w.events, 1)
	assert.Equal(t, EventInspectFailed, w.events[0].Reason)
	w.events = nil
	req.Image = found.Ref.String()
	_, err = w.Resolve(t.Context(), req)
	require.NoError(t, err)
	require.Len(t, w.events, 1)
	assert.Equal(t, EventResolved, w.events[0].Reason)
	assert.Nil(t, w.events[0].Attempt, "the registry was not asked")
}

// The events of a failed pull name the sources that were not asked for a credential.
func TestFailedPullSendsHints(t *testing.T) {
	node, err := credentials.ParseFile([]byte(`{"credsStore":"desktop"}`), "config.json", credentials.Rules{})
	require.NoError(t, err)
	w := newWorld(t, Config{Keyring: node})
	w.runtime.pull = refuse
	_, err = w.Pull(t.Context(), Request{Image: "priv.example/app:1"})
	perr := asError(t, err)
	require.Len(t, perr.Hints, 1)
	require.Len(t, w.events, 4)
	hint := w.events[2]
	assert.Equal(t, EventHint, hint.Reason)
	assert.Equal(t, "Warning", hint.Type)
	assert.Contains(t, hint.Message, perr.Hints[0].Error())
	assert.Equal(t, "credsStore", hint.Attempt.Key)
	assert.Equal(t, EventFailed, w.events[3].Reason)
}
