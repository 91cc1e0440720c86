package oracle

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pullkit/pullkit/backoff"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/util/flowcontrol"
	testclock "k8s.io/utils/clock/testing"
)

// TestBackoffIsClientGos runs random calls on package backoff and on client-go. It leaves out
// what differs on purpose: event times other than now, an initial delay above the longest, and
// the delay of a streak that has ended, which client-go shows until GC.
func TestBackoffIsClientGos(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	calls, failures, ended := 0, 0, 0
	for range 3000 {
		initial := time.Duration(1+r.IntN(20_000)) * time.Millisecond
		limit := initial + time.Duration(r.IntN(300_000))*time.Millisecond
		clock := testclock.NewFakeClock(time.Unix(1_000_000_000, 0))
		theirs := flowcontrol.NewFakeBackOff(initial, limit, clock)
		ours, err := backoff.New[string](backoff.Config{Initial: initial, Max: limit, Now: clock.Now})
		require.NoError(t, err)
		last := map[string]time.Time{}
		for range 400 {
			calls++
			key := fmt.Sprint(r.IntN(5))
			switch r.IntN(12) {
			case 0, 1, 2, 3:
				theirs.Next(key, clock.Now())
				wait := ours.Fail(key)
				last[key] = clock.Now()
				failures++
				require.Equal(t, theirs.Get(key), wait)
			case 4:
				theirs.Reset(key)
				ours.Reset(key)
			case 5:
				theirs.GC()
			case 6, 7: // to the end of the window, or a millisecond before or after it
				clock.Step(max(0, ours.Wait(key)+time.Duration(r.IntN(3)-1)*time.Millisecond))
			case 8: // to the end of the streak, or a millisecond before or after it
				if at, ok := last[key]; ok {
					to := at.Add(2*limit + time.Duration(r.IntN(3)-1)*time.Millisecond)
					clock.Step(max(0, to.Sub(clock.Now())))
				}
			default:
				clock.Step(time.Duration(r.Int64N(int64(limit))))
			}
			state := ours.State(key)
			require.Equal(t, theirs.IsInBackOffSinceUpdate(key, clock.Now()), ours.Wait(key) > 0)
			if state.Failures == 0 && theirs.Get(key) != 0 {
				require.Greater(t, clock.Since(last[key]), 2*limit, "only a streak that has ended is gone")
				ended++
				continue
			}
			require.Equal(t, theirs.Get(key), state.Delay)
			if state.Failures > 0 {
				require.Equal(t, last[key].Add(state.Delay), state.Until)
			}
		}
	}
	t.Logf("%d calls, %d of them failures, no difference; client-go still shows a streak that has ended in %d cases", calls, failures, ended)
	assert.Greater(t, calls, 1_000_000)
	assert.Positive(t, ended)
}
