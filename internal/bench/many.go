package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const manyImage = "tiny"

func manyImages(b *bench) []string { return []string{fmt.Sprintf("%s=tiny:%d", manyImage, b.many)} }

// runMany compares those clients that pull many images by one process.
func runMany(ctx context.Context, b *bench) error {
	var clients []client
	for _, c := range b.clients() {
		if c.many != nil {
			clients = append(clients, c)
		}
	}
	var tags []string
	for i := range b.many {
		tags = append(tags, fmt.Sprint(i))
	}
	list := filepath.Join(b.dir, "list")
	return b.compareRows(ctx, comparison{
		name:  "many",
		title: "Many tiny images into one layout",
		rows: []row{{name: fmt.Sprintf("%d images", b.many), image: manyImage, goals: map[string][]goal{
			wallTime.name:   {{most: 0.10, of: "crane"}},
			peakMemory.name: {{most: 32}},
		}}},
		clients: clients,
		figures: []figure{wallTime, cpuTime, peakMemory},
		args: func(c client, j job) ([]string, error) {
			j.tags, j.list = tags, list
			return c.many(j), os.WriteFile(list, []byte(strings.Join(j.names(), "\n")+"\n"), 0o644)
		},
	})
}
