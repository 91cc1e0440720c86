package backoff

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestSweep: keys that fail once and never come back go, though nobody asks.
func TestSweep(t *testing.T) {
	n := 1_000_000
	if testing.Short() {
		n = 10_000
	}
	now := time.Unix(0, 0)
	b := Backoff[int]{Now: func() time.Time { return now }}
	for k := range n {
		b.Fail(k)
		if k%10 == 0 {
			b.NotBefore(k, now.Add(time.Second))
		}
	}
	require.Len(t, b.keys.byKey, n)
	now = now.Add(2*DefaultMax + time.Second + 1)
	for range n / sweepSteps {
		b.Wait(-1)
	}
	assert.Empty(t, b.keys.byKey)
	assert.Nil(t, b.keys.ring)
	assert.Less(t, b.keys.peak, minPeak, "and the memory of the map with them")
}

// TestSweepKeepsUp: the number of keys stays near that of live streaks.
func TestSweepKeepsUp(t *testing.T) {
	now := time.Unix(0, 0)
	b := Backoff[int]{Now: func() time.Time { return now }}
	most := 0
	for k := range 100_000 {
		b.Fail(k)
		now = now.Add(time.Second)
		most = max(most, len(b.keys.byKey))
	}
	assert.LessOrEqual(t, most, 602, "600 s of failures, one a second")
}

// TestSweepBehindNotBefore: a long Retry-After hides no expired key behind it.
func TestSweepBehindNotBefore(t *testing.T) {
	now := time.Unix(0, 0)
	b := Backoff[int]{Now: func() time.Time { return now }}
	b.Fail(0)
	b.NotBefore(0, now.Add(24*time.Hour))
	for k := 1; k < 1000; k++ {
		b.Fail(k)
	}
	now = now.Add(time.Hour)
	for range 1000 {
		b.Wait(-1)
	}
	assert.Len(t, b.keys.byKey, 1)
	assert.Equal(t, 23*time.Hour, b.Wait(0))
}

// TestRing holds map and ring together through random calls.
func TestRing(t *testing.T) {
	now := time.Unix(0, 0)
	b := Backoff[int]{Now: func() time.Time { return now }}
	for i := range 20_000 {
		key := i * 7919 % 101
		switch i * 31 % 7 {
		case 0, 1, 2:
			b.Fail(key)
		case 3:
			b.Reset(key)
		case 4:
			b.NotBefore(key, now.Add(time.Duration(key)*time.Minute))
		default:
			b.Wait(key)
		}
		now = now.Add(time.Duration(i%13) * time.Second)
		n := 0
		for e := b.keys.ring; e != nil; {
			require.Same(t, e, b.keys.byKey[e.key])
			require.Same(t, e, e.newer.older)
			n++
			if e = e.newer; e == b.keys.ring {
				break
			}
		}
		require.Len(t, b.keys.byKey, n)
	}
}
