package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/gc"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/transfer"
)

// demo pulls five images into a layout, one an hour, on a disk with room for six. The first
// two share a layer. The first image is used once more later, the second one is in use all
// the time, and another program fills the disk.
func demo(ctx context.Context, out io.Writer) error {
	reg, err := pullertest.Start(pullertest.Config{Addr: "127.0.0.1:0"})
	if err != nil {
		return err
	}
	defer reg.Close()
	dir, err := os.MkdirTemp("", "gc-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	store, err := layout.Open(dir, layout.Config{})
	if err != nil {
		return err
	}
	defer store.Close()

	const layer = 1_000_000
	start, others := time.Date(2026, 11, 29, 6, 0, 0, 0, time.UTC), int64(0)
	var hours atomic.Int64 // since start; the collector asks in goroutines of its own
	images := gc.FromStore(store)
	busy, err := inUse([]string{reg.Host() + "/team/app-2:v1"})
	if err != nil {
		return err
	}
	collector, err := gc.New(gc.Config{
		Images: images, InUse: busy, Now: func() time.Time { return start.Add(time.Duration(hours.Load()) * time.Hour) },
		Usage: func(context.Context) (gc.Usage, error) {
			return gc.Usage{Capacity: 6 * layer, Available: 6*layer - others - sizeOf(store)}, nil
		},
	})
	if err != nil {
		return err
	}
	defer collector.Close()
	rt, err := transfer.New(transfer.Config{Store: store})
	if err != nil {
		return err
	}
	p, err := puller.New(puller.Config{Runtime: rt, Used: func(image puller.Image) { collector.Used(image.ID) }})
	if err != nil {
		return err
	}
	pull := func(n int) error {
		_, err := p.Pull(ctx, puller.Request{Image: fmt.Sprintf("%s/team/app-%d:v1", reg.Host(), n)})
		hours.Add(1)
		return err
	}
	for n := 1; n <= 5; n++ {
		if _, err := reg.PutImage(fmt.Sprintf("team/app-%d:v1", n), pullertest.ImageSpec{Layers: []int64{layer, int64(n) * 1000}, Seed: uint64(max(n, 2))}); err != nil {
			return err
		}
		if err := pull(n); err != nil {
			return err
		}
	}
	if err := pull(1); err != nil { // the image is present, and this call uses it
		return err
	}
	others = 3 * layer / 2
	fmt.Fprintln(out, "What a round would do, and why:")
	if err := printExplanation(ctx, collector, out); err != nil {
		return err
	}
	fmt.Fprintln(out, "\nThe round:")
	report, err := collector.Round(ctx)
	printReport(report, out)
	return err
}

// sizeOf returns the size of all blobs.
func sizeOf(store *layout.Layout) (size int64) {
	names, _ := os.ReadDir(store.Dir() + "/blobs/sha256")
	for _, name := range names {
		if info, err := name.Info(); err == nil {
			size += info.Size()
		}
	}
	return size
}
