package main

import (
	"fmt"
	"slices"

	"github.com/pullkit/pullkit/internal/bench/report"
)

// A figure is something that is measured of a pull, such as its wall time.
type figure struct {
	name string
	of   func(result) float64
	form string              // for fmt.Sprintf
	unit string              // of a limit that is not a ratio
	more func(result) string // text after the median in a cell, about the last round; nil = no text
}

var (
	wallTime    = figure{name: "wall time, s", of: func(r result) float64 { return r.wall }, form: "%.3f", unit: "s"}
	cpuTime     = figure{name: "CPU time of the client (user and system), s", of: func(r result) float64 { return r.cpu }, form: "%.2f", unit: "s"}
	peakMemory  = figure{name: "peak memory of the client, MiB", of: func(r result) float64 { return r.memory }, form: "%.1f", unit: "MiB"}
	connections = figure{name: "most connections at once", of: func(r result) float64 { return float64(r.counts.Connections) }, form: "%.0f", unit: "connections"}
	requests    = figure{
		name: "requests", of: func(r result) float64 { return float64(r.counts.total()) }, form: "%.0f", unit: "requests",
		more: func(r result) string { return r.counts.kinds() },
	}
	oneBlob    = figure{name: "requests for the blob with the most of them", of: func(r result) float64 { return float64(r.counts.OneBlob) }, form: "%.0f", unit: "requests"}
	carriers   = figure{name: "connections that layers were asked for on", of: func(r result) float64 { return float64(r.counts.Carriers) }, form: "%.0f", unit: "connections"}
	atRegistry = figure{name: "requests at the registry", of: func(r result) float64 { return float64(r.counts.total() - r.counts.elsewhere()) }, form: "%.0f", unit: "requests"}
)

// bestPeer in a goal means the peer with the smallest figure, of those that never failed.
const bestPeer = "the best peer"

// theBase in a goal means pullkit at the commit of the flag -base.
const theBase = "the base"

// A goal is a limit for pullkit's figure.
type goal struct {
	most   float64 // the limit: in multiples of another client's figure, or in the figure's unit
	of     string  // name of the other client; "" = most is in the figure's unit
	faster bool    // the figure must be smaller than that of the other client
	why    string  // reason for the limit, for the table; "" = none
}

// runs are a row's results, by client.
type runs map[string][]result

// median returns the median of a client's figure. ok is false if the client has no run, or if
// one of its runs failed.
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

// middle returns the median of sorted values.
func middle(values []float64) float64 {
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

// cell returns a client's figure as text for a table.
func (rs runs) cell(name string, f figure) string {
	value, ok := rs.median(name, f)
	if !ok {
		return "**fails**"
	}
	text := fmt.Sprintf(f.form, value)
	if f.more != nil {
		text += f.more(rs[name][len(rs[name])-1])
	}
	return text
}

// baseCell returns the cell of the base, or "" without a base.
func (rs runs) baseCell(clients []client, f figure) string {
	for _, c := range clients {
		if c.base {
			return rs.cell(c.name, f)
		}
	}
	return ""
}

// bestCell returns the figure of the best peer with its name, or "" without a peer.
func (rs runs) bestCell(clients []client, f figure) string {
	name, value := rs.best(clients, f)
	if name == "" {
		return ""
	}
	return fmt.Sprintf(f.form, value) + " " + name
}

// best returns the peer with the smallest figure.
func (rs runs) best(clients []client, f figure) (name string, least float64) {
	for _, c := range clients {
		if value, ok := rs.median(c.name, f); ok && c.peer() && (name == "" || value < least) {
			name, least = c.name, value
		}
	}
	return name, least
}

// judge returns whether a goal is met, with the texts for the table.
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

// unit returns the unit of a goal's limit.
func (g goal) unit(f figure) string {
	if g.of == "" {
		return f.unit
	}
	return "x " + g.of
}
