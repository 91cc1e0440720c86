package report

import (
	"fmt"
	"strconv"
	"strings"
)

// A Goal is what a figure should be, and whether it is.
type Goal struct {
	Want string
	Got  string
	Met  bool
	Open bool // nothing was there to judge it by
}

// Verdict says in a table whether the goal is met.
func (g Goal) Verdict() string {
	switch {
	case g.Met:
		return "met"
	case g.Open:
		return "not judged"
	}
	return "**not met**"
}

// AtMost is the goal that got is no more than most; of says of what, as in
// "x ideal-pipe" or "MiB".
func AtMost(got, most float64, of string) Goal {
	return Goal{Want: fmt.Sprintf("at most %s %s", limit(most), of), Got: number(got), Met: got <= most}
}

// AtLeast is the goal that got is no less than least.
func AtLeast(got, least float64, of string) Goal {
	return Goal{Want: fmt.Sprintf("at least %s %s", limit(least), of), Got: number(got), Met: got >= least}
}

// limit prints a limit as it was written, or nearly.
func limit(f float64) string { return strconv.FormatFloat(f, 'g', 4, 64) }

// number has no more digits than a measured figure deserves.
func number(f float64) string {
	if f >= 10 {
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.2f", f)
}

// Cells are the two cells of a table for some goals: what is wanted, what is reached.
func Cells(goals ...Goal) (want, reached string) {
	var wants, gots []string
	for _, g := range goals {
		wants = append(wants, g.Want)
		gots = append(gots, g.Got+": "+g.Verdict())
	}
	return strings.Join(wants, "; "), strings.Join(gots, "; ")
}
