package main

import (
	"bytes"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/reference"
)

const mib = 1 << 20

func progress(call uint64, done, all, kept int64) puller.Event {
	return puller.Event{Call: call, Reason: puller.EventProgress, Progress: &puller.Progress{TotalDone: done * mib, Total: all * mib, TotalResumed: kept * mib}}
}

func TestTotalLineFitsItsColumns(t *testing.T) {
	start := time.Unix(0, 0)
	total := newTotal(5)
	assert.Equal(t, "0 of 5 images  asking the registry", total.line(start, 80))
	total.finished = 2
	total.event(progress(1, 0, 40, 0))
	total.event(progress(2, 20, 60, 20)) // resumed bytes do not count for the speed
	assert.Equal(t, "2 of 5 images  20.0 MiB of 100.0 MiB  20%", total.line(start, 80), "too early for a speed")
	total.event(progress(1, 10, 40, 0))
	shared := progress(3, 10, 40, 0)
	shared.Shared = true // the call shares the pull of call 1
	total.event(shared)
	now := start.Add(2 * time.Second)
	for _, tt := range []struct {
		columns int
		want    string
	}{
		{80, "2 of 5 images  30.0 MiB of 100.0 MiB  30%  5.0 MiB/s  0:14 left"},
		{64, "2 of 5 images  30.0 MiB of 100.0 MiB  30%  5.0 MiB/s  0:14 left"},
		{63, "30.0 MiB of 100.0 MiB  30%  5.0 MiB/s  0:14 left"},
		{40, "30.0/100.0 MiB  30%  5.0 MiB/s  0:14"},
		{30, "30%  5.0 MiB/s  0:14"},
		{10, "30%"},
		{1, "30%"}, // the terminal cuts it
	} {
		assert.Equal(t, tt.want, total.line(now, tt.columns), "%d columns", tt.columns)
	}
	assert.Equal(t, "2 of 5 images  30.0 MiB of 100.0 MiB  30%", total.line(now.Add(time.Minute), 80), "a transfer that stalls has no speed and no time left")
	total.event(puller.Event{Call: 2, Reason: puller.EventFailed})
	assert.Contains(t, total.line(now.Add(time.Minute), 80), "30.0 MiB of 60.0 MiB  50%", "the missing bytes of a failed pull do not count")
}

func TestEqualUnitsAreWrittenOnce(t *testing.T) {
	assert.Equal(t, "1.0/2.0 MiB", shortBytes(mib, 2*mib))
	assert.Equal(t, "1.0 MiB/2.00 GiB", shortBytes(mib, 2<<30))
	assert.Equal(t, "0/10 B", shortBytes(0, 10))
}

func TestTimesAreShort(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0:00": 0, "0:07": 7 * time.Second, "12:34": 12*time.Minute + 34*time.Second,
		"1:02:03": time.Hour + 2*time.Minute + 3*time.Second, "days": 1000 * time.Hour,
	} {
		assert.Equal(t, want, clock(d))
	}
}

// screen is a terminal for tests. When it becomes narrower, it wraps its lines again.
type screen struct {
	rows         []string
	line, column int
}

func (s *screen) narrow(columns int) {
	var rows []string
	for _, row := range s.rows {
		for ; len(row) > columns; row = row[columns:] {
			rows = append(rows, row[:columns])
		}
		rows = append(rows, row)
	}
	s.rows, s.line = rows, len(rows)-1
	s.column = len(rows[s.line])
}

func (s *screen) Write(p []byte) (int, error) {
	text := string(p)
	for text != "" {
		switch {
		case strings.HasPrefix(text, "\r\x1b[J"):
			s.column, text = 0, text[4:]
			s.rows = s.rows[:min(s.line, len(s.rows))]
		case strings.HasPrefix(text, "\x1b[1A"):
			s.line, text = s.line-1, text[4:]
		case text[0] == '\r':
			s.column, text = 0, text[1:]
		case text[0] == '\n':
			s.line, s.column, text = s.line+1, 0, text[1:]
		case text[0] == 0x1b:
			text = text[strings.IndexByte(text, 'm')+1:] // a colour
		default:
			for len(s.rows) <= s.line {
				s.rows = append(s.rows, "")
			}
			s.rows[s.line] = s.rows[s.line][:s.column] + text[:1]
			s.column, text = s.column+1, text[1:]
		}
	}
	return len(p), nil
}

func TestTotalLineStaysBelow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &screen{}
		columns := 80
		r := newReport(out, out, false)
		end := r.showTotal(&terminal{out: out, columns: func() int { return columns }, color: true}, 2)
		shows := func(want ...string) {
			t.Helper()
			synctest.Wait()
			r.mu.Lock()
			defer r.mu.Unlock()
			assert.Equal(t, want, out.rows)
		}
		r.event(progress(1, 0, 40, 0))
		time.Sleep(time.Second)
		r.event(progress(1, 10, 40, 0))
		time.Sleep(time.Second) // the ticker draws
		shows("0 of 2 images  10.0 MiB of 40.0 MiB  25%  5.0 MiB/s  0:06 left")
		r.failed("team/absent:v1", errors.New("no such image"))
		shows("pull: no such image", "1 of 2 images  10.0 MiB of 40.0 MiB  25%  5.0 MiB/s  0:06 left")
		r.mu.Lock()
		columns = 40
		out.narrow(columns)
		r.mu.Unlock()
		time.Sleep(time.Second)
		shows("pull: no such image", "10.0/40.0 MiB  25%  3.3 MiB/s  0:09")
		r.pulled(puller.Image{Ref: reference.MustParse("team/app:v1"), Digest: "sha256:1", Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}})
		end()
		shows("pull: no such image", "sha256:1  linux/amd64  docker.io/team/app:v1")
	})
}

func TestLineIsRemovedFromANarrowerTerminal(t *testing.T) {
	var out bytes.Buffer
	columns := 80
	term := terminal{out: &out, columns: func() int { return columns }}
	term.show(strings.Repeat("x", 79))
	columns = 30
	out.Reset()
	term.show("y")
	assert.Equal(t, "\x1b[2A\r\x1b[Jy", out.String(), "79 columns have become three lines of 30")
	out.Reset()
	term.clear()
	term.clear()
	assert.Equal(t, "\r\x1b[J", out.String())
}

func TestColorsCanBeTurnedOff(t *testing.T) {
	for _, color := range []bool{false, true} {
		var out bytes.Buffer
		term := terminal{out: &out, columns: func() int { return 80 }, color: color}
		term.show("x")
		assert.Equal(t, color, regexp.MustCompile("\x1b\\[[0-9]+m").MatchString(out.String()))
	}
}

// TestWithoutATerminalLinesArePlain: files, pipes and terminals that cannot move their cursor get plain lines.
func TestWithoutATerminalLinesArePlain(t *testing.T) {
	t.Setenv("TERM", "xterm")
	file, err := os.Create(t.TempDir() + "/out")
	require.NoError(t, err)
	defer file.Close()
	assert.Nil(t, newTerminal(file))
	assert.Nil(t, newTerminal(&bytes.Buffer{}))
	t.Setenv("COLUMNS", "123")
	assert.Equal(t, 123, columns(file))
	t.Setenv("COLUMNS", "-1")
	assert.Equal(t, 80, columns(file))
}
