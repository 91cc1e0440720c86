package puller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// statusError returns an error as that of a Runtime that asks registries over HTTP.
func statusError(host string, status int, code string) error {
	reason := map[int]content.Reason{401: content.ErrUnauthorized, 429: content.ErrRateLimited}[status]
	return &content.Error{Reason: reason, Host: host, Status: status, Codes: []string{code}}
}

func TestErrorsSayWhatFailedAndWhy(t *testing.T) {
	a := credentials.Attempt{Origin: secret("a", "1").Origin, Err: errors.New("401")}
	node := credentials.Attempt{Origin: credentials.Origin{Kind: credentials.KindFile, Name: "/root/config.json", Key: "*.example"}, Err: errors.New("403")}
	plugin := credentials.Attempt{Origin: credentials.Origin{Kind: credentials.KindPlugin, Name: "ecr"}, SourceFailed: true, Err: errors.New("exit status 1")}
	failed := &Error{Reason: ErrImagePull, Image: "a.example/a:1", Attempts: []credentials.Attempt{a, plugin, node}, RetryAfter: 10 * time.Second}
	tests := []struct {
		err     *Error
		text    string
		message string
	}{
		{
			failed,
			`image "a.example/a:1": ErrImagePull: with secret "team/secret-a", key "a": 401; plugin "ecr" could not answer: exit status 1; with file "/root/config.json", key "*.example": 403`,
			`[401, exit status 1, 403]`,
		}, {
			&Error{Reason: ErrImagePullBackOff, Image: "a.example/a:1", RetryAfter: 9*time.Second + 999*time.Millisecond + 1, Previous: &Error{Reason: ErrImagePull, Image: "a.example/a:1", Attempts: []credentials.Attempt{a}}},
			`image "a.example/a:1": ImagePullBackOff: next try in 10s; the last try ended with ErrImagePull: with secret "team/secret-a", key "a": 401`,
			`Back-off pulling image "a.example/a:1": ErrImagePull: 401`,
		}, {
			&Error{Reason: ErrImagePullBackOff, Image: "a.example/a:1", RetryAfter: 299500 * time.Millisecond},
			`image "a.example/a:1": ImagePullBackOff: next try in 5m0s`,
			`Back-off pulling image "a.example/a:1"`,
		}, {
			&Error{Reason: ErrImageNeverPull, Image: "a.example/a:1"},
			`image "a.example/a:1": ErrImageNeverPull: not present, and the pull policy is Never`,
			`Container image "a.example/a:1" is not present with pull policy of Never`,
		}, {
			&Error{Reason: ErrImageInspect, Image: "a.example/a:1", Err: errors.New("store is corrupt")},
			`image "a.example/a:1": ImageInspectError: store is corrupt`,
			`Failed to inspect image "a.example/a:1": store is corrupt`,
		}, {
			&Error{Reason: ErrInvalidImageName, Image: "A", Err: errors.New(`image name "A": upper case letter`)},
			`image "A": InvalidImageName: image name "A": upper case letter`,
			`Failed to apply default image tag "A": image name "A": upper case letter`,
		}, {
			&Error{Reason: ErrRegistryUnavailable, Image: "a.example/a:1", Attempts: []credentials.Attempt{{Err: errors.New("RegistryUnavailable: refused")}}},
			`image "a.example/a:1": RegistryUnavailable: without a credential: RegistryUnavailable: refused`,
			`image pull failed for a.example/a:1 because the registry is unavailable: refused`,
		}, {
			&Error{Reason: ErrSignatureValidation, Image: "a.example/a:1", Attempts: []credentials.Attempt{{Err: ErrSignatureValidation}}},
			`image "a.example/a:1": SignatureValidationFailed: without a credential: SignatureValidationFailed`,
			`image pull failed for a.example/a:1 because the signature validation failed`,
		}, {
			&Error{Reason: ErrImagePull, Image: "a.example/a:1", Err: errRate},
			`image "a.example/a:1": ErrImagePull: pull QPS exceeded`,
			`pull QPS exceeded`,
		}, {
			&Error{Reason: ErrImagePull, Image: "a\nb\x1b[31m" + strings.Repeat("x", 400), Err: errors.New("bad\r\ntext")},
			`image "a\nb\x1b[31m` + strings.Repeat("x", 292) + `"...: ErrImagePull: bad\x0d\x0atext`,
			`bad\x0d\x0atext`,
		},
	}
	for _, tt := range tests {
		assert.Equal(t, tt.text, tt.err.Error())
		assert.Equal(t, tt.message, tt.err.Message())
	}
	assert.EqualError(t, &RetryError{After: time.Minute, Err: errors.New("429")}, "429")
	limited := &Error{Reason: ErrImagePull, Image: "a", RetryAfter: 30 * time.Second, Err: &RetryError{After: 30 * time.Second, Err: errors.New("429")}}
	assert.EqualError(t, limited, `image "a": ErrImagePull: 429; next try in 30s`)
	assert.EqualError(t, &Error{Reason: ErrImagePullBackOff, Image: "a", RetryAfter: 27 * time.Second, Previous: limited},
		`image "a": ImagePullBackOff: next try in 27s; the last try ended with ErrImagePull: 429`, "the text has one time of the next try")
	assert.EqualError(t, &Error{Reason: ErrImagePull, Image: "a", Err: limited.Err}, `image "a": ErrImagePull: 429`, "a wait of 0 s is left out")
	assert.EqualError(t, &RetryError{After: time.Minute}, "the registry asked to wait for 1m0s")
	_, err := reference.Parse("reg.example/App:v1")
	assert.EqualError(t, &Error{Reason: ErrInvalidImageName, Image: "reg.example/App:v1", Err: err},
		`image "reg.example/App:v1": InvalidImageName: repository at byte 12: upper case letter; write it in lower case`, "the text has the name once")
	var attempts []credentials.Attempt
	for range 12 {
		attempts = append(attempts, credentials.Attempt{Err: errors.New("401")})
	}
	many := &Error{Reason: ErrImagePull, Image: "a", Attempts: attempts}
	assert.EqualError(t, many, `image "a": ErrImagePull: `+strings.Repeat("without a credential: 401; ", 10)+"2 more")
}

func TestErrorsIsFindsTheAnswerThatGotFurthest(t *testing.T) {
	w := newWorld(t, Config{})
	w.runtime.pull = func(_ context.Context, spec Spec) (string, error) {
		if credentialID(spec.Credential) == "a" {
			return "", statusError("a.example", 401, "UNAUTHORIZED")
		}
		return "", &RetryError{After: time.Minute, Err: statusError("a.example", 429, "TOOMANYREQUESTS")}
	}
	req := Request{Image: "a.example/a:1", Keyring: keyringOf(secret("a", "1"), secret("b", "2"))}
	_, err := w.Pull(t.Context(), req)
	for range 2 { // first the error of the pull, then the error of the back-off
		assert.NotErrorIs(t, err, fs.ErrPermission, "the answer 429 takes precedence over 401")
		assert.Equal(t, credentials.VerdictUnavailable, credentials.VerdictOf(err))
		var retry *RetryError
		assert.ErrorAs(t, err, &retry)
		var all *credentials.AttemptsError
		assert.ErrorAs(t, err, &all)
		_, err = w.Pull(t.Context(), req)
	}
	e := asError(t, err)
	assert.Equal(t, ErrImagePullBackOff, e.Reason)
	assert.Equal(t, []Answer{
		{Origin: secret("a", "").Origin, From: `secret "team/secret-a", key "a"`,
			Host: "a.example", Status: 401, Codes: []string{"UNAUTHORIZED"}, Error: "a.example: unauthorized"},
		{Origin: secret("b", "").Origin, From: `secret "team/secret-b", key "b"`,
			Host: "a.example", Status: 429, Codes: []string{"TOOMANYREQUESTS"}, Error: "a.example: rate limited"},
	}, e.Previous.Answers())
	_, err = w.Pull(t.Context(), Request{Image: "UPPER"})
	assert.ErrorIs(t, err, ErrInvalidImageName)
	_, err = w.Pull(t.Context(), Request{Image: "a.example/b:1", Policy: pullpolicy.Never})
	assert.ErrorIs(t, err, ErrImageNeverPull)
}

// No error, event, Decision or printed value of a Puller has a secret in it.
func TestNoTextShowsASecret(t *testing.T) {
	const canary = "canary-7c1f"
	cred := credentials.Credential{
		Username: "user", Password: credentials.Conceal(canary), IdentityToken: credentials.Conceal(canary), RegistryToken: credentials.Conceal(canary),
		Origin: secret("a", "").Origin,
	}
	w := newWorld(t, Config{Records: openRecords(t), Keyring: keyringOf(cred)})
	var said []any
	w.runtime.pull = func(_ context.Context, spec Spec) (string, error) {
		said = append(said, spec)
		return "", errors.New("401")
	}
	req := Request{Image: "a.example/a:1", Keyring: keyringOf(cred), Pod: credentials.Pod{Namespace: "team"}}
	for range 2 {
		d, err := w.Explain(t.Context(), req)
		require.NoError(t, err)
		_, err = w.Pull(t.Context(), req)
		said = append(said, d, d.String(), err, err.Error(), asError(t, err).Answers(), asError(t, err).Message())
	}
	said = append(said, w.took(), req)
	for _, name := range []string{"bob:" + canary + "@reg.example/app:v1", "https://bob:" + canary + "@reg.example/App", "bob:" + canary + "@reg.example"} {
		d, err := w.Explain(t.Context(), Request{Image: name})
		require.NoError(t, err)
		_, err = w.Pull(t.Context(), Request{Image: name})
		require.ErrorIs(t, err, ErrInvalidImageName)
		said = append(said, d, d.String(), err, err.Error(), asError(t, err).Message(), w.took())
	}
	for _, s := range said {
		assert.NotContains(t, fmt.Sprintf("%v %+v %#v %s", s, s, s, s), canary)
		data, err := json.Marshal(s)
		if err == nil {
			assert.NotContains(t, string(data), canary)
		}
	}
}
