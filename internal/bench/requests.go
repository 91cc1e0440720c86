package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/pullkit/pullkit/internal/bench/report"
)

// The images of scenario requests.
const (
	oneImage   = "one"
	indexImage = "index"
)

func requestImages(b *bench) []string {
	return []string{fmt.Sprintf("%s=1x%d", oneImage, mib), fmt.Sprintf("%s=index:1x%d", indexImage, mib)}
}

// An asker is a client with a pull policy, which says how it treats an image that is present.
type asker struct {
	client
	title  string
	policy string
	goal   []string // the cells that are expected, nil for the peers
}

func (b *bench) askers() []asker {
	var all []asker
	for _, c := range b.realClients() {
		if c.name != pullkit {
			all = append(all, asker{c, c.name, "Always", nil})
			continue
		}
		all = append(all,
			asker{c, pullkit + ", IfNotPresent", "IfNotPresent", []string{"3", "0", "0", "4", "0", "0"}},
			asker{c, pullkit + ", Always", "Always", []string{"3", "1: HEAD manifest", "1: HEAD manifest", "4", "1: HEAD manifest", "1: HEAD manifest"}},
		)
	}
	return all
}

// runRequests counts the requests of each client for an image that is absent, and then for the
// same image when it is present.
func runRequests(ctx context.Context, b *bench) (err error) {
	reg, err := b.serve(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reg.close()) }()
	t := &report.Table{
		Title: "Requests",
		Head: []string{
			"client", "one layer, cold", "again by tag", "again by digest",
			"index, cold", "again by tag", "again by digest", "goal", "reached",
		},
	}
	for _, a := range b.askers() {
		cells := []string{a.title}
		for _, image := range []string{oneImage, indexImage} {
			counted, err := b.countRequests(ctx, reg, a, image)
			if err != nil {
				return err
			}
			cells = append(cells, counted...)
		}
		if a.goal != nil {
			g := countGoal(a.goal, cells[1:])
			b.reach("Requests: "+a.title, g, strings.Join(cells[1:], " / "), "", "")
			want, reached := report.Cells(g)
			cells = append(cells, want, reached)
		}
		t.Add(cells...)
	}
	t.Note("A ping is a request for /v2/.")
	return b.print(t)
}

// countRequests pulls an image twice by its tag, and then twice by its digest into another
// directory. It returns the requests of the first pull and of both second pulls. The first pull
// by digest makes the same requests as the first pull by tag.
func (b *bench) countRequests(ctx context.Context, reg *registry, a asker, image string) (cells []string, err error) {
	digest, err := b.digest(image + ":1")
	if err != nil {
		return nil, err
	}
	for _, j := range []job{{tag: "1"}, {digest: digest}} {
		j.host, j.repository, j.index, j.policy = reg.host, image, image == indexImage, a.policy
		if j.dir, err = b.fresh(a.name); err != nil {
			return nil, err
		}
		cold, err := b.counted(ctx, reg, a, j)
		if err != nil {
			return nil, err
		}
		again, err := b.counted(ctx, reg, a, j)
		if err != nil {
			return nil, err
		}
		if j.digest == "" {
			cells = append(cells, cold)
		}
		cells = append(cells, again)
		if err := os.RemoveAll(j.dir); err != nil {
			return nil, err
		}
	}
	return cells, nil
}

func (b *bench) counted(ctx context.Context, reg *registry, a asker, j job) (string, error) {
	if _, err := reg.counts(); err != nil {
		return "", err
	}
	r := b.pull(ctx, a.client, a.pull(j), 0)
	if err := ctx.Err(); err != nil {
		return "", err
	}
	b.note("requests "+j.repository, a.client, r)
	asked, err := reg.counts()
	if r.err != nil {
		return "**fails**", err
	}
	return asked.String(), err
}

// countGoal compares each cell with the expected one. If only a number is expected, only the
// number is compared.
func countGoal(want, got []string) report.Goal {
	g := report.Goal{Want: strings.Join(want, " / "), Got: "all", Met: true}
	for i := range want {
		if got[i] != want[i] && !strings.HasPrefix(got[i], want[i]+":") {
			g.Got, g.Met = got[i]+" instead of "+want[i], false
		}
	}
	return g
}
