package report

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTable(t *testing.T) {
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

func TestGoals(t *testing.T) {
	for _, tt := range []struct {
		goal Goal
		want Goal
	}{
		{AtMost(1.05, 1.05, "x ideal-pipe"), Goal{"at most 1.05 x ideal-pipe", "1.05", true, false}},
		{AtMost(1.06, 1.05, "x ideal-pipe"), Goal{"at most 1.05 x ideal-pipe", "1.06", false, false}},
		{AtMost(16.25, 16, "MiB"), Goal{"at most 16 MiB", "16.2", false, false}},
		{AtLeast(84.4, 40, "x"), Goal{"at least 40 x", "84.4", true, false}},
		{AtLeast(39.9, 40, "x"), Goal{"at least 40 x", "39.9", false, false}},
	} {
		assert.Equal(t, tt.want, tt.goal)
	}
	want, reached := Cells(Goal{"a", "1", true, false}, Goal{"b", "2", false})
	assert.Equal(t, "a; b", want)
	assert.Equal(t, "1: met; 2: **not met**", reached)
}
