package puller

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/backoff"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func platform(os, arch string) ocispec.Platform { return ocispec.Platform{OS: os, Architecture: arch} }

func TestPullWaitSleepsThroughTheWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		begin := time.Now()
		var at []time.Duration
		w.runtime.pull = func(context.Context, Spec) (string, error) {
			at = append(at, time.Since(begin))
			if len(at) == 4 {
				return "sha256:1", nil
			}
			if len(at) == 2 {
				return "", &RetryError{After: time.Minute, Err: errors.New("429")}
			}
			return "", textError("404")
		}
		_, err := w.PullWait(t.Context(), Request{Image: "a.example/a:1"})
		assert.NoError(t, err)
		assert.Equal(t, []time.Duration{0, 10 * time.Second, 70 * time.Second, 110 * time.Second}, at)
		assert.Equal(t, []EventReason{
			EventPulling, EventAttempt, EventFailed, EventBackOff,
			EventPulling, EventAttempt, EventFailed, EventBackOff,
			EventPulling, EventAttempt, EventFailed, EventBackOff,
			EventPulling, EventPulled,
		}, w.reasons())
	})
}

func TestPullWaitWaitsForTheWindowOfAnEarlierCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		w.runtime.pull = answers(map[string]string{"anonymous": "404"})
		_, err := w.Pull(t.Context(), Request{Image: "a.example/a:1"})
		assert.ErrorIs(t, err, ErrImagePull)
		w.runtime.pull = nil
		begin := time.Now()
		time.Sleep(4 * time.Second)
		_, err = w.PullWait(t.Context(), Request{Image: "a.example/a:1"})
		assert.NoError(t, err)
		assert.Equal(t, 10*time.Second, time.Since(begin))
	})
}

func TestPullWaitReturnsFailuresThatAWaitDoesNotRepair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		begin := time.Now()
		_, err := w.PullWait(t.Context(), Request{Image: "UPPER"})
		assert.ErrorIs(t, err, ErrInvalidImageName)
		_, err = w.PullWait(t.Context(), Request{Image: "a.example/a:1", Policy: pullpolicy.Never})
		assert.ErrorIs(t, err, ErrImageNeverPull)
		_, err = w.PullWait(t.Context(), Request{Image: "a.example/a:1", Policy: "Sometimes"})
		assert.Empty(t, asError(t, err).Reason)
		w.runtime.inspectErr = errors.New("broken")
		_, err = w.PullWait(t.Context(), Request{Image: "a.example/a:1"})
		assert.ErrorIs(t, err, ErrImageInspect)
		assert.Zero(t, time.Since(begin))
	})
}

func TestPullWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		w.runtime.pull = answers(map[string]string{"anonymous": "404"})
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		begin := time.Now()
		_, err := w.PullWait(ctx, Request{Image: "a.example/a:1"})
		assert.Equal(t, 15*time.Second, time.Since(begin))
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.EqualError(t, err, `image "a.example/a:1": ErrImagePull: context deadline exceeded; `+
			`the last try ended with ErrImagePull: without a credential: 404`)
		assert.Len(t, w.runtime.took(), 4)
	})
}

// If the context ends while PullWait waits in a window of an earlier call, the error has
// the failure that started the window.
func TestPullWaitNamesTheFailureOfTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{Backoff: backoff.Config{Initial: time.Minute}})
		w.runtime.pull = answers(map[string]string{"anonymous": "404"})
		_, err := w.Pull(t.Context(), Request{Image: "a.example/a:1"})
		assert.ErrorIs(t, err, ErrImagePull)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = w.PullWait(ctx, Request{Image: "a.example/a:1"})
		assert.EqualError(t, err, `image "a.example/a:1": ErrImagePull: context deadline exceeded; the last try ended with ErrImagePull: without a credential: 404`)
		ctx, cancel = context.WithCancel(t.Context())
		cancel()
		_, err = w.PullWait(ctx, Request{Image: "a.example/b:1"})
		assert.EqualError(t, err, `image "a.example/b:1": ErrImagePull: context canceled`)
	})
}

func TestACallThatLeavesTheQueueTakesNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		w.runtime.pull = slow(time.Hour, ok)
		go w.Pull(t.Context(), Request{Image: "a.example/big:1"})
		synctest.Wait()
		left := make(chan time.Duration, 1)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			begin := time.Now()
			_, err := w.Pull(ctx, Request{Image: "a.example/a:1"})
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			left <- time.Since(begin)
		}()
		synctest.Wait()
		begin := time.Now()
		_, err := w.Pull(t.Context(), Request{Image: "a.example/b:1"})
		assert.NoError(t, err)
		assert.Equal(t, 2*time.Hour, time.Since(begin), "the call that left the queue takes no slot")
		assert.Equal(t, time.Second, <-left)
		assert.NotContains(t, w.runtime.took(), "pull a.example/a:1 with anonymous")
	})
}

func TestNothingIsAskedAfterTheContextHasEnded(t *testing.T) {
	w := newWorld(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := w.Pull(ctx, Request{Image: "a.example/a:1"})
	assert.ErrorIs(t, err, context.Canceled)
	assert.Empty(t, w.runtime.took())
	assert.Empty(t, w.took())
}

// The last failure and the secrets that failed are remembered until the streak ends, by
// the clock of the back-off.
func TestAFailureIsRememberedAsLongAsItsStreak(t *testing.T) {
	now := time.Unix(0, 0)
	config := Config{Backoff: backoff.Config{Max: time.Minute, Now: func() time.Time { return now }}}
	w, err := newBackoffWindows(&config)
	require.NoError(t, err)
	key, secrets, failure := backoffKey{image: "a"}, &fingerprint{pod: 1}, &Error{Image: "a"}
	w.fail(key, secrets, failure, 0)
	assert.Same(t, failure, w.state(key, secrets).previous)
	assert.True(t, w.state(key, &fingerprint{pod: 2}).repaired)
	now = now.Add(2*time.Minute - 1)
	assert.Equal(t, 1, w.state(key, secrets).Failures)
	assert.Same(t, failure, w.state(key, secrets).previous)
	now = now.Add(2)
	assert.Equal(t, backoffState{}, w.state(key, secrets))
}

func TestRetryAfterCountsByTheClockOfTheBackOff(t *testing.T) {
	now := time.Unix(0, 0)
	config := Config{Backoff: backoff.Config{Now: func() time.Time { return now }}}
	w, err := newBackoffWindows(&config)
	require.NoError(t, err)
	assert.Equal(t, time.Hour, w.fail(backoffKey{image: "a"}, nil, &Error{}, time.Hour))
}
