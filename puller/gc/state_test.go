package gc

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/disk/disktest"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func stateOf(t *testing.T, dir string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, stateName))
	require.NoError(t, err)
	return string(data)
}

// The last use survives a restart, and the uses that another process has written count
// too.
func TestLastUseSurvivesARestart(t *testing.T) {
	n := newNode()
	n.free = 500
	cfg := n.config()
	cfg.StateDir = filepath.Join(t.TempDir(), "state")
	first := start(t, cfg)
	for i := range 3 {
		n.add(fmt.Sprint("i", i), 60)
		n.pass(t, first, time.Hour)
	}
	other := start(t, cfg)
	n.now = n.now.Add(time.Hour)
	other.Used("i0")
	require.NoError(t, other.Close())
	require.NoError(t, first.Close())
	assert.JSONEq(t, `{"version":1,"images":{
		"i0":{"firstSeen":"2026-11-29T13:00:00Z","lastUsed":"2026-11-29T16:00:00Z"},
		"i1":{"firstSeen":"2026-11-29T14:00:00Z"},
		"i2":{"firstSeen":"2026-11-29T15:00:00Z"}}}`, stateOf(t, cfg.StateDir))

	n.now, n.free = n.now.Add(time.Hour), 100
	_, err := start(t, cfg).Round(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"i1", "i2"}, n.removed)
	assert.JSONEq(t, `{"version":1,"images":{"i0":{"firstSeen":"2026-11-29T13:00:00Z","lastUsed":"2026-11-29T16:00:00Z"}}}`, stateOf(t, cfg.StateDir))
}

// Without the file every image is new, so no image is removed.
func TestWithoutTheFileEveryImageIsNew(t *testing.T) {
	n := newNode()
	cfg := n.config()
	cfg.StateDir, cfg.MaxAge = t.TempDir(), time.Hour
	n.add("i0", 900)
	n.free = 0
	_, err := start(t, cfg).Round(t.Context())
	assert.ErrorIs(t, err, ErrNotEnough)
	assert.Empty(t, n.removed)
}

// With a file that cannot be read, a round removes nothing and does not change the file.
func TestADamagedFileRemovesNothing(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, stateName)
	old := `{"firstSeen":"2001-01-01T00:00:00Z"}`
	n := newNode()
	cfg := n.config()
	cfg.StateDir, cfg.MaxAge, cfg.MinAge = dir, time.Hour, -1
	n.add("i0", 900)
	n.free = 0
	for what, bad := range map[string]string{
		"empty": "", "zeros": strings.Repeat("\x00", 100), "cut": `{"version":1,"images":{"i0":` + old, "null": "null", "a list": "[]",
		"no version": `{"images":{"i0":` + old + `}}`, "later version": `{"version":2,"images":{}}`, "twice": `{"version":1,"images":{"i0":` + old + `,"i0":` + old + `}}`,
		"case": `{"version":1,"Images":{}}`, "two documents": `{"version":1,"images":{}}{}`, "no first": `{"version":1,"images":{"i0":{}}}`,
		"null image": `{"version":1,"images":{"i0":null}}`, "bad time": `{"version":1,"images":{"i0":{"firstSeen":"yesterday"}}}`,
		"zero time": `{"version":1,"images":{"i0":{"firstSeen":"0001-01-01T00:00:00Z"}}}`, "number": `{"version":1,"images":{"i0":{"firstSeen":1}}}`,
		"long ID": `{"version":1,"images":{"` + strings.Repeat("i", maxIDSize+1) + `":` + old + `}}`, "large": strings.Repeat(" ", maxStateSize+1),
		"deep": `{"version":1,"x":` + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + `}`,
	} {
		require.NoError(t, os.WriteFile(name, []byte(bad), 0o644))
		c, err := New(cfg)
		require.NoError(t, err)
		c.Used("i1")
		_, err = c.Round(t.Context())
		require.ErrorContains(t, err, "gc: the state file ", what)
		assert.ErrorContains(t, err, name, what)
		assert.ErrorContains(t, err, "move it away", what)
		assert.NotContains(t, err.Error(), "2001", "the file is not quoted")
		_, err = c.Explain(t.Context())
		assert.Error(t, err, what)
		assert.Error(t, c.Close(), what)
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		assert.Equal(t, len(bad), len(data), what)
	}
	assert.Empty(t, n.removed)
	require.NoError(t, os.Remove(name))
	require.NoError(t, os.Mkdir(name, 0o755))
	_, err := start(t, cfg).Round(t.Context())
	assert.ErrorIs(t, err, disk.ErrNotRegular)
	assert.Empty(t, n.removed)
}

// Times in the future count as now: such an image is young, and grows old.
func TestTimesInTheFutureCountAsNow(t *testing.T) {
	n := newNode()
	records, err := parseState([]byte(`{"version":1,"later":[1],"images":{"i0":{"firstSeen":"2999-01-01T00:00:00Z","lastUsed":"2999-01-01T00:00:00Z","later":true}}}`), n.now)
	require.NoError(t, err)
	assert.Equal(t, map[string]record{"i0": {n.now, n.now}}, records)
}

// An ID that is not valid UTF-8 or is too long is not written, and does not damage the
// file.
func TestIDsThatCannotBeWrittenAreLeftOut(t *testing.T) {
	n := newNode()
	cfg := n.config()
	cfg.StateDir = t.TempDir()
	n.free = 900
	c := start(t, cfg)
	for _, id := range []string{"\xff", "\xfe", strings.Repeat("i", maxIDSize+1), "", "i\"0\n"} {
		n.add(id, 1)
	}
	n.pass(t, c, time.Minute)
	n.pass(t, c, time.Hour)
	assert.JSONEq(t, `{"version":1,"images":{"":{"firstSeen":"2026-11-29T12:01:00Z"},"i\"0\n":{"firstSeen":"2026-11-29T12:01:00Z"}}}`, stateOf(t, cfg.StateDir))
}

// A countedFS counts how often the state file is replaced.
type countedFS struct {
	disk.FS
	writes *int
}

func (f countedFS) Rename(from, to string) error {
	*f.writes++
	return f.FS.Rename(from, to)
}

// The file is written at most once a minute, however often images are used.
func TestTheFileIsWrittenAtMostOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.free = 900
		cfg := n.config()
		cfg.StateDir, cfg.Now = "mem", time.Now
		c, err := New(cfg)
		require.NoError(t, err)
		writes, mem := 0, disktest.New()
		c.state.open = func() (disk.FS, error) { return countedFS{mem.Process(), &writes}, nil }
		for i := range 10_000 {
			c.Used(fmt.Sprint("i", i%7))
			time.Sleep(60 * time.Millisecond) // ten minutes in all
		}
		synctest.Wait()
		assert.InDelta(t, 10, writes, 1)
		time.Sleep(2 * time.Minute)
		writes = 0
		for range 20 {
			c.Used("i0")
			_, err := c.Round(t.Context())
			require.NoError(t, err)
			time.Sleep(time.Second)
		}
		assert.LessOrEqual(t, writes, 2, "the first round forgets the IDs of which the store has no image")
		c.Used("i1")
		require.NoError(t, c.Close())
		require.NoError(t, c.Close())
		saved, err := c.state.read(mem.Process(), time.Now())
		require.NoError(t, err)
		assert.Contains(t, saved, "i1", "Close writes what is new")
		c.Used("i2")
		time.Sleep(5 * time.Minute)
	})
}

// Each operation on the disk fails once, or the power is lost at it. The file then has its
// old or its new content, and the next round succeeds.
func TestAFaultAtEachOperationLeavesAWholeFile(t *testing.T) {
	for _, power := range []bool{false, true} {
		for k := 0; ; k++ {
			n := newNode()
			n.free = 900
			n.add("i0", 1)
			cfg := n.config()
			cfg.StateDir = "mem"
			mem := disktest.New()
			c, err := New(cfg)
			require.NoError(t, err)
			c.state.open = func() (disk.FS, error) { return mem.Process(), nil }
			n.pass(t, c, time.Second)
			c.Used("i0")
			n.now = n.now.Add(time.Hour)
			ops, hit := 0, false
			c.state.open = func() (disk.FS, error) {
				return disktest.Before(mem.Process(), func(op, _ string) error {
					if ops++; ops-1 == k || power && ops-1 > k {
						hit = true
						return syscall.EIO
					}
					return nil
				}), nil
			}
			_, err = c.Round(t.Context())
			if !hit {
				break
			}
			if err != nil {
				assert.ErrorIs(t, err, syscall.EIO)
			}
			for seed := range uint64(4) {
				after := mem
				if power {
					after = mem.Crash(disktest.KeepSome(seed))
				}
				next, err := New(cfg)
				require.NoError(t, err)
				next.state.open = func() (disk.FS, error) { return after.Process(), nil }
				saved, err := next.state.read(after.Process(), n.now)
				require.NoError(t, err, "operation %d", k)
				assert.Equal(t, time.Date(2026, 11, 29, 12, 0, 1, 0, time.UTC), saved["i0"].first, "operation %d", k)
				_, err = next.Round(t.Context())
				require.NoError(t, err)
			}
		}
	}
}

// Images are removed even if the state file cannot be written, because the disk is full.
func TestAFullDiskIsCollected(t *testing.T) {
	n := newNode()
	n.add("i0", 300)
	n.free = 900
	cfg := n.config()
	cfg.StateDir = "mem"
	c, err := New(cfg)
	require.NoError(t, err)
	mem, full := disktest.New(), false
	c.state.open = func() (disk.FS, error) {
		return disktest.Before(mem.Process(), func(op, _ string) error {
			if full && op == "write" {
				return content.ErrNoSpace
			}
			return nil
		}), nil
	}
	n.pass(t, c, time.Second)
	full = true
	n.now, n.free = n.now.Add(time.Hour), 0
	report, err := c.Round(t.Context())
	assert.ErrorIs(t, err, content.ErrNoSpace, "the file was not written")
	assert.Equal(t, []string{"i0"}, idsOf(report))
	full = false
	n.pass(t, c, time.Minute)
	saved, err := c.state.read(mem.Process(), n.now)
	require.NoError(t, err)
	assert.NotContains(t, saved, "i0")
	require.NoError(t, c.Close())
}

// A process waits for the round of another process, until its context ends.
func TestProcessesTakeTurns(t *testing.T) {
	n := newNode()
	n.free = 900
	cfg := n.config()
	cfg.StateDir = t.TempDir()
	one, two := start(t, cfg), start(t, cfg)
	inside := 0
	n.onList = func() {
		inside++
		if inside > 1 {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := two.Round(ctx)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.ErrorContains(t, err, "another process")
		assert.Equal(t, 1, inside, "the process that waited has not listed images")
	}
	_, err := one.Round(t.Context())
	require.NoError(t, err)
	_, err = two.Round(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 2, inside)
}

// FuzzState holds that records that were read can be written and read again, and that no
// time is after now.
func FuzzState(f *testing.F) {
	f.Add([]byte(`{"version":1,"images":{"sha256:0":{"firstSeen":"2026-11-29T12:00:00Z","lastUsed":"2999-11-29T12:00:00.5+01:00"}}}`))
	f.Add([]byte(`{"version":1,"images":{"\ud800":{"firstSeen":"1999-11-29T12:00:00Z"}}}`))
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, data []byte) {
		records, err := parseState(data, now)
		if err != nil {
			return
		}
		for id, rec := range records {
			if rec.first.IsZero() || rec.first.After(now) || rec.used.After(now) {
				t.Fatalf("%q: %v", id, rec)
			}
		}
		mem := disktest.New()
		s := &stateDir{dir: "mem", open: func() (disk.FS, error) { return mem.Process(), nil }}
		if err := s.write(mem.Process(), records); err != nil {
			t.Fatal(err)
		}
		again, err := s.read(mem.Process(), now)
		if err != nil {
			t.Fatal(err)
		}
		for id, rec := range records {
			if got := again[id]; len(id) <= maxIDSize && (!got.first.Equal(rec.first) || !got.used.Equal(rec.used)) {
				t.Fatalf("%q: %v, then %v", id, rec, got)
			}
		}
	})
}

// If a timer has started a write, Close waits for its end, so that a program can exit
// after Close.
func TestCloseWaitsForTheWriteThatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		cfg := n.config()
		cfg.StateDir, cfg.Now = "mem", time.Now
		c, err := New(cfg)
		require.NoError(t, err)
		mem, renaming := disktest.New(), make(chan struct{})
		c.state.open = func() (disk.FS, error) { return slowFS{mem.Process(), renaming}, nil }
		c.Used("i0")
		synctest.Wait() // the write is at its rename
		var closed atomic.Int64
		for range 3 {
			go func() {
				assert.NoError(t, c.Close())
				closed.Add(1)
			}()
		}
		synctest.Wait()
		assert.Zero(t, closed.Load())
		close(renaming)
		synctest.Wait()
		assert.EqualValues(t, 3, closed.Load())
		saved, err := c.state.read(mem.Process(), time.Now())
		require.NoError(t, err)
		assert.Contains(t, saved, "i0")
	})
}

// A round that does not end while Close waits writes the last uses at its end. So does a round
// after Close.
func TestARoundWritesWhatCloseCouldNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.free = 900
		n.add("i0", 1)
		n.add("i1", 1)
		cfg := n.config()
		cfg.StateDir, cfg.Now, cfg.InUse = "mem", time.Now, nil
		c, err := New(cfg)
		require.NoError(t, err)
		mem := disktest.New()
		c.state.open = func() (disk.FS, error) { return mem.Process(), nil }
		c.Used("i0")
		synctest.Wait() // this is written at once, and the next uses a minute later
		used := time.Now()
		c.Used("i1")
		end := make(chan struct{})
		n.onList = func() { <-end }
		go func() {
			_, err := c.Round(t.Context())
			assert.NoError(t, err)
		}()
		synctest.Wait()
		require.ErrorIs(t, c.Close(), context.DeadlineExceeded)
		require.ErrorIs(t, c.Close(), context.DeadlineExceeded, "the second Close says so too")
		assert.Equal(t, closeWait, time.Since(used))
		close(end)
		synctest.Wait()
		saved := func(id string) time.Time {
			records, err := c.state.read(mem.Process(), time.Now())
			require.NoError(t, err)
			return records[id].used
		}
		assert.True(t, used.Equal(saved("i1")))

		time.Sleep(time.Second)
		used = time.Now()
		c.Used("i0")
		time.Sleep(time.Hour)
		assert.False(t, used.Equal(saved("i0")), "no timer is set after Close")
		_, err = c.Round(t.Context())
		require.NoError(t, err)
		assert.True(t, used.Equal(saved("i0")))
	})
}

// A slowFS renames when renaming is closed.
type slowFS struct {
	disk.FS
	renaming <-chan struct{}
}

func (f slowFS) Rename(from, to string) error {
	<-f.renaming
	return f.FS.Rename(from, to)
}
