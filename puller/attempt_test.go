package puller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// slow returns a Pull that answers after d, or when ctx ends.
func slow(d time.Duration, answer func(context.Context, Spec) (string, error)) func(context.Context, Spec) (string, error) {
	return func(ctx context.Context, spec Spec) (string, error) {
		if err := sleep(ctx, d); err != nil {
			return "", err
		}
		return answer(ctx, spec)
	}
}

func ok(context.Context, Spec) (string, error) { return "sha256:1", nil }

func pod(uid string) credentials.Pod {
	return credentials.Pod{Namespace: "team", Name: "pod-" + uid, UID: uid}
}

func TestEqualPullsShareOneTransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		w.runtime.pull = slow(time.Minute, ok)
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				img, err := w.Pull(t.Context(), Request{
					Image: "priv.example/app:1", Pod: pod(fmt.Sprint(i)), Keyring: keyringOf(secret("a", "1")),
				})
				assert.NoError(t, err)
				assert.Equal(t, "sha256:1", img.ID)
			})
		}
		begin := time.Now()
		wg.Wait()
		assert.Equal(t, time.Minute, time.Since(begin))
		calls := w.runtime.took()
		assert.Len(t, calls, 6, "five looks at the store and one pull: %q", calls)
		shared := 0
		for _, e := range w.took() {
			if e.Reason == EventPulled && e.Shared {
				shared++
				assert.Equal(t, "secret-a", e.Attempt.Name)
			}
		}
		assert.Equal(t, 4, shared)
		assert.Zero(t, w.pulls.Len())
	})
}

func TestACallThatLeavesDoesNotEndTheSharedPull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		w.runtime.pull = slow(time.Minute, ok)
		req := Request{Image: "priv.example/app:1", Keyring: keyringOf(secret("a", "1"))}
		gone := errors.New("gone")
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				ctx, cancel := context.WithCancelCause(t.Context())
				if i < 2 { // usually the call that started the pull is one of these two
					time.AfterFunc(time.Duration(i+1)*time.Second, func() { cancel(gone) })
				}
				begin := time.Now()
				_, err := w.Pull(ctx, req)
				if i < 2 {
					assert.ErrorIs(t, err, gone)
					assert.Equal(t, time.Duration(i+1)*time.Second, time.Since(begin))
				} else {
					assert.NoError(t, err)
					assert.Equal(t, time.Minute, time.Since(begin))
				}
				cancel(nil)
			})
			synctest.Wait()
		}
		wg.Wait()
		assert.Zero(t, w.backoff.state(w.key(t, req), nil).Failures, "a call that leaves counts no failure")
	})
}

func (w *world) key(t *testing.T, req Request) backoffKey {
	t.Helper()
	task, unusable := w.newTask(req)
	require.Nil(t, unusable)
	return task.key
}

func TestTheLastCallToLeaveEndsThePull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		ended := false
		w.runtime.pull = func(ctx context.Context, _ Spec) (string, error) {
			<-ctx.Done()
			time.Sleep(20 * time.Millisecond) // the Runtime cleans up
			ended = true
			return "", ctx.Err()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		_, err := w.Pull(ctx, Request{Image: "a.example/a:1"})
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.True(t, ended, "the Runtime has stopped before Pull returns")
		assert.Equal(t, 1020*time.Millisecond, time.Since(begin))
		events := w.took()
		require.Len(t, events, 2, "one when the pull starts, one when it ends")
		assert.Equal(t, `Failed to pull image "a.example/a:1": context deadline exceeded`, events[1].Message)

		// The caller does not wait for a Runtime that does not stop, but the pull keeps its
		// slot.
		stuck := make(chan struct{})
		w.runtime.pull = func(context.Context, Spec) (string, error) {
			<-stuck
			return "", errors.New("late")
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin = time.Now()
		_, err = w.Pull(ctx, Request{Image: "a.example/a:1"})
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, 1050*time.Millisecond, time.Since(begin), "within 100 ms of ctx's end")
		w.took()
		close(stuck)
		synctest.Wait()
		assert.Empty(t, w.took(), "no event comes after Pull has returned")
		assert.Zero(t, w.backoff.state(w.key(t, Request{Image: "a.example/a:1"}), nil).Failures)
	})
}

func TestAPodWithAWrongSecretGetsItsOwnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{Parallel: 2})
		w.runtime.pull = func(ctx context.Context, spec Spec) (string, error) {
			if credentialID(spec.Credential) == "good" {
				return slow(time.Hour, ok)(ctx, spec)
			}
			return "", textError("401 Unauthorized")
		}
		req := Request{Image: "priv.example/app:1"}
		done := make(chan error, 1)
		go func() {
			good := req
			good.Pod, good.Keyring = pod("1"), keyringOf(secret("good", "1"))
			_, err := w.Pull(t.Context(), good)
			done <- err
		}()
		time.Sleep(time.Minute) // the pull with the good secret still runs
		begin := time.Now()
		wrong := req
		wrong.Pod, wrong.Keyring = pod("2"), keyringOf(secret("wrong", "2"))
		_, err := w.Pull(t.Context(), wrong)
		assert.EqualError(t, err, `image "priv.example/app:1": ErrImagePull: with secret "team/secret-wrong", key "wrong": 401 Unauthorized`)
		assert.Zero(t, time.Since(begin))
		none := req
		none.Pod = pod("3")
		_, err = w.Pull(t.Context(), none)
		assert.ErrorIs(t, err, ErrImagePull, "a Pod without a secret does not get the other Pod's result")
		assert.NoError(t, <-done)
	})
}

func TestASharedFailureCountsOnceForEachKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		w.runtime.pull = slow(time.Second, answers(map[string]string{"anonymous": "404"}))
		var wg sync.WaitGroup
		for i := range 6 { // two Pods, three calls each
			wg.Go(func() {
				_, err := w.Pull(t.Context(), Request{Image: "a.example/a:1", Pod: pod(fmt.Sprint(i % 2))})
				assert.Equal(t, 10*time.Second, asError(t, err).RetryAfter)
			})
		}
		wg.Wait()
		for _, uid := range []string{"0", "1"} {
			assert.Equal(t, 1, w.backoff.state(w.key(t, Request{Image: "a.example/a:1", Pod: pod(uid)}), nil).Failures)
		}
	})
}

func TestPullsShareOnlyIfTheirSecretsAreKnownToBeEqual(t *testing.T) {
	blind := func(r *fakeKeyring) credentials.Keyring { return struct{ credentials.Keyring }{r} }
	inTeam, elsewhere := keyringOf(secret("a", "1")), keyringOf(secret("a", "1"))
	tests := []struct {
		name string
		a, b Request
		want int // pulls
	}{
		{"no secrets", Request{Pod: pod("1")}, Request{Pod: credentials.Pod{Namespace: "other", UID: "2"}}, 1},
		{"keyrings without a fingerprint", Request{Keyring: blind(inTeam)}, Request{Keyring: blind(inTeam)}, 2},
		{"joined with a keyring without a fingerprint", Request{Keyring: credentials.Join(inTeam, blind(inTeam))}, Request{Keyring: credentials.Join(inTeam, blind(inTeam))}, 2},
		{"the same secrets, refused for one of the Pods", Request{Pod: pod("1"), Keyring: inTeam}, Request{Pod: credentials.Pod{Namespace: "other", UID: "2"}, Keyring: elsewhere}, 2},
		{"other content", Request{Keyring: keyringOf(secret("a", "1"))}, Request{Keyring: keyringOf(secret("a", "2"))}, 2},
		{"another platform", Request{}, Request{Platform: platform("linux", "riscv64")}, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, Config{Parallel: -1})
				var mu sync.Mutex
				pulls := 0
				w.runtime.pull = func(ctx context.Context, spec Spec) (string, error) {
					mu.Lock()
					pulls++
					mu.Unlock()
					return slow(time.Second, ok)(ctx, spec)
				}
				var wg sync.WaitGroup
				for _, req := range []Request{tt.a, tt.b} {
					req.Image = "a.example/a:1"
					wg.Go(func() {
						_, err := w.Pull(t.Context(), req)
						assert.NoError(t, err)
					})
				}
				wg.Wait()
				assert.Equal(t, tt.want, pulls)
			})
		})
	}
}

func TestPullsOfTwoPodsDoNotShareIfTheNodesKeyringDependsOnThePod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// For(pod) returns keyrings that have no fingerprint.
		w := newWorld(t, Config{Parallel: -1, Keyring: podKeyring{func(p credentials.Pod) credentials.Keyring {
			return struct{ credentials.Keyring }{keyringOf(node(p.UID))}
		}}})
		w.runtime.pull = slow(time.Second, ok)
		var wg sync.WaitGroup
		for _, uid := range []string{"1", "2"} {
			wg.Go(func() {
				_, err := w.Pull(t.Context(), Request{Image: "a.example/a:1", Pod: pod(uid)})
				assert.NoError(t, err)
			})
		}
		wg.Wait()
		assert.ElementsMatch(t, []string{"1", "2"}, w.runtime.used)
	})
}

func TestSecretsOfAnotherNamespaceAreRefused(t *testing.T) {
	w := newWorld(t, Config{})
	w.runtime.pull = answers(map[string]string{"anonymous": "401"})
	_, err := w.Pull(t.Context(), Request{
		Image: "priv.example/app:1", Pod: credentials.Pod{Namespace: "other", UID: "1"}, Keyring: keyringOf(secret("a", "1")),
	})
	assert.Equal(t, []string{"inspect priv.example/app:1", "pull priv.example/app:1 with anonymous"}, w.runtime.took())
	assert.EqualError(t, err, `image "priv.example/app:1": ErrImagePull: secret "team/secret-a", key "a" could not answer: `+
		`the Secret is of another namespace than the Pod, which is in "other"; without a credential: 401`)
	var foreign *ForeignSecretError
	require.ErrorAs(t, err, &foreign)
	assert.Equal(t, "team", foreign.Origin.Namespace)
}

// A Secret of another namespace does not hide an equal Secret of the Pod's own namespace,
// in any order of the two. A Secret that is copied into many namespaces is tried once.
func TestSecretsOfAnotherNamespaceHideNoSecretOfThePod(t *testing.T) {
	in := func(namespace string) credentials.Secret {
		return dockerSecret(namespace, "regcred", "priv.example", "u")
	}
	var everywhere []credentials.Secret
	for i := range 200 {
		everywhere = append(everywhere, in(fmt.Sprint("web-", i)))
	}
	tests := []struct {
		name     string
		ring     credentials.Keyring
		foreign  int // refused
		fromNode bool
	}{
		{"before", credentials.FromSecrets([]credentials.Secret{in("other"), in("web")}, credentials.Rules{}), 0, false},
		{"behind", credentials.FromSecrets([]credentials.Secret{in("web"), in("other")}, credentials.Rules{}), 0, false},
		{"under another key", credentials.FromSecrets([]credentials.Secret{dockerSecret("other", "s", "priv.example/app", "u"), in("web")}, credentials.Rules{}), 0, false},
		{"joined before", credentials.Join(credentials.FromSecrets([]credentials.Secret{in("other")}, credentials.Rules{}), credentials.FromSecrets([]credentials.Secret{in("web")}, credentials.Rules{})), 1, false},
		{"joined behind", credentials.Join(credentials.FromSecrets([]credentials.Secret{in("web")}, credentials.Rules{}), credentials.FromSecrets([]credentials.Secret{in("other")}, credentials.Rules{})), 0, false},
		{"joined twice", credentials.Join(credentials.FromSecrets([]credentials.Secret{in("a")}, credentials.Rules{}), credentials.FromSecrets([]credentials.Secret{in("b")}, credentials.Rules{}), credentials.FromSecrets([]credentials.Secret{in("web")}, credentials.Rules{})), 1, false},
		{"everywhere", credentials.FromSecrets(append(everywhere, in("web")), credentials.Rules{}), 0, false},
		{"everywhere else", credentials.Join(credentials.FromSecrets(everywhere, credentials.Rules{}), credentials.Static{node("n")}), 1, false},
		{"the node's", credentials.FromSecrets(append(everywhere, in("web")), credentials.Rules{}), 0, true},
	}
	for _, tt := range tests {
		w := newWorld(t, Config{})
		req := Request{Image: "priv.example/app:1", Pod: credentials.Pod{Namespace: "web", UID: "1"}, Keyring: tt.ring}
		if tt.fromNode {
			w = newWorld(t, Config{Keyring: tt.ring})
			req.Keyring = nil
		}
		d, err := w.Explain(t.Context(), req)
		require.NoError(t, err)
		w.runtime.took()
		ordered, refused := 0, 0
		for _, c := range d.Candidates {
			if c.Order > 0 {
				ordered++
			}
			if strings.HasPrefix(c.Why, "refused") {
				refused++
			}
		}
		assert.Equal(t, 1, ordered, tt.name)
		assert.Equal(t, tt.foreign, refused, tt.name)

		w.runtime.pull = func(context.Context, Spec) (string, error) { return "", textError("401") }
		_, err = w.Pull(t.Context(), req)
		attempts := asError(t, err).Attempts
		assert.Len(t, attempts, tt.foreign+1, tt.name)
		last := attempts[tt.foreign].Origin
		assert.Equal(t, []string{"inspect priv.example/app:1", "pull priv.example/app:1 with " + last.Key}, w.runtime.took(), tt.name)
		if last.Kind == credentials.KindSecret {
			assert.Equal(t, "web", last.Namespace, tt.name)
		}
	}
	// Without a Pod no namespace is refused, and the 200 copies are tried once.
	w := newWorld(t, Config{})
	_, err := w.Pull(t.Context(), Request{Image: "priv.example/app:1", Keyring: credentials.FromSecrets(everywhere, credentials.Rules{})})
	require.NoError(t, err)
	assert.Equal(t, []string{"inspect priv.example/app:1", "pull priv.example/app:1 with priv.example"}, w.runtime.took())
}

func TestProgressReachesEachCallThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		w.runtime.pull = func(_ context.Context, spec Spec) (string, error) {
			for i := range 3 {
				time.Sleep(time.Second)
				spec.Progress(Progress{Total: 3, TotalDone: int64(i + 1)})
			}
			return "sha256:1", nil
		}
		var wg sync.WaitGroup
		for i := range 2 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 1500 * time.Millisecond)
				_, err := w.Pull(t.Context(), Request{Image: "a.example/a:1"})
				assert.NoError(t, err)
			})
		}
		wg.Wait()
		by := map[uint64][]EventReason{}
		for _, e := range w.took() {
			by[e.Call] = append(by[e.Call], e.Reason)
		}
		assert.Equal(t, map[uint64][]EventReason{
			1: {EventPulling, EventProgress, EventProgress, EventProgress, EventPulled},
			2: {EventPulling, EventProgress, EventProgress, EventPulled},
		}, by)
	})
}

// If Config.Events panics in one call, only that call panics.
func TestAPanicOfEventsHarmsOnlyItsOwnCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := true
		p, err := New(Config{Runtime: &fakeRuntime{}, Events: func(e Event) {
			if bad && e.Reason == EventPulling {
				bad = false
				panic("events")
			}
		}})
		require.NoError(t, err)
		assert.Panics(t, func() { _, _ = p.Pull(t.Context(), Request{Image: "a.example/a:1", Policy: "Always"}) })
		synctest.Wait()
		_, err = p.Pull(t.Context(), Request{Image: "a.example/a:1", Policy: "Always"})
		assert.NoError(t, err)
		assert.Zero(t, p.pulls.Len())
	})
}
