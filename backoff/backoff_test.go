package backoff_test

import (
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/backoff"
)

func TestWaitRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backoff.Backoff[string]
		assert.Zero(t, b.Wait("k"))
		assert.Equal(t, 10*time.Second, b.Fail("k"))
		time.Sleep(4 * time.Second)
		assert.Equal(t, 6*time.Second, b.Wait("k"))
		time.Sleep(b.Wait("k"))
		assert.Zero(t, b.Wait("k"))
		assert.Equal(t, 20*time.Second, b.Fail("k"))
		assert.Equal(t, backoff.State{Failures: 2, Delay: 20 * time.Second, Until: time.Now().Add(20 * time.Second)}, b.State("k"))
	})
}

// TestRetryAlways tries as soon as it may, for an hour.
func TestRetryAlways(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backoff.Backoff[string]
		start, tries := time.Now(), 0
		for time.Since(start) < time.Hour {
			time.Sleep(b.Wait("k"))
			tries++
			b.Fail("k")
		}
		// 310 s for the first five windows, then one try each 300 s.
		assert.Equal(t, 6+11, tries)
	})
}

func TestNotBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backoff.Backoff[string]
		start := time.Now()
		b.Fail("k")
		b.NotBefore("k", start.Add(5*time.Second))
		assert.Equal(t, 10*time.Second, b.Wait("k"), "never shortened")
		b.NotBefore("k", start.Add(time.Minute))
		assert.Equal(t, time.Minute, b.Wait("k"))
		assert.Equal(t, backoff.State{Failures: 1, Delay: 10 * time.Second, Until: start.Add(time.Minute)}, b.State("k"))
		assert.Equal(t, time.Minute, b.Fail("k"), "the server's time still stands")
		assert.Equal(t, 20*time.Second, b.State("k").Delay, "and is no part of the series")
		b.Reset("k")
		assert.Zero(t, b.Wait("k"))
		assert.Zero(t, b.State("k"))
	})
}

func TestNotBeforeOfUnknownKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backoff.Backoff[string]
		b.NotBefore("past", time.Now().Add(-time.Second))
		b.NotBefore("past", time.Now())
		assert.Zero(t, b.State("past"))
		until := time.Now().Add(time.Minute)
		b.NotBefore("k", until)
		assert.Equal(t, backoff.State{Until: until}, b.State("k"))
		time.Sleep(time.Minute)
		assert.Zero(t, b.Wait("k"))
		assert.Equal(t, 10*time.Second, b.Fail("k"), "it was no failure")
	})
}

// TestNotBeforeKeepsStreak: an hour in which nothing may be tried is no hour
// without failures.
func TestNotBeforeKeepsStreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backoff.Backoff[string]
		b.Fail("k")
		b.NotBefore("k", time.Now().Add(time.Hour))
		time.Sleep(time.Hour + 600*time.Second)
		assert.Equal(t, 1, b.State("k").Failures)
		time.Sleep(time.Nanosecond)
		assert.Zero(t, b.State("k"))
	})
}

func TestJitterDefaultRand(t *testing.T) {
	b := backoff.Backoff[int]{Jitter: 1}
	different := map[time.Duration]bool{}
	for k := range 100 {
		b.Fail(k)
		d := b.State(k).Delay
		assert.GreaterOrEqual(t, d, 10*time.Second)
		assert.Less(t, d, 20*time.Second)
		different[d] = true
	}
	assert.Greater(t, len(different), 50)
}

func TestOddFields(t *testing.T) {
	for name, b := range map[string]*backoff.Backoff[int]{
		"huge":            {Initial: math.MaxInt64, Max: math.MaxInt64},
		"huge jitter":     {Initial: time.Second, Max: math.MaxInt64, Jitter: math.MaxFloat64},
		"jitter infinite": {Jitter: math.Inf(1)},
		"jitter NaN":      {Jitter: math.NaN()},
		"rand NaN":        {Jitter: 1, Rand: func() float64 { return math.NaN() }},
		"rand negative":   {Jitter: 1, Rand: func() float64 { return -1e300 }},
		"negative":        {Initial: -1, Max: -1, Jitter: -1},
	} {
		limit := b.Max
		if limit <= 0 {
			limit = backoff.DefaultMax
		}
		previous := time.Duration(0)
		for range 100 {
			b.Fail(0)
			d := b.State(0).Delay
			assert.Positive(t, d, name)
			assert.LessOrEqual(t, d, limit, name)
			assert.GreaterOrEqual(t, d, previous, name)
			previous = d
		}
		assert.Equal(t, limit, previous, name)
	}
}

func TestDelays(t *testing.T) {
	first := func(n int, initial, limit time.Duration) (got []time.Duration) {
		for d := range backoff.Delays(initial, limit) {
			if got = append(got, d); len(got) == n {
				break
			}
		}
		return got
	}
	assert.Equal(t, []time.Duration{1, 2, 4, 5, 5}, first(5, 1, 5))
	assert.Equal(t, []time.Duration{5, 5}, first(2, 7, 5))
	assert.Equal(t, []time.Duration{math.MaxInt64/2 + 1, math.MaxInt64, math.MaxInt64}, first(3, math.MaxInt64/2+1, math.MaxInt64))
	var b backoff.Backoff[int]
	for i, d := range first(100, 0, 0) {
		b.Fail(0)
		require.Equal(t, d, b.State(0).Delay, "failure %d", i)
	}
}

func TestConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backoff.Backoff[int]
		var failures atomic.Int64
		for range 8 {
			go func() {
				for i := range 2000 {
					key := i % 7
					switch i % 5 {
					case 0, 1:
						b.Fail(key)
						failures.Add(1)
					case 2:
						b.Wait(key)
					case 3:
						b.State(key)
					case 4:
						b.NotBefore(key+100, time.Now().Add(time.Hour))
						b.Reset(key + 100)
					}
				}
			}()
		}
		synctest.Wait()
		total := 0
		for key := range 7 {
			total += b.State(key).Failures
		}
		assert.EqualValues(t, failures.Load(), total, "no failure is lost")
	})
}
