package backoff_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pullkit/pullkit/backoff"
)

// keyCounts are the numbers of keys to compare: the cost of a call does not grow with them,
// except for memory accesses that miss the caches.
var keyCounts = []int{1, 1_000, 1_000_000}

// filled returns a Backoff in which n keys have failed. Its clock moves at each call, so
// that one round through all keys takes 300 s and none expires.
func filled(n int) *backoff.Backoff[int] {
	now := time.Unix(0, 0)
	step := 5 * time.Minute / time.Duration(n)
	b := backoff.MustNew[int](backoff.Config{Now: func() time.Time { now = now.Add(step); return now }})
	for k := range n {
		b.Fail(k)
	}
	return b
}

func BenchmarkFail(b *testing.B) {
	for _, n := range keyCounts {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			bo, k := filled(n), 0
			b.ReportAllocs()
			for b.Loop() {
				bo.Fail(k)
				if k++; k == n {
					k = 0
				}
			}
		})
	}
}

func BenchmarkWait(b *testing.B) {
	for _, n := range keyCounts {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			now := time.Unix(0, 0)
			bo, k := backoff.MustNew[int](backoff.Config{Now: func() time.Time { return now }}), 0
			for k := range n {
				bo.Fail(k)
			}
			b.ReportAllocs()
			for b.Loop() {
				bo.Wait(k)
				if k++; k == n {
					k = 0
				}
			}
		})
	}
}

// BenchmarkFailOnce fails a new key with each call. The last n keys have not expired, so
// each call adds one entry and drops another.
func BenchmarkFailOnce(b *testing.B) {
	for _, n := range keyCounts {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			now := time.Unix(0, 0)
			step := 10 * time.Minute / time.Duration(n)
			bo, k := backoff.MustNew[int](backoff.Config{Now: func() time.Time { now = now.Add(step); return now }}), 0
			for ; k < 2*n; k++ {
				bo.Fail(k)
			}
			b.ReportAllocs()
			for b.Loop() {
				bo.Fail(k)
				k++
			}
		})
	}
}
