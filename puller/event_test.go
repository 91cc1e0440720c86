package puller

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEventsHaveAStableJSONForm(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	answer := newAnswer(credentials.Attempt{Origin: secret("a", "1").Origin, Err: statusError("a.example", 401, "DENIED")})
	tests := []struct {
		event Event
		want  string
	}{
		{
			Event{Time: at, Call: 7, Type: typeNormal, Reason: EventPulled, Message: "m", Image: "a", Pod: credentials.Pod{Namespace: "n", Name: "p", UID: "u"}, Platform: "linux/amd64", Policy: "Always", Store: StoreNotAsked, Digest: "sha256:1", Size: 7, Took: 1500 * time.Millisecond},
			`{"time":"2026-01-02T03:04:05Z","call":7,"type":"Normal","reason":"Pulled","message":"m","image":"a","pod":{"namespace":"n","name":"p","uid":"u"},"platform":"linux/amd64","policy":"Always","store":"not asked","digest":"sha256:1","size":7,"tookSeconds":1.5}`,
		}, {
			Event{Time: at, Call: 7, Type: typeWarning, Reason: EventFailed, Image: "a", Shared: true, RetryAfter: 1500 * time.Millisecond},
			`{"time":"2026-01-02T03:04:05Z","call":7,"type":"Warning","reason":"Failed","image":"a","shared":true,"retryAfterSeconds":1.5}`,
		}, {
			Event{Time: at, Call: 7, Type: typeWarning, Reason: EventAttempt, Image: "a", Attempt: &answer},
			`{"time":"2026-01-02T03:04:05Z","call":7,"type":"Warning","reason":"AttemptFailed","image":"a","attempt":{"from":"secret \"team/secret-a\", key \"a\"","kind":"secret","namespace":"team","name":"secret-a","uid":"uid-a","key":"a","host":"a.example","status":401,"codes":["DENIED"],"error":"a.example: unauthorized"}}`,
		}, {
			Event{Time: at, Call: 7, Type: typeNormal, Reason: EventProgress, Image: "a", Progress: &Progress{Blob: ocispec.Descriptor{MediaType: "m", Digest: "sha256:2", Size: 9}, State: BlobFetching, Done: 3, Total: 20, TotalDone: 4}},
			`{"time":"2026-01-02T03:04:05Z","call":7,"type":"Normal","reason":"Progress","image":"a","progress":{"blob":{"mediaType":"m","digest":"sha256:2","size":9},"state":"fetching","done":3,"total":20,"totalDone":4}}`,
		}, {
			Event{Time: at, Call: 7, Type: typeNormal, Reason: EventProgress, Image: "a", Progress: &Progress{Total: 20}},
			`{"time":"2026-01-02T03:04:05Z","call":7,"type":"Normal","reason":"Progress","image":"a","progress":{"done":0,"total":20,"totalDone":0}}`,
		},
	}
	for _, tt := range tests {
		data, err := json.Marshal(tt.event)
		require.NoError(t, err)
		assert.Equal(t, tt.want, string(data))
	}
}

func TestThePulledEventHasBothDurations(t *testing.T) {
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

// A malformed secret causes an event only if the pull fails. This case is from another
// project's tests.
func TestReportedCasesOfBadSecretEvents(t *testing.T) {
	type reported struct {
		Cases []struct {
			ID    string
			Input struct {
				PodSecrets []string `json:"pod_secrets"`
			}
			Expected struct{ Events []EventReason }
		}
	}
	cases := readVectors[reported](t, "field/peers.json").Cases
	require.Len(t, cases, 1)
	for _, c := range cases {
		ring := keyringOf()
		for _, s := range c.Input.PodSecrets {
			if s == "malformed" {
				ring.problem = errors.New("unexpected end of JSON input")
			} else {
				ring.creds = append(ring.creds, secret("a", "1"))
			}
		}
		w := newWorld(t, Config{})
		_, err := w.Pull(t.Context(), Request{Image: "priv.example/app:1", Keyring: ring})
		require.NoError(t, err)
		assert.Equal(t, c.Expected.Events, w.reasons(), c.ID)
	}
}

// The event that ends an attempt says what the store had, which policy the call follows,
// how large the image is and how long the pull took.
func TestEventsSayWhatTheStoreHad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		w.runtime.store["a.example/present:1"] = "sha256:1"
		w.runtime.pull = func(_ context.Context, spec Spec) (string, error) {
			time.Sleep(3 * time.Second)
			if spec.Ref.Repository() == "fails" {
				return "", textError("404")
			}
			return "sha256:2", nil
		}
		type end struct {
			reason EventReason
			policy pullpolicy.Policy
			store  StoreState
			size   int64
			took   time.Duration
		}
		last := func(image string, policy pullpolicy.Policy) end {
			_, _ = w.Pull(t.Context(), Request{Image: image, Policy: policy})
			events := w.took()
			e := events[len(events)-1]
			for _, earlier := range events[:len(events)-1] {
				assert.Empty(t, earlier.Store)
			}
			return end{e.Reason, e.Policy, e.Store, e.Size, e.Took}
		}
		assert.Equal(t, end{EventPulled, pullpolicy.IfNotPresent, StorePresent, 4096, 0}, last("a.example/present:1", ""))
		assert.Equal(t, end{EventPulled, pullpolicy.Always, StoreNotAsked, 4096, 3 * time.Second}, last("a.example/present:1", pullpolicy.Always))
		assert.Equal(t, end{EventPulled, pullpolicy.IfNotPresent, StoreAbsent, 4096, 3 * time.Second}, last("a.example/absent:1", ""))
		assert.Equal(t, end{EventNeverPull, pullpolicy.Never, StoreAbsent, 0, 0}, last("a.example/never:1", pullpolicy.Never))
		assert.Equal(t, end{EventFailed, pullpolicy.IfNotPresent, StoreAbsent, 0, 0}, last("a.example/fails:1", ""))
		assert.Equal(t, end{EventBackOff, pullpolicy.IfNotPresent, StoreAbsent, 0, 0}, last("a.example/fails:1", ""))
		w.runtime.inspectErr = textError("disk")
		assert.Equal(t, end{EventInspectFailed, pullpolicy.IfNotPresent, StoreUnknown, 0, 0}, last("a.example/present:1", ""))
		assert.Equal(t, end{reason: EventInspectFailed}, last("a b", ""))
	})
}
