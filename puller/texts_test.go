package puller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/backoff"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// statusError is what a Runtime over HTTP returns.
func statusError(host string, status int, code string) error {
	reason := map[int]content.Reason{401: content.ErrUnauthorized, 429: content.ErrRateLimited}[status]
	return &content.Error{Reason: reason, Host: host, Status: status, Codes: []string{code}}
}

func TestErrorTexts(t *testing.T) {
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
		`image "a": ImagePullBackOff: next try in 27s; the last try ended with ErrImagePull: 429`, "one answer to when the next try is")
	assert.EqualError(t, &Error{Reason: ErrImagePull, Image: "a", Err: limited.Err}, `image "a": ErrImagePull: 429`, "no wait of 0 s")
	assert.EqualError(t, &RetryError{After: time.Minute}, "the registry asked to wait for 1m0s")
	_, err := reference.Parse("reg.example/App:v1")
	assert.EqualError(t, &Error{Reason: ErrInvalidImageName, Image: "reg.example/App:v1", Err: err},
		`image "reg.example/App:v1": InvalidImageName: repository at byte 12: upper case letter; write it in lower case`, "the name once")
	var attempts []credentials.Attempt
	for range 12 {
		attempts = append(attempts, credentials.Attempt{Err: errors.New("401")})
	}
	many := &Error{Reason: ErrImagePull, Image: "a", Attempts: attempts}
	assert.EqualError(t, many, `image "a": ErrImagePull: `+strings.Repeat("without a credential: 401; ", 10)+"2 more")
}

func TestErrorsIsAndAs(t *testing.T) {
	w := newWorld(t, Config{})
	w.runtime.pull = func(_ context.Context, spec Spec) (string, error) {
		if credentialID(spec.Credential) == "a" {
			return "", statusError("a.example", 401, "UNAUTHORIZED")
		}
		return "", &RetryError{After: time.Minute, Err: statusError("a.example", 429, "TOOMANYREQUESTS")}
	}
	req := Request{Image: "a.example/a:1", Keyring: ringOf(secret("a", "1"), secret("b", "2"))}
	_, err := w.Pull(t.Context(), req)
	for range 2 { // the error of the pull, then that of the back-off
		assert.NotErrorIs(t, err, fs.ErrPermission, "the second answer counts before the first")
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

func TestEventJSON(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	answer := newAnswer(credentials.Attempt{Origin: secret("a", "1").Origin, Err: statusError("a.example", 401, "DENIED")})
	tests := []struct {
		event Event
		want  string
	}{
		{
			Event{Time: at, Call: 7, Type: Normal, Reason: EventPulled, Message: "m", Image: "a", Pod: credentials.Pod{Namespace: "n", Name: "p", UID: "u"}, Platform: "linux/amd64", Digest: "sha256:1"},
			`{"time":"2026-01-02T03:04:05Z","call":7,"type":"Normal","reason":"Pulled","message":"m","image":"a","pod":{"namespace":"n","name":"p","uid":"u"},"platform":"linux/amd64","digest":"sha256:1"}`,
		}, {
			Event{Time: at, Call: 7, Type: Warning, Reason: EventFailed, Image: "a", Shared: true, RetryAfter: 1500 * time.Millisecond},
			`{"time":"2026-01-02T03:04:05Z","call":7,"type":"Warning","reason":"Failed","image":"a","shared":true,"retryAfterSeconds":1.5}`,
		}, {
			Event{Time: at, Call: 7, Type: Warning, Reason: EventAttempt, Image: "a", Attempt: &answer},
			`{"time":"2026-01-02T03:04:05Z","call":7,"type":"Warning","reason":"AttemptFailed","image":"a","attempt":{"from":"secret \"team/secret-a\", key \"a\"","kind":"secret","namespace":"team","name":"secret-a","uid":"uid-a","key":"a","host":"a.example","status":401,"codes":["DENIED"],"error":"a.example: unauthorized"}}`,
		}, {
			Event{Time: at, Call: 7, Type: Normal, Reason: EventProgress, Image: "a", Progress: &Progress{Blob: ocispec.Descriptor{MediaType: "m", Digest: "sha256:2", Size: 9}, State: BlobFetching, Done: 3, Total: 20, TotalDone: 4}},
			`{"time":"2026-01-02T03:04:05Z","call":7,"type":"Normal","reason":"Progress","image":"a","progress":{"blob":{"mediaType":"m","digest":"sha256:2","size":9},"state":"fetching","done":3,"total":20,"totalDone":4}}`,
		}, {
			Event{Time: at, Call: 7, Type: Normal, Reason: EventProgress, Image: "a", Progress: &Progress{Total: 20}},
			`{"time":"2026-01-02T03:04:05Z","call":7,"type":"Normal","reason":"Progress","image":"a","progress":{"done":0,"total":20,"totalDone":0}}`,
		},
	}
	for _, tt := range tests {
		data, err := json.Marshal(tt.event)
		require.NoError(t, err)
		assert.Equal(t, tt.want, string(data))
	}
}

func TestPulledTellsBothDurations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		w.runtime.pull = slow(1500*time.Millisecond, ok)
		go w.Pull(t.Context(), Request{Image: "a.example/first:1"})
		synctest.Wait()
		_, err := w.Pull(t.Context(), Request{Image: "a.example/second:1"})
		require.NoError(t, err)
		events := w.took()
		assert.Equal(t, `Successfully pulled image "a.example/second:1" in 1.5s (3s including waiting). Image size: 4096 bytes.`, events[len(events)-1].Message)
	})
}

// AsKubelet sets every field of Kubelet, which TestDecisionsAsKubelet sets one by one.
func TestAsKubelet(t *testing.T) {
	p, err := New(Config{Runtime: &fakeRuntime{}, AsKubelet: true})
	require.NoError(t, err)
	assert.Equal(t, allKubelet(), p.config.Kubelet)
}

func TestNewRefuses(t *testing.T) {
	verify, err := pullpolicy.NewVerification(pullpolicy.AlwaysVerify)
	require.NoError(t, err)
	r := &fakeRuntime{}
	nan := 0.0
	nan /= nan
	for text, config := range map[string]Config{
		"puller: Config.Runtime is nil; set it, for example to what transfer.New returns":          {},
		"puller: Config.Verify needs Config.Records":                                               {Runtime: r, Verify: verify},
		"puller: Config.QPS is -1; it must be 0 or more":                                           {Runtime: r, QPS: -1},
		"puller: Config.QPS is NaN; it must be 0 or more":                                          {Runtime: r, QPS: nan},
		"puller: Config.Backoff: backoff: Max is -1ns; it must not be negative":                    {Runtime: r, Backoff: backoff.Config{Max: -1}},
		"puller: Config.Backoff: backoff: Jitter is NaN; it must be a number that is not negative": {Runtime: r, Backoff: backoff.Config{Jitter: nan}},
	} {
		_, err := New(config)
		assert.EqualError(t, err, text)
	}
}

// No secret is in anything that a Puller says.
func TestNothingShowsASecret(t *testing.T) {
	const canary = "canary-7c1f"
	cred := credentials.Credential{
		Username: "user", Password: credentials.Conceal(canary), IdentityToken: credentials.Conceal(canary), RegistryToken: credentials.Conceal(canary),
		Origin: secret("a", "").Origin,
	}
	w := newWorld(t, Config{Records: openRecords(t), Keyring: ringOf(cred)})
	var said []any
	w.runtime.pull = func(_ context.Context, spec Spec) (string, error) {
		said = append(said, spec)
		return "", errors.New("401")
	}
	req := Request{Image: "a.example/a:1", Keyring: ringOf(cred), Pod: credentials.Pod{Namespace: "team"}}
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
