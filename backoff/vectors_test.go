package backoff_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/backoff"
)

type sequence struct {
	Name      string   `json:"name"`
	Tags      []string `json:"tags"`
	InitialMs int64    `json:"initial_ms"`
	MaxMs     int64    `json:"max_ms"`
	Ops       []op     `json:"ops"`
}

type op struct {
	Op          string `json:"op"`
	Key         string `json:"key"`
	AtMs        int64  `json:"at_ms"`
	EventMs     *int64 `json:"event_ms"`
	WantBackoff int64  `json:"want_backoff_ms"`
	WantIn      bool   `json:"want_in_backoff"`
	WantUntil   *int64 `json:"want_until_ms"`
}

func load[T any](t *testing.T, file string, want int) []T {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "vectors", file))
	require.NoError(t, err)
	var rows []T
	require.NoError(t, json.Unmarshal(data, &rows))
	require.Len(t, rows, want)
	return rows
}

// An answer is what a Backoff answers after an op of the vectors: delay, end of the window,
// and whether the key is in it.
type answer struct {
	delay, until int64
	in           bool
}

// quirks are the decisions about the rows that show a quirk. changed has the answers that
// differ from the vectors, by the index of the op.
var quirks = map[string]struct {
	decision string
	changed  map[int]answer
}{
	"failures inside the window count too":                                        {"followed", nil},
	"an expired entry still reports its old delay by get, yet is not in back-off": {"a streak that has ended is gone", map[int]answer{2: {}}},
	"a failure reported with an old event time: the window starts at the clock, not at the event": {
		"no event times; the window starts at the clock here, too", nil},
	"expiry of next is judged by the event time": {
		"no event times: a failure 700 s after the last is the first of a streak",
		map[int]answer{1: {10000, 710000, true}, 2: {10000, 710000, true}}},
	"initial above max: the first delay is not capped, the second is": {
		"Max caps every delay", map[int]answer{0: {5000, 5000, true}}},
	"zero initial: delay stays zero": {
		"zero means the default of 10 s",
		map[int]answer{0: {10000, 10000, true}, 1: {20000, 20001, true}, 2: {20000, 20001, true}}},
	"zero max: first delay initial, then zero; expires at once": {
		"zero means the default of 300 s",
		map[int]answer{1: {10000, 10000, true}, 2: {20000, 20001, true}, 3: {40000, 40002, true}}},
	// Not tagged, but its checks show the delay of streaks that have ended; each failure is answered as there.
	"failure every 601 s never climbs": {
		"a streak that has ended is gone", map[int]answer{2: {}, 4: {}, 6: {}}},
}

func TestVectorsSequences(t *testing.T) {
	decided := 0
	for _, s := range load[sequence](t, "sequences.json", 31) {
		t.Run(s.Name, func(t *testing.T) {
			quirk, known := quirks[s.Name]
			require.Equal(t, slices.Contains(s.Tags, "quirk") || s.Name == "failure every 601 s never climbs", known,
				"each quirk has a decision, and no other row has one")
			if known {
				decided++
			}
			run(t, s, quirk.changed)
		})
	}
	assert.Equal(t, len(quirks), decided)
}

func run(t *testing.T, s sequence, changed map[int]answer) {
	start := time.Unix(1_000_000_000, 0)
	at := func(ms int64) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	var now time.Time
	b := backoff.MustNew[string](backoff.Config{
		Initial: time.Duration(s.InitialMs) * time.Millisecond,
		Max:     time.Duration(s.MaxMs) * time.Millisecond,
		Now:     func() time.Time { return now },
	})
	for i, o := range s.Ops {
		now = at(o.AtMs)
		switch o.Op {
		case "fail":
			b.Fail(o.Key)
		case "reset":
			b.Reset(o.Key)
		case "check":
			if o.EventMs != nil {
				now = at(*o.EventMs)
			}
		case "gc": // each call drops what has expired
			b.Wait("a key that is not in the vectors")
			continue
		default:
			require.Fail(t, "unknown op", "%q", o.Op)
		}
		want := answer{delay: o.WantBackoff, in: o.WantIn}
		if o.WantUntil != nil {
			want.until = *o.WantUntil
		}
		if other, ok := changed[i]; ok {
			want = other
		}
		state := b.State(o.Key)
		assert.Equal(t, want.delay, state.Delay.Milliseconds(), "op %d: delay", i)
		assert.Equal(t, want.in, b.Wait(o.Key) > 0, "op %d: in back-off", i)
		if want.delay > 0 {
			assert.Equal(t, at(want.until), state.Until, "op %d: until", i)
			assert.Equal(t, max(0, at(want.until).Sub(now)), b.Wait(o.Key), "op %d: wait", i)
		} else {
			assert.Zero(t, state, "op %d", i)
		}
	}
}

func TestVectorsJitter(t *testing.T) {
	type row struct {
		Name      string  `json:"name"`
		InitialMs int64   `json:"initial_ms"`
		MaxMs     int64   `json:"max_ms"`
		Factor    float64 `json:"max_jitter_factor"`
		Previous  *int64  `json:"previous_backoff_ms"`
		WantMin   int64   `json:"want_min_ms"`
		WantMax   int64   `json:"want_max_ms"`
	}
	for _, v := range load[row](t, "jitter.json", 6) {
		var delays []int64
		for _, draw := range []float64{0, 0.25, 0.5, 0.999999} {
			drawn := 0.0
			b := backoff.MustNew[int](backoff.Config{
				Initial: time.Duration(v.InitialMs) * time.Millisecond,
				Max:     time.Duration(v.MaxMs) * time.Millisecond,
				Jitter:  v.Factor,
				Rand:    func() float64 { return drawn },
			})
			for v.Previous != nil && b.State(0).Delay.Milliseconds() < *v.Previous {
				b.Fail(0)
			}
			drawn = draw
			b.Fail(0)
			got := b.State(0).Delay.Milliseconds()
			assert.GreaterOrEqual(t, got, v.WantMin, "%s, drawn %v", v.Name, draw)
			assert.LessOrEqual(t, got, min(v.WantMax, v.MaxMs), "%s, drawn %v: Max caps the first delay, too", v.Name, draw)
			delays = append(delays, got)
		}
		assert.True(t, slices.IsSorted(delays), "%s: %v", v.Name, delays)
		assert.Equal(t, v.WantMin, delays[0], v.Name)
		assert.InDelta(t, min(v.WantMax, v.MaxMs), delays[3], 1, v.Name)
	}
}
