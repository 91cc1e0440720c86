package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/pullkit/pullkit/internal/bench/report"
)

// kills is how often each client is killed, and killCost how many bytes a kill may cost.
const (
	kills    = 8
	killCost = mib
)

// runKilled kills each client whenever the registry has sent another ninth of the image, and
// starts the client again with the same directory. The link is limited, so that few bytes are
// on their way when a client is killed.
func runKilled(ctx context.Context, b *bench) (err error) {
	r := cutRow(b)
	before := report.Load()
	step := r.bytes() / (kills + 1)
	reg, err := b.serve(ctx, append(limitedLink(time.Millisecond), "-tell", fmt.Sprint(step))...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reg.close()) }()
	rs := runs{}
	for range b.rounds {
		for _, c := range b.realClients() {
			result, err := b.pullKilled(ctx, reg, c, job{host: reg.host, repository: r.image, tag: "1", policy: "Always"})
			if err != nil {
				return err
			}
			b.note("killed", c, result)
			rs[c.name] = append(rs[c.name], result)
		}
	}
	t := &report.Table{
		Title: fmt.Sprintf("Killed and started again: %s, up to %d times, whenever %.4g MiB were sent", r.name, kills, float64(step)/mib),
		Head:  []string{"client", "outcome", "MiB sent (most)", "goal", "reached"},
	}
	for _, c := range b.realClients() {
		cells := []string{c.name, outcome(rs[c.name]), sent(rs[c.name])}
		if c.name == pullkit {
			most := 1.01*float64(r.bytes()) + kills*killCost
			g := report.AtMost(middle(bytesOf(rs[c.name]))/mib, most/mib, "MiB (1.01 x the image, and 1 MiB a kill)")
			b.reach(t.Title+": MiB sent", g, sent(rs[pullkit]), b.ofBase(rs, sent), "")
			want, reached := report.Cells(g)
			cells = append(cells, want, reached)
		}
		t.Add(cells...)
	}
	t.Note("%s Load %s before, %s after.", report.Rounds(b.rounds), before, report.Load())
	return b.print(t)
}

// pullKilled runs a client again and again until it ends by itself. After the number of kills
// it is not killed any more. The result is that of the last run, but its bytes are those of all
// runs.
func (b *bench) pullKilled(ctx context.Context, reg *registry, c client, j job) (r result, err error) {
	if j.dir, err = b.fresh(c.name); err != nil {
		return r, err
	}
	if _, err := reg.counts(); err != nil {
		return r, err
	}
	limited, cancel := context.WithTimeout(ctx, clientLimit)
	defer cancel()
	var bytes int64
	for killed := 0; ; killed++ {
		died, r, err := b.runOnce(limited, reg, c, j, killed < kills)
		if err == nil {
			err = ctx.Err()
		}
		bytes += r.counts.Bytes
		r.counts.Bytes = bytes
		if err != nil {
			return r, err
		}
		if !died {
			return r, os.RemoveAll(j.dir)
		}
	}
}

// runOnce runs a client. If mayKill is true, it kills the client when the registry has sent the
// bytes of its flag -tell. died reports whether the client has ended by that.
func (b *bench) runOnce(ctx context.Context, reg *registry, c client, j job, mayKill bool) (died bool, r result, err error) {
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
