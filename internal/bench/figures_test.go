package main

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pullkit/pullkit/internal/bench/report"
)

func walls(values ...float64) (results []result) {
	for _, v := range values {
		results = append(results, result{wall: v})
	}
	return results
}

func TestOursIsJudgedByTheBestPeer(t *testing.T) {
	clients := []client{{name: "a"}, {name: "b"}, {name: "broken"}, {name: "ideal", ideal: true}, {name: "before", base: true}, {name: pullkit}}
	rs := runs{
		"a":      walls(9, 2, 3),
		"b":      walls(2, 4), // the median of two is their mean
		"broken": {{wall: 1}, {err: errors.New("failed")}},
		"ideal":  walls(1),
		"before": walls(1), // the best, but not a peer
		pullkit:  walls(1.5),
	}
	for _, tt := range []struct {
		goal goal
		want report.Goal
	}{
		{goal{most: 1.05, of: "ideal"}, report.Goal{Want: "at most 1.05 x ideal", Got: "1.50 x ideal"}},
		{goal{most: 0.5, of: bestPeer}, report.Goal{Want: "at most 0.5 x the best peer", Got: "0.50 x a", Met: true}},
		{goal{most: 1, of: bestPeer, faster: true}, report.Goal{Want: "less than the best peer", Got: "0.50 x a", Met: true}},
		{goal{most: 2}, report.Goal{Want: "at most 2 s", Got: "1.50", Met: true}},
		{goal{most: 1.4, of: theBase}, report.Goal{Want: "at most 1.4 x the base", Got: "1.50 x before"}},
		{goal{most: 2, why: "for a reason"}, report.Goal{Want: "at most 2 s (for a reason)", Got: "1.50", Met: true}},
		{goal{most: 1, of: "broken"}, report.Goal{Want: "at most 1 x broken", Got: "nothing to compare", Open: true}},
		{goal{most: 1, of: "absent"}, report.Goal{Want: "at most 1 x absent", Got: "nothing to compare", Open: true}},
	} {
		assert.Equal(t, tt.want, rs.judge(tt.goal, clients, wallTime))
	}
	assert.Equal(t, "3.000", rs.cell("a", wallTime))
	assert.Equal(t, "3.000", rs.cell("b", wallTime))
	assert.Equal(t, "**fails**", rs.cell("broken", wallTime))
	assert.Equal(t, "3.000 a", rs.bestCell(clients, wallTime))
	assert.Equal(t, "1.000", rs.baseCell(clients, wallTime))
	assert.Empty(t, rs.baseCell(clients[:4], wallTime))

	rs[pullkit] = append(rs[pullkit], result{err: errors.New("failed")})
	assert.Equal(t, report.Goal{Want: "at most 2 s", Got: "fails"}, rs.judge(goal{most: 2}, clients, wallTime))
	equal := runs{"a": walls(2), pullkit: walls(2)}
	assert.False(t, equal.judge(goal{most: 1, of: bestPeer, faster: true}, clients, wallTime).Met, "as fast is not faster")
	assert.True(t, equal.judge(goal{most: 1, of: bestPeer}, clients, wallTime).Met)
}

func TestCountsAreListedByKind(t *testing.T) {
	assert.Equal(t, "0", counts{}.String())
	assert.Equal(t, "4: 2 GET blob, GET manifest, HEAD manifest",
		counts{Requests: map[string]int{"GET blob": 2, "HEAD manifest": 1, "GET manifest": 1}}.String())
}

func TestACountMustBeExactlyAsPromised(t *testing.T) {
	want := []string{"3", "0", "1: HEAD manifest"}
	for _, tt := range []struct {
		got  []string
		goal string
	}{
		{[]string{"3: 2 GET blob, GET manifest", "0", "1: HEAD manifest"}, "all"},
		{[]string{"4: 3 GET blob, GET manifest", "0", "1: HEAD manifest"}, "4: 3 GET blob, GET manifest instead of 3"},
		{[]string{"3: 3 GET blob", "0", "1: GET manifest"}, "1: GET manifest instead of 1: HEAD manifest"},
	} {
		assert.Equal(t, tt.goal, countGoal(want, tt.got).Got)
	}
}

func TestATailKeepsTheLastBytes(t *testing.T) {
	var said tail
	for range 3 {
		n, err := said.Write(make([]byte, tailSize-1))
		assert.NoError(t, err)
		assert.Equal(t, tailSize-1, n)
	}
	_, _ = said.Write([]byte("first\nlast\n"))
	assert.Len(t, said, tailSize)
	assert.Equal(t, "last", lastLine(string(said)))
}

// TestCallsAreReadFromTheTableOfStrace reads what strace -c writes, with and without errors of calls.
func TestCallsAreReadFromTheTableOfStrace(t *testing.T) {
	assert.Equal(t, map[string]int{"fsync": 17, "syncfs": 1, "total": 18}, callCounts(
		`% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 99.00    0.001881         110        17         2 fsync
  1.00    0.000009           9         1           syncfs
------ ----------- ----------- --------- --------- ----------------
100.00    0.001890         105        18         2 total
`))
	assert.Empty(t, callCounts(""))
}

// TestTheWorstRunOfOursCounts: the worst run of pullkit counts, and each run must succeed.
func TestTheWorstRunOfOursCounts(t *testing.T) {
	asked := func(n int, err error) result {
		return result{err: err, counts: counts{Requests: map[string]int{"GET 200": n - 1, "GET 429": 1}}}
	}
	theirs := []result{asked(3, nil), asked(4, nil)}
	for _, tt := range []struct {
		ours []result
		want report.Goal
	}{
		{[]result{asked(8, nil), asked(2, nil)}, report.Goal{Got: "8, and skopeo 4", Met: true}},
		{[]result{asked(2, nil), asked(9, nil)}, report.Goal{Got: "9, and skopeo 4"}},
		{[]result{asked(2, nil), asked(2, errors.New("failed"))}, report.Goal{Got: "2, and skopeo 4"}},
	} {
		tt.want.Want = "at most skopeo's + 4"
		assert.Equal(t, tt.want, fewRequests(runs{pullkit: tt.ours, "skopeo": theirs}))
	}
}
