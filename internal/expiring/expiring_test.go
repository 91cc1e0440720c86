package expiring

import (
	"fmt"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func in(d time.Duration) time.Time { return time.Now().Add(d) }

func TestEntryIsGoneAtItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m Map[string, int]
		assert.True(t, m.Put("minute", 1, in(time.Minute)))
		assert.True(t, m.Put("ever", 2, time.Time{}))
		time.Sleep(time.Minute - 1)
		v, ok := m.Get("minute")
		assert.Equal(t, 1, v)
		assert.True(t, ok)
		time.Sleep(time.Nanosecond)
		v, ok = m.Get("minute")
		assert.Zero(t, v)
		assert.False(t, ok, "an entry expires exactly at its time")
		assert.Equal(t, map[string]int{"ever": 2}, maps.Collect(m.All()))
		time.Sleep(1000 * time.Hour)
		_, ok = m.Get("ever")
		assert.True(t, ok)
	})
}

func TestPutReportsWhetherTheKeyIsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m Map[string, int]
		assert.True(t, m.Put("a", 1, in(time.Minute)))
		assert.False(t, m.Put("a", 2, in(2*time.Minute)))
		v, _ := m.Get("a")
		assert.Equal(t, 2, v)
		time.Sleep(time.Minute)
		_, ok := m.Get("a")
		assert.True(t, ok, "the second Put has set another time")
		time.Sleep(time.Minute)
		assert.True(t, m.Put("a", 3, in(time.Minute)), "the earlier entry has expired")
		m.Delete("a")
		m.Delete("unknown")
		assert.True(t, m.Put("a", 4, in(time.Minute)))
	})
}

func TestLeastRecentlyUsedMakesRoom(t *testing.T) {
	m := Map[string, int]{Max: 3}
	for i, k := range []string{"a", "b", "c"} {
		m.Put(k, i, time.Time{})
	}
	m.Get("a")
	m.Put("b", 10, time.Time{})
	for range m.All() { // a loop is not a use, otherwise "c" would be as new as the others
	}
	m.Put("d", 3, time.Time{})
	assert.Equal(t, map[string]int{"a": 0, "b": 10, "d": 3}, maps.Collect(m.All()))
	m.Put("e", 4, time.Time{})
	m.Put("f", 5, time.Time{})
	assert.Equal(t, map[string]int{"d": 3, "e": 4, "f": 5}, maps.Collect(m.All()))
}

func TestExpiredEntriesMakeRoomFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := Map[int, string]{Max: 4}
		m.Put(1, "stays", time.Time{})
		for k := 2; k <= 4; k++ {
			m.Put(k, "expires", in(time.Second))
		}
		time.Sleep(time.Second)
		m.table.puts = len(m.table.entries) // the next Put looks for expired entries
		m.Put(5, "new", time.Time{})
		assert.Equal(t, map[int]string{1: "stays", 5: "new"}, maps.Collect(m.All()))
	})
}

func TestMapStaysWithinMaxAndFreesWhatExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, limit := range []int{1, 2, 100, 0} {
			m := Map[int, int]{Max: limit}
			most := limit
			if most == 0 {
				most = defaultMax
			}
			for k := range 2*most + 10 {
				m.Put(k, k, in(time.Minute))
				assert.LessOrEqual(t, len(m.table.entries), most)
				assert.Equal(t, len(m.table.entries), m.table.order.Len())
			}
			assert.Len(t, m.table.entries, most)
			time.Sleep(time.Minute)
			for range 2 * most { // Puts of new keys; each expires at once
				m.Put(-1, 0, in(-1))
			}
			assert.LessOrEqual(t, len(m.table.entries), 1, "limit %d", limit)
		}
	})
}

func TestExpiredEntryIsFreedInTime(t *testing.T) {
	for name, use := range map[string]func(m *Map[int, int]){
		"Get":              func(m *Map[int, int]) { m.Get(-1) },
		"Put of a new key": func(m *Map[int, int]) { m.Put(-1, 0, time.Time{}) },
		"Put of a key":     func(m *Map[int, int]) { m.Put(0, 0, time.Time{}) },
		"as many new keys": func(m *Map[int, int]) {
			for k := range 20 {
				m.Put(100+k, 0, time.Time{})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var m Map[int, int]
				m.Put(0, 0, time.Time{})
				for k := 1; k < 20; k++ {
					m.Put(k, k, in(10*time.Second))
				}
				time.Sleep(10 * time.Second)
				if name != "as many new keys" {
					time.Sleep(time.Minute)
				}
				use(&m)
				for k := 1; k < 20; k++ {
					assert.NotContains(t, m.table.entries, k)
				}
				assert.Contains(t, m.table.entries, 0)
			})
		})
	}
}

func TestLoopMayStopAndChangeTheMap(t *testing.T) {
	var m Map[int, int]
	for k := range 5 {
		m.Put(k, k, time.Time{})
	}
	seen := 0
	for k := range m.All() {
		m.Delete(k)
		if seen++; seen == 3 {
			break
		}
	}
	assert.Equal(t, map[int]int{3: 3, 4: 4}, maps.Collect(m.All()))
}

func TestMapIsSafeForConcurrentUse(t *testing.T) {
	m := Map[string, int]{Max: 16}
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 200 {
				k := fmt.Sprint(i % (16 + g))
				m.Put(k, i, in(time.Hour))
				m.Get(k)
				for range m.All() {
				}
				m.Delete(k)
			}
		})
	}
	all.Wait()
	assert.Empty(t, maps.Collect(m.All()))
}

func TestNegativeMaxIsNoLimit(t *testing.T) {
	m := Map[int, int]{Max: -1}
	for k := range 2 * defaultMax {
		m.Put(k, k, time.Time{})
	}
	assert.Equal(t, 2*defaultMax, m.Len())
	v, ok := m.Get(0)
	assert.Zero(t, v)
	assert.True(t, ok)
}

func TestEntriesExpireByTheGivenClock(t *testing.T) {
	now := time.Unix(0, 0)
	m := Map[int, int]{Now: func() time.Time { return now }}
	m.Put(1, 1, now.Add(time.Hour))
	_, ok := m.Get(1)
	assert.True(t, ok, "the entry has expired by the clock of the system")
	now = now.Add(time.Hour)
	_, ok = m.Get(1)
	assert.False(t, ok)
}

// TestMapWhoseEntriesExpiredBecomesSmaller holds that the memory of many entries is freed,
// and that the entries that stay are still found.
func TestMapWhoseEntriesExpiredBecomesSmaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := Map[int, int]{Max: -1}
		m.Put(-1, 1, time.Time{})
		for k := range 100_000 {
			m.Put(k, k, in(time.Minute))
		}
		assert.Equal(t, 100_001, m.table.largest)
		time.Sleep(time.Minute)
		v, ok := m.Get(-1)
		assert.Equal(t, 1, v)
		assert.True(t, ok)
		assert.Equal(t, 1, m.table.largest)
		assert.Equal(t, 1, m.Len())
		assert.True(t, m.Put(5, 5, time.Time{}))
		assert.Equal(t, map[int]int{-1: 1, 5: 5}, maps.Collect(m.All()))
	})
}
