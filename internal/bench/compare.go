package main

import (
	"context"
	"errors"
	"os"

	"github.com/pullkit/pullkit/internal/bench/report"
)

// A comparison is a set of tables, one a figure: a line for each row, a column
// for each client.
type comparison struct {
	name    string // of the scenario
	title   string
	rows    []row
	clients []client
	figures []figure
	link    []string // flags of the registry
	args    arguments
}

// arguments are the command line that lets a client do a job.
type arguments func(c client, j job) ([]string, error)

// pullOne pulls one image.
func pullOne(c client, j job) ([]string, error) { return c.pull(j), nil }

// compareRows lets the clients take turns, round after round, row after row, and
// prints the medians.
func (b *bench) compareRows(ctx context.Context, c comparison) (err error) {
	before := report.Load()
	reg, err := b.serve(ctx, c.link...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reg.close()) }()
	var results []runs
	for _, r := range c.rows {
		rs := runs{}
		for range b.rounds {
			for _, client := range c.clients {
				result, err := b.pullCold(ctx, reg, client, job{repository: r.image, tag: "1"}, c.args)
				if err != nil {
					return err
				}
				b.note(c.name+" "+r.name, client, result)
				rs[client.name] = append(rs[client.name], result)
			}
		}
		results = append(results, rs)
	}
	after := report.Load()
	for _, f := range c.figures {
		table := c.table(f, results)
		table.Note("%s Load %s before, %s after.", report.Rounds(b.rounds), before, after)
		if err := b.print(table); err != nil {
			return err
		}
	}
	return nil
}

// pullCold lets a client pull into a directory of its own, and removes it.
func (b *bench) pullCold(ctx context.Context, reg *registry, c client, j job, args arguments) (r result, err error) {
	if j.dir, err = b.fresh(c.name); err != nil {
		return r, err
	}
	j.host = reg.host
	j.policy = "Always"
	line, err := args(c, j)
	if err != nil {
		return r, err
	}
	if _, err := reg.counts(); err != nil { // from here on
		return r, err
	}
	r = b.pull(ctx, c, line)
	if err := ctx.Err(); err != nil {
		return r, err
	}
	if r.counts, err = reg.counts(); err != nil {
		return r, err
	}
	return r, os.RemoveAll(j.dir)
}

// table prints one figure of all rows.
func (c comparison) table(f figure, results []runs) *report.Table {
	t := &report.Table{Title: c.title + ": " + f.name, Head: []string{"scenario"}}
	for _, client := range c.clients {
		t.Head = append(t.Head, client.name)
	}
	t.Head = append(t.Head, "goal", "reached")
	for i, r := range c.rows {
		cells := []string{r.name}
		for _, client := range c.clients {
			cells = append(cells, results[i].cell(client.name, f))
		}
		var goals []report.Goal
		for _, g := range r.goals[f.name] {
			goals = append(goals, results[i].judge(g, c.clients, f))
		}
		want, reached := report.Cells(goals...)
		t.Add(append(cells, want, reached)...)
	}
	return t
}
