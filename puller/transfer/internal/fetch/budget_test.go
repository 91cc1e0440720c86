package fetch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// For each reason to add a connection or not to add one, the table has a sample that
// differs from the first sample in that reason.
func TestEachReasonDecidesAboutAConnection(t *testing.T) {
	const ms = time.Millisecond
	// One blob comes over one connection and its hash waits nearly all the time.
	slowNetwork := sample{elapsed: 40 * ms, blobs: 1, conns: 1, limit: 8, processors: 2, starved: 36 * ms, rate: 10e6}
	for name, tt := range map[string]struct {
		change func(*sample)
		want   decision
	}{
		"the network is slow":                         {func(*sample) {}, addConn},
		"not measured long enough":                    {func(s *sample) { s.elapsed = 39 * ms }, keepMeasuring},
		"a window that has not begun":                 {func(s *sample) { s.elapsed = -20 * ms }, keepMeasuring},
		"a connection is being opened":                {func(s *sample) { s.opening = true }, keepMeasuring},
		"no blob is fetched":                          {func(s *sample) { s.blobs = 0 }, keepMeasuring},
		"the hash hardly waits":                       {func(s *sample) { s.starved = 9 * ms }, keepMeasuring},
		"the hash hardly waits, for long":             {func(s *sample) { s.elapsed, s.starved = 160*ms, 39*ms }, restartMeasuring},
		"the hashes of four blobs wait, all in all":   {func(s *sample) { s.blobs, s.starved = 4, 4*36*ms }, addConn},
		"the hash of one blob of four waits":          {func(s *sample) { s.blobs = 4 }, keepMeasuring},
		"the hash waits half of a short time":         {func(s *sample) { s.starved = 20 * ms }, keepMeasuring},
		"the hash waits half of a longer time":        {func(s *sample) { s.elapsed, s.starved = 80*ms, 40*ms }, addConn},
		"processors are busy":                         {func(s *sample) { s.hashed = 61 * ms }, keepMeasuring},
		"processors are busy, for long":               {func(s *sample) { s.elapsed, s.starved, s.hashed = 160*ms, 150*ms, 241*ms }, restartMeasuring},
		"processors are not all busy":                 {func(s *sample) { s.elapsed, s.starved, s.hashed = 160*ms, 150*ms, 240*ms }, addConn},
		"connections are busy":                        {func(s *sample) { s.busy = 6 * ms }, keepMeasuring},
		"connections are busy, for long":              {func(s *sample) { s.elapsed, s.starved, s.busy = 160*ms, 150*ms, 21*ms }, restartMeasuring},
		"connections wait for the network":            {func(s *sample) { s.busy = 5 * ms }, addConn},
		"one of two connections is busy":              {func(s *sample) { s.conns, s.busy = 2, 10*ms }, addConn},
		"the link is fast":                            {func(s *sample) { s.elapsed, s.starved, s.hashed = 159*ms, 110*ms, 40*ms }, keepMeasuring},
		"the link is fast, for long":                  {func(s *sample) { s.elapsed, s.starved, s.hashed = 160*ms, 110*ms, 41*ms }, addConn},
		"all connections together are fast":           {func(s *sample) { s.starved, s.conns, s.hashed = 29*ms, 2, 11*ms }, addConn},
		"the disk is slow":                            {func(s *sample) { s.writing = 14 * ms }, keepMeasuring},
		"the disk is slow, for long":                  {func(s *sample) { s.elapsed, s.starved, s.writing = 160*ms, 150*ms, 54*ms }, restartMeasuring},
		"the disk is fast enough":                     {func(s *sample) { s.writing = 13 * ms }, addConn},
		"the disk is fast enough for two connections": {func(s *sample) { s.conns, s.writing = 2, 26*ms }, addConn},
		"all connections are open":                    {func(s *sample) { s.conns = 8 }, restartMeasuring},
		"the last ones brought nothing":               {func(s *sample) { s.held = true }, restartMeasuring},
		"the second brought as much":                  {func(s *sample) { s.conns, s.bestRate = 2, 5e6 }, addConn},
		"the second brought 15 percent":               {func(s *sample) { s.conns, s.bestRate, s.rate = 2, 10e6, 11.5e6 }, addConn},
		"the second brought less":                     {func(s *sample) { s.conns, s.bestRate, s.rate = 2, 10e6, 11.4e6 }, keepMeasuring},
		"the second brought less, for long":           {func(s *sample) { s.elapsed, s.starved, s.conns, s.bestRate = 200*ms, 190*ms, 2, 10e6 }, stopAdding},
		"the second brought less, not for long":       {func(s *sample) { s.elapsed, s.starved, s.conns, s.bestRate = 199*ms, 190*ms, 2, 10e6 }, keepMeasuring},
		"the sixth brought five percent":              {func(s *sample) { s.conns, s.bestRate, s.rate = 6, 10e6, 10.5e6 }, addConn},
	} {
		s := slowNetwork
		tt.change(&s)
		assert.Equal(t, tt.want, decide(s), name)
	}
}

// Connections are added as long as the hash waits and each added connection brings more.
func TestConnectionsAreAddedWhileTheyBringMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(8, newHashLimit())
		require.True(t, b.acquireFirst())
		require.False(t, b.acquire(), "one connection to begin with")
		writing := time.Millisecond // of 10
		write := func(conns int) {
			for range conns {
				b.writeBegins()
			}
			time.Sleep(writing)
			for range conns {
				b.writeEnds()
			}
		}
		step := func(conns int, perConn int64) (granted bool) {
			b.received(0, true, 0, 0)
			time.Sleep(settle)
			for range 20 {
				write(conns)
				b.received(perConn*int64(conns), false, 0, time.Millisecond)
				time.Sleep(10*time.Millisecond - writing)
				if b.waited(9 * time.Millisecond) {
					return true
				}
			}
			return false
		}
		for conns := 1; conns < 8; conns++ {
			require.True(t, step(conns, 600_000), "%d conns", conns)
			require.True(t, b.acquire())
		}
		assert.False(t, step(8, 600_000), "the limit is reached")
		b.release(7)
		writing = 5 * time.Millisecond
		assert.False(t, step(1, 600_000), "the disk is as slow as the network")
		writing = time.Millisecond

		require.True(t, step(1, 600_000))
		require.True(t, b.acquire())
		assert.False(t, step(2, 300_000), "the second brought nothing")
		assert.True(t, step(2, 300_000), "but the rate before may have been measured too high")
		require.True(t, b.acquire())
		assert.False(t, step(3, 200_000))
		assert.False(t, step(3, 200_000), "the second and the third brought nothing, so no more are added")
		assert.False(t, step(3, 400_000), "not even for a better rate, until holdFor is over")
		time.Sleep(holdFor)
		assert.True(t, step(3, 400_000))
		b.release(2)
		b.releaseFirst()
		require.True(t, b.acquireFirst())
		assert.False(t, b.acquire(), "after the last connection ended, there is one connection to begin with again")

		// A connection waits for bytes that take more than twice as long as their hash. One
		// that is busy for more than an eighth of the time gets no help.
		b.hashing.bytes.Store(1 << 20)
		b.hashing.nanos.Store(1 << 20)
		for name, tt := range map[string]struct {
			n         int64
			before, d time.Duration
			more      bool
		}{
			"slow bytes":              {4_900_000, 0, 10 * time.Millisecond, true},
			"fast bytes":              {5_100_000, 0, 10 * time.Millisecond, false},
			"slow bytes after a wait": {1_000_000, 1300 * time.Microsecond, 8700 * time.Microsecond, false},
		} {
			b.received(0, true, 0, 0)
			granted := false
			for range 20 {
				time.Sleep(10 * time.Millisecond)
				b.received(tt.n, false, tt.before, tt.d)
				granted = granted || b.waited(9*time.Millisecond)
			}
			assert.Equal(t, tt.more, granted, name)
		}
		b.releaseFirst()
		require.True(t, b.acquireFirst())

		b.received(0, true, 0, 0)
		for range 50 {
			time.Sleep(10 * time.Millisecond)
			b.received(10<<20, false, 0, time.Millisecond)
			assert.False(t, b.waited(time.Millisecond), "the hash is the slower one")
		}
	})
}
