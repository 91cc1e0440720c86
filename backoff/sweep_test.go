package backoff

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestKeysThatFailOnceAreDropped: keys that fail once and are not used again are dropped.
func TestKeysThatFailOnceAreDropped(t *testing.T) {
	n := 1_000_000
	if testing.Short() {
		n = 10_000
	}
	now := time.Unix(0, 0)
	b := MustNew[int](Config{Now: func() time.Time { return now }})
	for k := range n {
		b.Fail(k)
		if k%10 == 0 {
			b.NotBefore(k, now.Add(time.Second))
		}
	}
	require.Equal(t, n, b.streaks.Len())
	now = now.Add(2*defaultMax + time.Second + 1)
	b.Wait(-1)
	assert.Zero(t, b.streaks.Len(), "one call after the last streak has ended frees all")
}

// TestSweepsBoundTheNumberOfKeys: the number of keys stays near the number of streaks that
// have not ended.
func TestSweepsBoundTheNumberOfKeys(t *testing.T) {
	now := time.Unix(0, 0)
	b := MustNew[int](Config{Now: func() time.Time { return now }})
	most := 0
	for k := range 100_000 {
		b.Fail(k)
		now = now.Add(time.Second)
		most = max(most, b.streaks.Len())
	}
	assert.LessOrEqual(t, most, 2*602, "at most twice 600 s of failures, one a second")
}

// TestRetryAfterKeepsOnlyItsOwnKey: a long Retry-After keeps its own key, and other keys
// are dropped.
func TestRetryAfterKeepsOnlyItsOwnKey(t *testing.T) {
	now := time.Unix(0, 0)
	b := MustNew[int](Config{Now: func() time.Time { return now }})
	b.Fail(0)
	b.NotBefore(0, now.Add(24*time.Hour))
	for k := 1; k < 1000; k++ {
		b.Fail(k)
	}
	now = now.Add(time.Hour)
	b.Wait(-1)
	assert.Equal(t, 1, b.streaks.Len())
	assert.Equal(t, 23*time.Hour, b.Wait(0))
}
