package backoff_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/backoff"
)

// A naive is a second, simple implementation: it keeps every failure, and computes each
// answer from all of them.
type naive struct {
	initial, limit time.Duration
	fails          map[byte][]time.Time
	notBefore      map[byte]time.Time
}

func (n *naive) streak(key byte, now time.Time) (count int, delay time.Duration, until, ends time.Time) {
	var last time.Time
	for _, at := range n.fails[key] {
		count, last = count+1, at
		delay = min(max(delay*2, min(n.initial, n.limit)), n.limit)
		until = at.Add(delay)
	}
	if t := n.notBefore[key]; t.After(until) {
		until = t
	}
	if t := n.notBefore[key]; t.After(last) {
		last = t
	}
	if now.Sub(last) > 2*n.limit {
		delete(n.fails, key)
		delete(n.notBefore, key)
		return 0, 0, time.Time{}, time.Time{}
	}
	return count, delay, until, last.Add(2 * n.limit)
}

// FuzzModel: a Backoff and a naive give the same answers to the calls that the fuzzer's
// bytes describe.
func FuzzModel(f *testing.F) {
	f.Add(int16(10), int16(300), []byte("0a0a1a2b0b3c4a0a9z0a"))
	f.Add(int16(300), int16(10), []byte("\x00\xff\x00\xff\x04\x80\x00\x01"))
	f.Add(int16(1), int16(1), []byte("00000000"))
	f.Fuzz(func(t *testing.T, initial, limit int16, calls []byte) {
		if initial <= 0 || limit <= 0 {
			t.Skip("these mean the defaults")
		}
		now := time.Unix(1<<30, 0)
		n := naive{time.Duration(initial) * time.Second, time.Duration(limit) * time.Second, map[byte][]time.Time{}, map[byte]time.Time{}}
		b := backoff.MustNew[byte](backoff.Config{Initial: n.initial, Max: n.limit, Now: func() time.Time { return now }})
		for len(calls) >= 2 {
			op, arg := calls[0]%6, calls[1]
			key := arg % 3
			calls = calls[2:]
			_, _, until, _ := n.streak(key, now)
			switch op {
			case 0, 1:
				b.Fail(key)
				n.fails[key] = append(n.fails[key], now)
			case 2:
				b.Reset(key)
				delete(n.fails, key)
				delete(n.notBefore, key)
			case 3:
				to := now.Add(time.Duration(arg)*7*time.Second - time.Minute)
				b.NotBefore(key, to)
				if to.After(now) || !until.IsZero() {
					if to.After(n.notBefore[key]) {
						n.notBefore[key] = to
					}
				}
			case 4:
				now = now.Add(time.Duration(arg) * time.Duration(arg) * time.Second)
			case 5:
				now = now.Add(time.Duration(arg) * time.Millisecond)
			}
			count, delay, until, ends := n.streak(key, now)
			if until.IsZero() {
				ends = time.Time{}
			}
			require.Equal(t, backoff.State{Failures: count, Delay: delay, Until: until, Ends: ends}, b.State(key))
			require.Equal(t, max(0, until.Sub(now)), b.Wait(key))
		}
	})
}
