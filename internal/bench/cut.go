package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pullkit/pullkit/internal/bench/report"
)

// cutAfter is how much a connection carries in scenario cut.
func cutAfter(b *bench) int64 {
	if b.short {
		return 256 * kib
	}
	return 48 * mib
}

// cutRow is the image of the scenarios cut and killed.
func cutRow(b *bench) row { return limitedRows(b)[0] }

func cutImages(b *bench) []string { return []string{cutRow(b).spec()} }

// cutLimit is how often the image's bytes may come when connections end in order.
const cutLimit = 1.01

// runCut lets each client pull once over connections that end early: whether it
// gets through, and how much it needs for it, does not depend on time.
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
		Title: fmt.Sprintf("Cut connections: %s, each connection ended after %.2f MiB", r.name, float64(cutAfter(b))/mib),
		Head:  []string{"client", "ended in order", "MiB sent", "ended by a reset", "MiB sent", "goal", "reached"},
	}
	for i, c := range b.realClients() {
		cells := []string{c.name, outcome(closed[i]), sent(closed[i]), outcome(reset[i]), sent(reset[i])}
		if c.name == pullkit {
			succeeds := report.Goal{Want: "succeeds", Got: outcome(closed[i]) + ", " + outcome(reset[i])}
			succeeds.Met = closed[i].err == nil && reset[i].err == nil
			share := report.AtMost(float64(closed[i].counts.Bytes)/float64(r.bytes()), cutLimit, "x the bytes when ended in order")
			want, reached := report.Cells(succeeds, share)
			cells = append(cells, want, reached)
		}
		t.Add(cells...)
	}
	t.Note("%s What the registry sent is counted with the HTTP headers; a reset discards what the client has not read yet. Load %s before, %s after.", report.Rounds(1), before, report.Load())
	return b.print(t)
}

func (b *bench) pullCut(ctx context.Context, r row, flags ...string) (results []result, err error) {
	reg, err := b.serve(ctx, append([]string{"-cut", fmt.Sprint(cutAfter(b))}, flags...)...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, reg.close()) }()
	for _, c := range b.realClients() {
		result, err := b.pullCold(ctx, reg, c, job{repository: r.image, tag: "1"}, pullOne)
		if err != nil {
			return nil, err
		}
		b.note(strings.Join(append([]string{"cut"}, flags...), " "), c, result)
		results = append(results, result)
	}
	return results, nil
}

func outcome(r result) string {
	if r.err != nil {
		return "fails"
	}
	return "succeeds"
}

func sent(r result) string { return fmt.Sprintf("%.2f", float64(r.counts.Bytes)/mib) }
