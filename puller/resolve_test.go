package puller

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
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
	assert.EqualError(t, err, `image "priv.example/app:1": the runtime cannot resolve names without pulling: unsupported operation`)
	assert.Empty(t, maps.Collect(w.backoff.last.All()))
}

// A resolvingRuntime knows the digests of names, but has no image for any platform.
type resolvingRuntime struct{ planningRuntime }

func (r *resolvingRuntime) Resolve(_ context.Context, spec Spec) (digest.Digest, error) {
	r.call("resolve %s with %s", spec.Written, credentialID(spec.Credential))
	if credentialID(spec.Credential) == "a" {
		return "", &RetryError{After: time.Minute, Err: fs.ErrPermission}
	}
	return descriptor('9', 0).Digest, nil
}

// What a name points to does not depend on a platform. So a Runtime that is a Resolver is
// not asked for a plan.
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
