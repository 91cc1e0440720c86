package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pullkit/pullkit/internal/bench/report"
)

// cutAfter returns after how many bytes a connection ends in the scenario cut.
func cutAfter(b *bench) int64 {
	if b.short {
		return 256 * kib
	}
	return 48 * mib
}

// cutRow returns the row of the scenarios cut and killed.
func cutRow(b *bench) row { return limitedRows(b)[0] }

func cutImages(b *bench) []string { return []string{cutRow(b).spec()} }

// cutLimit is the goal for the bytes that the registry sends if connections end in order, in
// multiples of the image.
const cutLimit = 1.01

// runCut lets each client pull over connections that end early. The figures are whether the
// client succeeds, and how many bytes it needs. They depend little on the speed of the
// machine.
func runCut(ctx context.Context, b *bench) error {
	r := cutRow(b)
	before := report.Load()
	closed, err := b.pullCut(ctx, r)
	if err != nil {
		return err
	}
	reset, err := b.pullCut(ctx, r, "-reset")
	if err != nil {
		return err
	}
	t := &report.Table{
		Title: fmt.Sprintf("Cut connections: %s, each connection ended after %.4g MiB", r.name, float64(cutAfter(b))/mib),
		Head:  []string{"client", "ended in order", "MiB sent (most)", "ended by a reset", "MiB sent (most)", "goal", "reached"},
	}
	for _, c := range b.realClients() {
		cells := []string{c.name, outcome(closed[c.name]), sent(closed[c.name]), outcome(reset[c.name]), sent(reset[c.name])}
		if c.name == pullkit {
			succeeds := report.Goal{Want: "succeeds", Got: outcome(closed[c.name]) + ", " + outcome(reset[c.name])}
			succeeds.Met = succeeds.Got == "succeeds, succeeds"
			share := report.AtMost(middle(bytesOf(closed[c.name]))/float64(r.bytes()), cutLimit, "x the bytes when ended in order")
			both := func(end, reset string) string { return end + ", " + reset }
			b.reach(t.Title, succeeds, succeeds.Got, both(b.ofBase(closed, outcome), b.ofBase(reset, outcome)), "")
			b.reach(t.Title+": MiB sent", share, both(sent(closed[pullkit]), sent(reset[pullkit])),
				both(b.ofBase(closed, sent), b.ofBase(reset, sent)), "")
			want, reached := report.Cells(succeeds, share)
			cells = append(cells, want, reached)
		}
		t.Add(cells...)
	}
	t.Note("%s What the registry sent is counted with the HTTP headers, and whether or not the client read it: "+
		"a reset discards what is on its way. Load %s before, %s after.", report.Rounds(b.rounds), before, report.Load())
	return b.print(t)
}

func (b *bench) pullCut(ctx context.Context, r row, flags ...string) (rs runs, err error) {
	reg, err := b.serve(ctx, append([]string{"-cut", fmt.Sprint(cutAfter(b))}, flags...)...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, reg.close()) }()
	rs = runs{}
	for range b.rounds {
		for _, c := range b.realClients() {
			result, err := b.pullCold(ctx, reg, c, job{repository: r.image, tag: "1"}, pullOne)
			if err != nil {
				return nil, err
			}
			b.note(strings.Join(append([]string{"cut"}, flags...), " "), c, result)
			rs[c.name] = append(rs[c.name], result)
		}
	}
	return rs, nil
}

// ofBase returns the text about the base's results, or "" without a base.
func (b *bench) ofBase(rs runs, text func([]result) string) string {
	if results := rs[b.base]; len(results) > 0 {
		return text(results)
	}
	return ""
}

// outcome returns a text about how often a client has succeeded.
func outcome(results []result) string {
	good := 0
	for _, r := range results {
		if r.err == nil {
			good++
		}
	}
	switch good {
	case len(results):
		return "succeeds"
	case 0:
		return "fails"
	}
	return fmt.Sprintf("succeeds %d of %d times", good, len(results))
}

// bytesOf returns the bytes that the registry sent in each pull, sorted. Pulls that failed
// count too.
func bytesOf(results []result) []float64 {
	var bytes []float64
	for _, r := range results {
		bytes = append(bytes, float64(r.counts.Bytes))
	}
	slices.Sort(bytes)
	return bytes
}

// sent returns a text with the median of the bytes that were sent, in MiB, and with their
// maximum if it differs.
func sent(results []result) string {
	bytes := bytesOf(results)
	median, most := fmt.Sprintf("%.1f", middle(bytes)/mib), fmt.Sprintf("%.1f", bytes[len(bytes)-1]/mib)
	if median == most {
		return median
	}
	return median + " (" + most + ")"
}
