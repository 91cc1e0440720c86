package main

import "context"

// tlsRows returns the rows of the cold pulls, with the goals over TLS.
func tlsRows(b *bench) []row {
	rows := coldRows(b)
	for i := range rows {
		rows[i].goals = map[string][]goal{
			wallTime.name: {{most: 1.05, of: "ideal-pipe"}, {most: 1, of: bestPeer, faster: true}},
		}
	}
	rows[0].goals[oneBlob.name] = []goal{slowerThanHash}
	return rows
}

// runTLS compares cold pulls over TLS. The ideal uses as many connections for layers as the pull
// of pullkit before it.
func runTLS(ctx context.Context, b *bench) error {
	return b.compareRows(ctx, comparison{
		name: "tls", title: "Cold pulls over TLS", rows: tlsRows(b),
		clients: b.clientsThat(func(c client) bool { return c.name != "ideal-inline" }),
		figures: []figure{wallTime, cpuTime, carriers, oneBlob},
		site:    b.registry("-tls"), job: job{tls: true}, args: pullOne,
		before: func(c client, j *job, so runs) {
			if ours := so[pullkit]; c.ideal && len(ours) > 0 {
				j.connections = max(1, ours[len(ours)-1].counts.Carriers)
			}
		},
		notes: []string{"The ideal fetches over as many connections as pullkit did just before."},
	})
}
