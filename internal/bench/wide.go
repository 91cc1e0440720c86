package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// The wide-area link: see package wan.
const (
	wideRate      = 100_000_000 // bytes a second of all connections
	wideRoundTrip = 100 * time.Millisecond
)

// wideSite returns a function that starts a registry far away. It speaks https and requires
// tokens of another server, which is as far away.
func (b *bench) wideSite(more ...string) func(ctx context.Context) (site, error) {
	return b.registry(append([]string{"-tls", "-tokens", "-round-trip", b.roundTrip().String()}, more...)...)
}

// limited returns the registry's flags for a bandwidth and slow start.
func limited() []string { return []string{"-shared-rate", fmt.Sprint(wideRate), "-slow-start"} }

func (b *bench) roundTrip() time.Duration {
	if b.short {
		return 4 * time.Millisecond
	}
	return wideRoundTrip
}

// wideTitle returns a title that describes the link.
func (b *bench) wideTitle() string {
	return fmt.Sprintf("Wide-area link of %v a round trip, TLS, token, index", b.roundTrip())
}

// limitedTitle returns the title for a link with a bandwidth and slow start.
func (b *bench) limitedTitle() string {
	return fmt.Sprintf("%s, %d MB/s in all, slow start", b.wideTitle(), wideRate/1_000_000)
}

// indexed returns the row with an index as its image.
func indexed(r row) row {
	r.kind = "index"
	return r
}

func wideRows(b *bench) []row {
	return []row{indexed(b.sized("", "wide", 10, mib, map[string][]goal{
		wallTime.name: {{most: 0.6, of: bestPeer}, {most: 0.75, of: theBase}},
	}))}
}

func runWide(ctx context.Context, b *bench) error {
	c := comparison{
		name: "wide", title: b.wideTitle(), rows: wideRows(b), clients: b.realClients(),
		figures: []figure{wallTime, requests, connections},
		site:    b.wideSite(), job: job{tls: true, index: true}, args: pullOne,
	}
	if err := b.compareRows(ctx, c); err != nil {
		return err
	}
	c.name, c.title, c.site, c.figures = "wide limited", b.limitedTitle(), b.wideSite(limited()...), []figure{wallTime}
	c.rows[0].goals = nil
	return b.compareRows(ctx, c)
}

// secondImage is the image that a process pulls after another image of the same registry.
const secondImage = "second"

func secondImages(b *bench) []string {
	first := wideRows(b)[0]
	second := first
	second.image = secondImage
	return []string{first.spec(), second.spec()}
}

// waiting is the number of requests for the second image that waited for one another: see the
// function chains of command registry.
var waiting = figure{
	name: "requests that wait for one another", form: "%.0f", unit: "requests",
	of:   func(r result) float64 { return float64(len(r.counts.Chains[secondImage])) },
	more: func(r result) string { return ": " + strings.Join(r.counts.Chains[secondImage], ", then ") },
}

func runSecond(ctx context.Context, b *bench) error {
	first := wideRows(b)[0]
	return b.compareRows(ctx, comparison{
		name: "wide-second", title: b.wideTitle() + "; second image of the registry in one process",
		rows:    []row{{name: first.name, image: secondImage, goals: map[string][]goal{waiting.name: {{most: 4}}}}},
		clients: b.clientsThat(func(c client) bool { return c.many != nil }),
		figures: []figure{waiting, wallTime},
		site:    b.wideSite(), job: job{tls: true, index: true, parallel: 1},
		args: func(c client, j job) ([]string, error) {
			before := j
			before.repository = first.image
			j.names = []string{before.name(), j.name()}
			return b.listed(c, j)
		},
		notes: []string{"A chain is the most requests that are for the second image and of which each reached the registry, or its token server, " +
			"a round trip or more after the one before. A request that waits for an answer cannot be earlier; one that waits for a connection counts, too. " +
			"Wall times are those of both images."},
	})
}

func wideLargeRows(b *bench) []row {
	r := indexed(b.sized("", "wide-large", 8, 32*mib, nil))
	floor := float64(r.bytes())/wideRate + 8*b.roundTrip().Seconds()
	r.goals = map[string][]goal{wallTime.name: {
		{most: 1.25 * floor, why: fmt.Sprintf("1.25 x the link's floor of %.3f s: bytes / bandwidth + 8 round trips", floor)},
		{most: 1, of: bestPeer, faster: true},
	}}
	return []row{r}
}

func runWideLarge(ctx context.Context, b *bench) error {
	return b.compareRows(ctx, comparison{
		name: "wide-large", title: b.limitedTitle() + "; large layers", rows: wideLargeRows(b), clients: b.realClients(),
		figures: []figure{wallTime, connections},
		site:    b.wideSite(limited()...), job: job{tls: true, index: true}, args: pullOne,
	})
}
