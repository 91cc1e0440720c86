package main

import (
	"fmt"
	"slices"

	"github.com/pullkit/pullkit/internal/bench/report"
)

// A figure is one of the things measured of a pull.
type figure struct {
	name string
	of   func(result) float64
	form string // how it is printed
	unit string // of a limit that is no ratio
}

var (
	wallTime    = figure{"wall time, s", func(r result) float64 { return r.wall }, "%.3f", "s"}
	cpuTime     = figure{"CPU time of the client (user and system), s", func(r result) float64 { return r.cpu }, "%.2f", "s"}
	peakMemory  = figure{"peak memory of the client, MiB", func(r result) float64 { return r.memory }, "%.1f", "MiB"}
	connections = figure{"most connections at once", func(r result) float64 { return float64(r.counts.Connections) }, "%.0f", "connections"}
)

// bestPeer stands for the best client that is neither pullkit nor an ideal and
// never failed.
const bestPeer = "the best peer"

// A goal bounds pullkit's figure from above: by a multiple of that of another, or,
// with nobody in of, by itself. With faster it must stay below.
type goal struct {
	most   float64
	of     string
	faster bool
}

// runs are a row's results, by client.
type runs map[string][]result

// median is that of a client's figure; ok is false if a run of it failed or none was.
func (rs runs) median(name string, f figure) (value float64, ok bool) {
	var values []float64
	for _, r := range rs[name] {
		if r.err != nil {
			return 0, false
		}
		values = append(values, f.of(r))
	}
	if len(values) == 0 {
		return 0, false
	}
	slices.Sort(values)
	return middle(values), true
}

// middle is the median of sorted values.
func middle(values []float64) float64 {
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

// cell is a client's figure as it stands in a table.
func (rs runs) cell(name string, f figure) string {
	if value, ok := rs.median(name, f); ok {
		return fmt.Sprintf(f.form, value)
	}
	return "**fails**"
}

// best is the peer with the least figure.
func (rs runs) best(clients []client, f figure) (name string, least float64) {
	for _, c := range clients {
		if value, ok := rs.median(c.name, f); ok && !c.ideal && c.name != pullkit && (name == "" || value < least) {
			name, least = c.name, value
		}
	}
	return name, least
}

// judge says whether a goal is met.
func (rs runs) judge(g goal, clients []client, f figure) report.Goal {
	other, base := g.of, 0.0
	switch g.of {
	case "":
		base = 1
	case bestPeer:
		other, base = rs.best(clients, f)
	default:
		base, _ = rs.median(g.of, f)
	}
	ours, ok := rs.median(pullkit, f)
	judged := report.AtMost(ours/max(base, 1e-9), g.most, g.unit(f))
	if g.faster {
		judged.Want, judged.Met = "less than "+g.of, ours < base
	}
	switch {
	case !ok:
		judged.Got, judged.Met = "fails", false
	case base <= 0:
		judged.Got, judged.Met = "nothing to compare", false
	case g.of != "":
		judged.Got += " x " + other
	}
	return judged
}

// unit is what a goal's limit counts.
func (g goal) unit(f figure) string {
	if g.of == "" {
		return f.unit
	}
	return "x " + g.of
}
