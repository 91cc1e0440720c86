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

// runMany compares the clients that can pull many images by one process.
func runMany(ctx context.Context, b *bench) error {
	return b.compareRows(ctx, comparison{
		name:  "many",
		title: "Many tiny images into one layout",
		rows: []row{{name: fmt.Sprintf("%d images", b.many), image: manyImage, goals: map[string][]goal{
			wallTime.name:   {{most: 0.12, of: "crane"}},
			peakMemory.name: {{most: 32}},
		}}},
		clients: b.clientsThat(func(c client) bool { return c.many != nil }),
		site:    b.registry(),
		figures: []figure{wallTime, cpuTime, peakMemory},
		args: func(c client, j job) ([]string, error) {
			j.parallel = 32
			for i := range b.many {
				j.tag = fmt.Sprint(i)
				j.names = append(j.names, j.name())
			}
			return b.listed(c, j)
		},
	})
}

// listed returns the arguments with which a client pulls many images, and writes the file with
// their names.
func (b *bench) listed(c client, j job) ([]string, error) {
	j.list = filepath.Join(b.dir, "list")
	return c.many(j), os.WriteFile(j.list, []byte(strings.Join(j.names, "\n")+"\n"), 0o644)
}
