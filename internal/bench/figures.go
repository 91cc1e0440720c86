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
	form string              // how it is printed
	unit string              // of a limit in a unit; "" if the limit is a ratio
	tell func(result) string // if not nil, what a cell says beside the median: of the last round
}

var (
	wallTime    = figure{name: "wall time, s", of: func(r result) float64 { return r.wall }, form: "%.3f", unit: "s"}
	cpuTime     = figure{name: "CPU time of the client (user and system), s", of: func(r result) float64 { return r.cpu }, form: "%.2f", unit: "s"}
	peakMemory  = figure{name: "peak memory of the client, MiB", of: func(r result) float64 { return r.memory }, form: "%.1f", unit: "MiB"}
	connections = figure{name: "most connections at once", of: func(r result) float64 { return float64(r.counts.Connections) }, form: "%.0f", unit: "connections"}
	requests    = figure{
		name: "requests", of: func(r result) float64 { return float64(r.counts.total()) }, form: "%.0f", unit: "requests",
		tell: func(r result) string { return r.counts.kinds() },
	}
	oneBlob    = figure{name: "requests for the blob with the most of them", of: func(r result) float64 { return float64(r.counts.OneBlob) }, form: "%.0f", unit: "requests"}
	carriers   = figure{name: "connections that layers were asked for on", of: func(r result) float64 { return float64(r.counts.Carriers) }, form: "%.0f", unit: "connections"}
	atRegistry = figure{name: "requests at the registry", of: func(r result) float64 { return float64(r.counts.total() - r.counts.elsewhere()) }, form: "%.0f", unit: "requests"}
)

// bestPeer stands for the best client that is neither pullkit nor an ideal and
// never failed.
const bestPeer = "the best peer"

// theBase means the build of ours at the commit of the flag -base.
const theBase = "the base"

// A goal bounds pullkit's figure from above: by a multiple of that of another, or,
// with nobody in of, by itself. With faster it must stay below.
type goal struct {
	most   float64
	of     string
	faster bool
	why    string // of the limit, "" = nothing to say
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
	value, ok := rs.median(name, f)
	if !ok {
		return "**fails**"
	}
	text := fmt.Sprintf(f.form, value)
	if f.tell != nil {
		text += f.tell(rs[name][len(rs[name])-1])
	}
	return text
}

// baseCell is the base's, if there is one.
func (rs runs) baseCell(clients []client, f figure) string {
	for _, c := range clients {
		if c.base {
			return rs.cell(c.name, f)
		}
	}
	return ""
}

// bestCell is the best peer's, with its name.
func (rs runs) bestCell(clients []client, f figure) string {
	name, value := rs.best(clients, f)
	if name == "" {
		return ""
	}
	return fmt.Sprintf(f.form, value) + " " + name
}

// best is the peer with the least figure.
func (rs runs) best(clients []client, f figure) (name string, least float64) {
	for _, c := range clients {
		if value, ok := rs.median(c.name, f); ok && c.peer() && (name == "" || value < least) {
			name, least = c.name, value
		}
	}
	return name, least
}

// judge says whether a goal is met.
func (rs runs) judge(g goal, clients []client, f figure) report.Goal {
	other, measure := g.of, 0.0
	switch g.of {
	case "":
		measure = 1
	case bestPeer:
		other, measure = rs.best(clients, f)
	case theBase:
		for _, c := range clients {
			if c.base {
				other = c.name
				measure, _ = rs.median(c.name, f)
			}
		}
	default:
		measure, _ = rs.median(g.of, f)
	}
	ours, ok := rs.median(pullkit, f)
	judged := report.AtMost(ours/max(measure, 1e-9), g.most, g.unit(f))
	if g.faster {
		judged.Want, judged.Met = "less than "+g.of, ours < measure
	}
	if g.why != "" {
		judged.Want += " (" + g.why + ")"
	}
	switch {
	case !ok:
		judged.Got, judged.Met = "fails", false
	case measure <= 0:
		judged.Got, judged.Met, judged.Open = "nothing to compare", false, true
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
