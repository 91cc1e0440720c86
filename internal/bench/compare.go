package main

import (
	"context"
	"errors"
	"os"

	"github.com/pullkit/pullkit/internal/bench/report"
)

// A comparison is a set of tables, one for each figure. A table has a line for each row and a
// column for each client.
type comparison struct {
	name    string // of the scenario
	title   string
	rows    []row
	clients []client
	figures []figure
	site    func(ctx context.Context) (site, error)
	job     job // what all rows have in common
	rounds  int // the most rounds, 0 = as many as the command line says
	least   int // the fewest rounds, except with -short
	args    arguments
	before  func(c client, j *job, so runs) // changes the job of a client before its pull; so are the row's results so far; nil = no change
	notes   []string
}

// arguments returns the arguments with which a client does a job.
type arguments func(c client, j job) ([]string, error)

// pullOne returns the arguments with which a client pulls one image.
func pullOne(c client, j job) ([]string, error) { return c.pull(j), nil }

// registry returns a function that starts a registry, which is the site of most comparisons.
// link are the registry's flags.
func (b *bench) registry(link ...string) func(ctx context.Context) (site, error) {
	return func(ctx context.Context) (site, error) { return b.serve(ctx, link...) }
}

// turns returns the number of rounds of a comparison.
func (b *bench) turns(c comparison) int {
	switch {
	case c.rounds > 0:
		return min(b.rounds, c.rounds)
	case !b.short:
		return max(b.rounds, c.least)
	}
	return b.rounds
}

// compareRows measures one row after another. In each round of a row all clients pull in turn.
// It prints the medians.
func (b *bench) compareRows(ctx context.Context, c comparison) (err error) {
	before := report.Load()
	s, err := c.site(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	var results []runs
	for _, r := range c.rows {
		rs := runs{}
		for range b.turns(c) {
			for _, client := range c.clients {
				j := c.job
				j.repository, j.tag = r.image, "1"
				if r.parallel > 0 {
					j.parallel = r.parallel
				}
				if c.before != nil {
					c.before(client, &j, rs)
				}
				result, err := b.pullCold(ctx, s, client, j, c.args)
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
		table := b.table(c, f, results)
		for _, n := range c.notes {
			table.Note("%s", n)
		}
		table.Note("%s Load %s before, %s after.", report.Rounds(b.turns(c)), before, after)
		if err := b.print(table); err != nil {
			return err
		}
	}
	return nil
}

// pullCold lets a client pull into a directory of its own, and removes it.
func (b *bench) pullCold(ctx context.Context, s site, c client, j job, args arguments) (r result, err error) {
	if j.dir, err = b.fresh(c.name); err != nil {
		return r, err
	}
	if j.host, err = s.begin(ctx); err != nil {
		return r, err
	}
	j.policy = "Always"
	line, err := args(c, j)
	if err != nil {
		return r, err
	}
	r = b.pull(ctx, c, line, j.limit)
	if err := ctx.Err(); err != nil {
		return r, err
	}
	if r.counts, err = s.counts(); err != nil {
		return r, err
	}
	return r, os.RemoveAll(j.dir)
}

// table prints one figure of all rows, and notes the goals.
func (b *bench) table(c comparison, f figure, results []runs) *report.Table {
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
			judged := results[i].judge(g, c.clients, f)
			goals = append(goals, judged)
			b.reach(c.title+", "+r.name+": "+f.name, judged,
				results[i].cell(pullkit, f), results[i].baseCell(c.clients, f), results[i].bestCell(c.clients, f))
		}
		want, reached := report.Cells(goals...)
		t.Add(append(cells, want, reached)...)
	}
	return t
}
