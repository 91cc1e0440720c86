package backoff_test

import (
	"cmp"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/pullkit/pullkit/backoff"
)

func TestAWindowEndsWithTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := backoff.MustNew[string](backoff.Config{})
		assert.Zero(t, b.Wait("k"))
		assert.Equal(t, 10*time.Second, b.Fail("k"))
		time.Sleep(4 * time.Second)
		assert.Equal(t, 6*time.Second, b.Wait("k"))
		time.Sleep(b.Wait("k"))
		assert.Zero(t, b.Wait("k"))
		assert.Equal(t, 20*time.Second, b.Fail("k"))
		assert.Equal(t, backoff.State{Failures: 2, Delay: 20 * time.Second, Until: time.Now().Add(20 * time.Second), Ends: time.Now().Add(10 * time.Minute)}, b.State("k"))
	})
}

// TestAnHourHasSeventeenTries: a caller that tries again at the end of each window makes 17 tries in an
// hour.
func TestAnHourHasSeventeenTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := backoff.MustNew[string](backoff.Config{})
		start, tries := time.Now(), 0
		for time.Since(start) < time.Hour {
			time.Sleep(b.Wait("k"))
			tries++
			b.Fail("k")
		}
		// The first five windows take 310 s together, and each further window takes 300 s.
		assert.Equal(t, 6+11, tries)
	})
}

func TestNotBeforeMakesTheWindowLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := backoff.MustNew[string](backoff.Config{})
		start := time.Now()
		b.Fail("k")
		b.NotBefore("k", start.Add(5*time.Second))
		assert.Equal(t, 10*time.Second, b.Wait("k"), "never shortened")
		b.NotBefore("k", start.Add(time.Minute))
		assert.Equal(t, time.Minute, b.Wait("k"))
		assert.Equal(t, backoff.State{Failures: 1, Delay: 10 * time.Second, Until: start.Add(time.Minute), Ends: start.Add(11 * time.Minute)}, b.State("k"))
		assert.Equal(t, time.Minute, b.Fail("k"), "the server's time still counts")
		assert.Equal(t, 20*time.Second, b.State("k").Delay, "and does not change the next delays")
		b.Reset("k")
		assert.Zero(t, b.Wait("k"))
		assert.Zero(t, b.State("k"))
	})
}

func TestNotBeforeOpensAWindowForANewKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := backoff.MustNew[string](backoff.Config{})
		b.NotBefore("past", time.Now().Add(-time.Second))
		b.NotBefore("past", time.Now())
		assert.Zero(t, b.State("past"))
		until := time.Now().Add(time.Minute)
		b.NotBefore("k", until)
		assert.Equal(t, backoff.State{Until: until, Ends: until.Add(10 * time.Minute)}, b.State("k"))
		time.Sleep(time.Minute)
		assert.Zero(t, b.Wait("k"))
		assert.Equal(t, 10*time.Second, b.Fail("k"), "NotBefore is not a failure")
	})
}

// TestTimeBeforeNotBeforeDoesNotEndTheStreak: the streak does not end in an hour in which
// the key must not be tried.
func TestTimeBeforeNotBeforeDoesNotEndTheStreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := backoff.MustNew[string](backoff.Config{})
		b.Fail("k")
		b.NotBefore("k", time.Now().Add(time.Hour))
		time.Sleep(time.Hour + 600*time.Second)
		assert.Equal(t, 1, b.State("k").Failures)
		time.Sleep(time.Nanosecond)
		assert.Zero(t, b.State("k"))
	})
}

func TestJitterIsRandomByDefault(t *testing.T) {
	b := backoff.MustNew[int](backoff.Config{Jitter: 1})
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

func TestNewRefusesNegativeSettings(t *testing.T) {
	for _, config := range []backoff.Config{{Initial: -1}, {Max: -1}, {Jitter: -0.1}, {Jitter: math.NaN()}, {Jitter: math.Inf(-1)}} {
		b, err := backoff.New[int](config)
		assert.Error(t, err, "%+v", config)
		assert.Nil(t, b)
	}
}

func TestExtremeSettingsStayWithinMax(t *testing.T) {
	for name, config := range map[string]backoff.Config{
		"huge":             {Initial: math.MaxInt64, Max: math.MaxInt64},
		"huge jitter":      {Initial: time.Second, Max: math.MaxInt64, Jitter: math.MaxFloat64},
		"jitter infinite":  {Jitter: math.Inf(1)},
		"rand NaN":         {Jitter: 1, Rand: func() float64 { return math.NaN() }},
		"rand negative":    {Jitter: 1, Rand: func() float64 { return -1e300 }},
		"Initial over Max": {Initial: 2 * time.Hour, Max: time.Hour},
	} {
		b := backoff.MustNew[int](config)
		limit := cmp.Or(config.Max, 5*time.Minute)
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

func TestConcurrentFailuresAreAllCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := backoff.MustNew[int](backoff.Config{})
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
