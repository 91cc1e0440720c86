package report

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestATableIsMarkdown(t *testing.T) {
	table := Table{Title: "Some figures", Head: []string{"scenario", "a", "b"}}
	table.Add("one | two", "1.00", "2.00")
	table.Add("three")
	table.Note("Load %s before.", "1.0")
	table.Note("Medians.")
	var b strings.Builder
	require.NoError(t, table.Write(&b))
	assert.Equal(t, `### Some figures

| scenario | a | b |
| --- | --- | --- |
| one \| two | 1.00 | 2.00 |
| three |  |  |

Load 1.0 before. Medians.

`, b.String())
}

func TestAGoalSaysWhatWasReached(t *testing.T) {
	for _, tt := range []struct {
		goal Goal
		want Goal
	}{
		{AtMost(1.05, 1.05, "x ideal-pipe"), Goal{Want: "at most 1.05 x ideal-pipe", Got: "1.05", Met: true}},
		{AtMost(1.06, 1.05, "x ideal-pipe"), Goal{Want: "at most 1.05 x ideal-pipe", Got: "1.06"}},
		{AtMost(16.25, 16, "MiB"), Goal{Want: "at most 16 MiB", Got: "16.2"}},
		{AtLeast(84.4, 40, "x"), Goal{Want: "at least 40 x", Got: "84.4", Met: true}},
		{AtLeast(39.9, 40, "x"), Goal{Want: "at least 40 x", Got: "39.9"}},
	} {
		assert.Equal(t, tt.want, tt.goal)
	}
	want, reached := Cells(Goal{Want: "a", Got: "1", Met: true}, Goal{Want: "b", Got: "2"}, Goal{Want: "c", Got: "3", Open: true})
	assert.Equal(t, "a; b; c", want)
	assert.Equal(t, "1: met; 2: **not met**; 3: not judged", reached)
}

func TestAJudgedRowIsListedWithItsGoal(t *testing.T) {
	table := Table{Title: "Some figures", Head: []string{"entries", "bytes", "other", "ours", "ours, too", "goal", "reached"}}
	table.Judge("ours", []string{"8", "100", "3 s", "1 s", "2 s"}, AtMost(1, 2, "s"), AtMost(2, 1, "s"))
	table.Judge("ours", []string{"9", "100", "3 s", "1 s", "2 s"})
	assert.Equal(t, [][]string{
		{"8", "100", "3 s", "1 s", "2 s", "at most 2 s; at most 1 s", "1.00: met; 2.00: **not met**"},
		{"9", "100", "3 s", "1 s", "2 s", "", ""},
	}, table.Rows)
	require.Len(t, table.Judged, 2)
	assert.Equal(t, Line{
		Row: "Some figures, 8 entries", Goal: Goal{Want: "at most 2 s", Got: "1.00", Met: true}, Ours: "1 s, 2 s", Peer: "3 s other",
	}, table.Judged[0])
}
