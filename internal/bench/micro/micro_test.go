package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func benchTasks(b *testing.B, of string, tasks []task) {
	for _, t := range tasks {
		b.Run(fmt.Sprintf("%s/%s", t.name, of), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := t.call(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseName(b *testing.B) {
	for _, name := range imageNames {
		var tasks []task
		for _, p := range nameParsers {
			tasks = append(tasks, task{p.name, 1, func() error { return p.parse(name) }})
		}
		benchTasks(b, strings.ReplaceAll(label(name), "/", "|"), tasks)
	}
}

func BenchmarkSelect(b *testing.B) {
	for _, n := range fullSizes.entries {
		tasks, err := indexChoosers(n, 1)
		require.NoError(b, err)
		benchTasks(b, fmt.Sprint(n), tasks)
	}
}

func BenchmarkParseIndex(b *testing.B) {
	for _, n := range fullSizes.entries {
		_, tasks, err := indexParsers(n, 1)
		require.NoError(b, err)
		benchTasks(b, fmt.Sprint(n), tasks)
	}
}

func BenchmarkKeyringBuild(b *testing.B) {
	for _, n := range fullSizes.secrets {
		benchTasks(b, fmt.Sprint(n), keyringBuilders(n))
	}
}

func BenchmarkKeyringLookup(b *testing.B) {
	for _, n := range fullSizes.secrets {
		tasks, err := keyringLookups(n, 1)
		require.NoError(b, err)
		benchTasks(b, fmt.Sprint(n), tasks)
	}
}

// TestEachComparisonHasItsRows runs each comparison with little to measure. Every task gives the
// right answer, and every table has all rows.
func TestEachComparisonHasItsRows(t *testing.T) {
	rows := map[string][]int{"names": {len(imageNames)}, "indexes": {2, 2}, "keyrings": {2}}
	for _, c := range comparisons {
		tables, err := c.run(shortSizes)
		require.NoError(t, err, c.name)
		var got []int
		for _, table := range tables {
			got = append(got, len(table.Rows))
			for _, row := range table.Rows {
				assert.Len(t, row, len(table.Head), "%s: %v", table.Title, row)
			}
		}
		assert.Equal(t, rows[c.name], got, c.name)
	}
}

func TestTasksTakeTurnsAndAWrongAnswerIsAnError(t *testing.T) {
	var order strings.Builder
	turn := func(name string) task {
		return task{name, 2, func() error { order.WriteString(name); return nil }}
	}
	took, err := best(2, turn("a"), turn("b"))
	require.NoError(t, err)
	assert.Len(t, took, 2)
	assert.Equal(t, "aabbaabb", order.String())

	_, err = best(1, task{"wrong", 1, func() error { return wrongUnless(false) }})
	assert.EqualError(t, err, "wrong: another answer")
}

func TestTimesAreShownWithFewDigits(t *testing.T) {
	for ns, want := range map[float64]string{
		17.25: "17.2 ns", 999.6: "1000 ns", 9999: "9999 ns", 12345: "12.3 µs", 9_999_000: "9999.0 µs", 18_400_000: "18 ms", 3_200_000_000: "3200 ms",
	} {
		assert.Equal(t, want, pretty(ns))
	}
}
