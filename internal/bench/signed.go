package main

import (
	"context"
	"fmt"
	"time"
)

// The image of scenario redirect, and the repositories of scenario private.
const (
	redirectImage = "redirect"
	privateImage  = "private" // command registry requires a user for names with this prefix
	privateCount  = 20
)

func redirectRow(b *bench) row {
	return b.sized("", redirectImage, 1, 200*mib, map[string][]goal{atRegistry.name: {{most: 3}}})
}

func redirectImages(b *bench) []string { return []string{redirectRow(b).spec()} }

// runRedirect counts the requests to a registry that redirects each blob to a signed URL of
// another server.
func runRedirect(ctx context.Context, b *bench) error {
	return b.compareRows(ctx, comparison{
		name: "redirect", title: fmt.Sprintf("Blobs redirected to signed URLs, %d MB/s a connection", linkRate/1_000_000), rows: []row{redirectRow(b)}, clients: b.realClients(),
		figures: []figure{atRegistry, requests},
		site:    b.registry(append(limitedLink(time.Millisecond), "-tls", "-redirect")...), job: job{tls: true}, args: pullOne,
	})
}

func privateImages(*bench) []string {
	return []string{fmt.Sprintf("%s=shared:%d", privateImage, privateCount)}
}

// runPrivate counts the requests of one process for private repositories of one registry.
func runPrivate(ctx context.Context, b *bench) error {
	goals := map[string][]goal{requests.name: {{most: 62}}}
	return b.compareRows(ctx, comparison{
		name: "private", title: fmt.Sprintf("%d private repositories of one registry, one process", privateCount),
		rows: []row{
			{name: "4 at a time", image: privateImage, parallel: 4, goals: goals},
			{name: "one after another", image: privateImage, parallel: 1, goals: goals},
		},
		clients: b.clientsThat(func(c client) bool { return c.many != nil }),
		figures: []figure{requests},
		site:    b.registry("-tls", "-tokens"), job: job{tls: true},
		args: func(c client, j job) ([]string, error) {
			if err := b.logIn(j.host); err != nil {
				return nil, err
			}
			for i := range privateCount {
				j.repository = fmt.Sprint(privateImage, i)
				j.names = append(j.names, j.name())
			}
			return b.listed(c, j)
		},
		notes: []string{"Each image has a config of its own and one layer that all share. crane takes one image after another."},
	})
}
