package transfer_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/transfer"
)

// A bar shows how far several pulls are together. Each image has an equal part of the bar,
// so the bar has its full length from the start, before the sizes of all images are known.
type bar struct {
	out    io.Writer
	images int
	mu     sync.Mutex
	parts  map[uint64]float64 // of each call of the Puller, from 0 to 1
}

func (b *bar) event(e puller.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case e.Progress != nil && e.Progress.Total > 0:
		b.parts[e.Call] = float64(e.Progress.TotalDone) / float64(e.Progress.Total)
	case e.Reason == puller.EventPulled, e.Reason == puller.EventFailed, e.Reason == puller.EventInspectFailed:
		b.parts[e.Call] = 1
	default:
		return
	}
	done := 0.0
	for _, part := range b.parts {
		done += part
	}
	done /= float64(b.images)
	fmt.Fprintf(b.out, "\r[%-20s] %3.0f%%", strings.Repeat("=", int(20*done)), 100*done)
}

// prepull pulls images into the layout in dir, four at a time, and draws a bar. The error
// joins those of the images that are missing.
func prepull(ctx context.Context, dir string, images []string, out io.Writer) error {
	store, err := layout.Open(dir, layout.Config{})
	if err != nil {
		return err
	}
	defer store.Close()
	rt, err := transfer.New(transfer.Config{Store: store})
	if err != nil {
		return err
	}
	b := &bar{out: out, images: len(images), parts: map[uint64]float64{}}
	p, err := puller.New(puller.Config{Runtime: rt, Parallel: 4, Events: b.event})
	if err != nil {
		return err
	}
	var requests []puller.Request
	for _, image := range images {
		requests = append(requests, puller.Request{Image: image})
	}
	var missing []error
	for _, result := range p.PullAll(ctx, slices.Values(requests)) {
		missing = append(missing, result.Err) // nil for an image that was pulled
	}
	return errors.Join(missing...)
}

// A program pulls 20 images onto a node before Pods need them, with a bar.
func Example_bar() {
	images, dir, stop := twenty()
	defer stop()
	var screen strings.Builder // os.Stderr
	err := prepull(context.Background(), dir, images, &screen)
	draws := strings.Split(screen.String(), "\r")
	fmt.Println(draws[len(draws)-1], errors.Is(err, content.ErrNotFound))
	// Output: [====================] 100% true
}

// twenty starts a registry with 19 images. It returns their names, one name that the
// registry does not have, and a new directory. stop ends the registry and removes the
// directory.
func twenty() (images []string, dir string, stop func()) {
	reg, err1 := pullertest.Start(pullertest.Config{})
	dir, err2 := os.MkdirTemp("", "bar-example-")
	if err := cmp.Or(err1, err2); err != nil {
		log.Fatal(err)
	}
	for i := range 19 {
		name := fmt.Sprintf("team/service-%d:v1", i)
		if _, err := reg.PutImage(name, pullertest.ImageSpec{Layers: []int64{100_000, 1000}, Seed: uint64(i)}); err != nil {
			log.Fatal(err)
		}
		images = append(images, reg.Host()+"/"+name)
	}
	return append(images, reg.Host()+"/team/absent:v1"), dir, func() { reg.Close(); os.RemoveAll(dir) }
}
