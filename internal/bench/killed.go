package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/pullkit/pullkit/internal/bench/report"
)

// kills is how often each client is killed on its way, and killCost what a kill
// may cost.
const (
	kills    = 8
	killCost = mib
)

// runKilled kills each client whenever a ninth of the image has come, and starts it
// again with the same directory. The link is the limited one, so that little is on
// its way when a client dies.
func runKilled(ctx context.Context, b *bench) (err error) {
	r := cutRow(b)
	before := report.Load()
	step := r.bytes() / (kills + 1)
	reg, err := b.serve(ctx, append(limitedLink(time.Millisecond), "-tell", fmt.Sprint(step))...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reg.close()) }()
	t := &report.Table{
		Title: fmt.Sprintf("Killed and started again: %s, each %.2f MiB", r.name, float64(step)/mib),
		Head:  []string{"client", "outcome", "kills", "MiB sent", "goal", "reached"},
	}
	for _, c := range b.realClients() {
		killed, result, err := b.pullKilled(ctx, reg, c, job{host: reg.host, repository: r.image, tag: "1", policy: "Always"})
		if err != nil {
			return err
		}
		b.note("killed", c, result)
		cells := []string{c.name, outcome(result), fmt.Sprint(killed), sent(result)}
		if c.name == pullkit {
			most := 1.01*float64(r.bytes()) + float64(killed*killCost)
			want, reached := report.Cells(report.AtMost(float64(result.counts.Bytes)/mib, most/mib, "MiB (1.01 x the image, and 1 MiB a kill)"))
			cells = append(cells, want, reached)
		}
		t.Add(cells...)
	}
	t.Note("%s Load %s before, %s after.", report.Rounds(1), before, report.Load())
	return b.print(t)
}

// pullKilled runs a client until it ends by itself. The result is of its last
// life, but for the bytes, which are those of all.
func (b *bench) pullKilled(ctx context.Context, reg *registry, c client, j job) (killed int, r result, err error) {
	if j.dir, err = b.fresh(c.name); err != nil {
		return 0, r, err
	}
	if _, err := reg.counts(); err != nil {
		return 0, r, err
	}
	limited, cancel := context.WithTimeout(ctx, clientLimit)
	defer cancel()
	var bytes int64
	for {
		died, r, err := b.life(limited, reg, c, j, killed < kills)
		if err == nil {
			err = ctx.Err()
		}
		bytes += r.counts.Bytes
		r.counts.Bytes = bytes
		if err != nil {
			return killed, r, err
		}
		if !died {
			return killed, r, os.RemoveAll(j.dir)
		}
		killed++
	}
}

// life runs a client, and kills it when the registry tells, if it may. It reports
// whether the client died of that.
func (b *bench) life(ctx context.Context, reg *registry, c client, j job, mayKill bool) (died bool, r result, err error) {
	var said tail
	cmd := b.command(ctx, c.program, c.pull(j)...)
	cmd.Stderr = &said
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return false, r, err
	}
	ended := make(chan error, 1)
	go func() { ended <- errors.Join(cmd.Wait(), reg.ask()) }()
	killed := false
	r.counts, err = reg.answer(func() {
		if mayKill && !killed {
			killed = cmd.Process.Kill() == nil
		}
	})
	if err != nil {
		_ = cmd.Process.Kill()
	}
	end := <-ended
	r.measure(cmd, time.Since(began), end, said)
	return killed && end != nil, r, err
}
