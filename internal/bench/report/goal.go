package report

import (
	"fmt"
	"strconv"
	"strings"
)

// A Goal is a limit for a figure, and whether the figure keeps it.
type Goal struct {
	Want string
	Got  string
	Met  bool
	Open bool // the goal cannot be judged, for example because a program is not installed
}

// Verdict returns a text for a table: "met", "not judged" or "**not met**".
func (g Goal) Verdict() string {
	switch {
	case g.Met:
		return "met"
	case g.Open:
		return "not judged"
	}
	return "**not met**"
}

// AtMost returns the goal that got is not more than most. of is the unit of both, such as
// "x ideal-pipe" or "MiB".
func AtMost(got, most float64, of string) Goal {
	return Goal{Want: fmt.Sprintf("at most %s %s", limit(most), of), Got: number(got), Met: got <= most}
}

// AtLeast returns the goal that got is not less than least. of is the unit of both.
func AtLeast(got, least float64, of string) Goal {
	return Goal{Want: fmt.Sprintf("at least %s %s", limit(least), of), Got: number(got), Met: got >= least}
}

// limit returns a limit with at most four digits.
func limit(f float64) string { return strconv.FormatFloat(f, 'g', 4, 64) }

// number returns a measured figure with few digits.
func number(f float64) string {
	if f >= 10 {
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.2f", f)
}

// Cells returns the two cells of a table for goals: the goals, and what is reached.
func Cells(goals ...Goal) (want, reached string) {
	var wants, gots []string
	for _, g := range goals {
		wants = append(wants, g.Want)
		gots = append(gots, g.Got+": "+g.Verdict())
	}
	return strings.Join(wants, "; "), strings.Join(gots, "; ")
}
