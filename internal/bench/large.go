package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// largeRow returns a row for an image with one layer of more than 4 GiB.
func largeRow(b *bench, goals map[string][]goal) row {
	r := b.sized("", "large", 1, 4403*mib, goals)
	r.name, r.kind = strings.Replace(r.name, "4 GiB", "4.3 GiB", 1), "hole"
	return r
}

func largeImages(b *bench) []string {
	r := largeRow(b, nil)
	return []string{fmt.Sprintf("%s=%s:%d", r.image, r.kind, r.size)}
}

// largeRounds is the most rounds with the large layer, because each takes long.
const largeRounds = 2

// runLarge pulls a large layer over the link that limits each connection. Peers, which
// use one connection, would take more than a minute each time.
func runLarge(ctx context.Context, b *bench) error {
	r := largeRow(b, map[string][]goal{
		oneBlob.name:  {{most: 32}},
		wallTime.name: {{most: 1.02, of: theBase, why: "not slower, as far as one run can show"}},
	})
	return b.compareRows(ctx, comparison{
		name: "large", title: fmt.Sprintf("One large layer, %d MB/s a connection", linkRate/1_000_000), rows: []row{r},
		clients: b.named(),
		figures: []figure{oneBlob, wallTime, connections},
		site:    b.registry(limitedLink(time.Millisecond)...), rounds: largeRounds, args: pullOne,
	})
}
