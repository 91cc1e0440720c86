package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const (
	kib = 1 << 10
	mib = 1 << 20
)

// A scenario is a comparison of pulls that the flag -run can name.
type scenario struct {
	name   string
	images func(b *bench) []string // specs of the images that it needs
	run    func(ctx context.Context, b *bench) error
}

// scenarios returns all scenarios, in the order in which they run.
func scenarios() []scenario {
	return []scenario{
		{"cold", imagesOf(coldRows), runCold},
		{"tls", imagesOf(tlsRows), runTLS},
		{"limited", imagesOf(limitedRows), runLimited},
		{"large", largeImages, runLarge},
		{"cut", cutImages, runCut},
		{"killed", cutImages, runKilled},
		{"requests", requestImages, runRequests},
		{"many", manyImages, runMany},
		{"redirect", redirectImages, runRedirect},
		{"private", privateImages, runPrivate},
		{"wide", imagesOf(wideRows), runWide},
		{"wide-second", secondImages, runSecond},
		{"wide-large", imagesOf(wideLargeRows), runWideLarge},
		{"nginx-small", nginxSmallImages, runNginxSmall},
		{"nginx-large", largeImages, runNginxLarge},
		{"synced", requestImages, runSynced},
		{fleetName, fleetImages, runFleet},
		{"rootfs", imagesOf(rootfsRows), runRootFS},
		{"program", noImages, runProgram},
	}
}

func scenarioNames() []string {
	var names []string
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	return names
}

// pulls runs the scenarios that the flag -run matches. A pull that fails does not end it.
func (b *bench) pulls(ctx context.Context) error {
	var images []string
	for _, s := range scenarios() {
		if b.selected(s.name) {
			images = append(images, s.images(b)...) // scenarios may share an image
		}
	}
	if len(images) == 0 {
		return nil
	}
	if err := b.prepare(); err != nil {
		return err
	}
	slices.Sort(images)
	if err := b.makeImages(ctx, slices.Compact(images)); err != nil {
		return fmt.Errorf("making images: %w", err)
	}
	for _, s := range scenarios() {
		if !b.selected(s.name) {
			continue
		}
		if err := s.run(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// A row is a line of a scenario's tables: an image, and the goals for pullkit's figures.
type row struct {
	name     string
	image    string // repository; its tag is 1
	kind     string // of the image, as in spec; "" = plain
	layers   int
	size     int64 // of a layer
	parallel int   // how many images pullkit pulls at a time, if it pulls many
	goals    map[string][]goal
}

// spec returns the image as an argument of command registry.
func (r row) spec() string {
	if r.kind == "" {
		return fmt.Sprintf("%s=%dx%d", r.image, r.layers, r.size)
	}
	return fmt.Sprintf("%s=%s:%dx%d", r.image, r.kind, r.layers, r.size)
}

// bytes returns the size of all layers before gzip.
func (r row) bytes() int64 { return int64(r.layers) * r.size }

func imagesOf(rows func(b *bench) []row) func(b *bench) []string {
	return func(b *bench) []string {
		var specs []string
		for _, r := range rows(b) {
			specs = append(specs, r.spec())
		}
		return specs
	}
}

// sized returns a row for an image with layers of size bytes, or of fewer bytes with -short.
func (b *bench) sized(name, image string, layers int, size int64, goals map[string][]goal) row {
	if b.short {
		layers, size = min(layers, 10), max(size/256, 16*kib)
	}
	unit, amount := "KiB", size/kib
	switch {
	case size >= 1024*mib:
		unit, amount = "GiB", size/(1024*mib)
	case size >= mib:
		unit, amount = "MiB", size/mib
	}
	if name != "" {
		name += ": "
	}
	return row{name: fmt.Sprintf("%s%d x %d %s", name, layers, amount, unit), image: image, layers: layers, size: size, goals: goals}
}

// slowerThanHash is the goal for the requests for one blob on a fast link.
var slowerThanHash = goal{most: 2, why: "2 if the first connection is slower than the hash"}

func coldRows(b *bench) []row {
	return []row{
		b.sized("A", "a", 1, 1024*mib, map[string][]goal{
			wallTime.name:   {{most: 1.05, of: "ideal-pipe"}, {most: 1, of: bestPeer, faster: true}},
			cpuTime.name:    {{most: 0.95, of: bestPeer}},
			peakMemory.name: {{most: 16}, {most: 15.5, why: "15 when rounded, as the base"}},
			oneBlob.name:    {slowerThanHash},
		}),
		b.sized("B", "b", 8, 128*mib, map[string][]goal{
			wallTime.name:   {{most: 1.05, of: "ideal-pipe"}, {most: 1, of: bestPeer, faster: true}},
			cpuTime.name:    {{most: 0.95, of: bestPeer}},
			peakMemory.name: {{most: 20}, {most: 18.5, why: "18 when rounded, as the base"}},
		}),
		b.sized("C", "c", 100, mib, map[string][]goal{
			wallTime.name:   {{most: 1.05, of: "ideal-inline"}, {most: 1, of: bestPeer}},
			peakMemory.name: {{most: 20}, {most: 17.5, why: "17 when rounded, as the base"}},
		}),
	}
}

func runCold(ctx context.Context, b *bench) error {
	return b.compareRows(ctx, comparison{
		name: "cold", title: "Cold pulls", rows: coldRows(b), clients: b.clients(),
		figures: []figure{wallTime, cpuTime, peakMemory, oneBlob},
		site:    b.registry(),
		args:    pullOne,
	})
}

// The limited link: linkRate is how many bytes a second a connection carries, and linkDelay how
// much longer its set-up and each request take.
const (
	linkRate  = 60_000_000
	linkDelay = 20 * time.Millisecond
)

// limitedLink returns the registry's flags for the limited link.
func limitedLink(delay time.Duration) []string {
	return []string{"-rate", fmt.Sprint(linkRate), "-delay", delay.String()}
}

func limitedRows(b *bench) []row {
	of := func(most float64) map[string][]goal {
		return map[string][]goal{wallTime.name: {{most: most, of: bestPeer}}}
	}
	return []row{
		b.sized("", "e", 1, 256*mib, of(0.28)),
		b.sized("", "f", 8, 32*mib, of(0.80)),
		b.sized("", "g", 100, mib, of(0.60)),
	}
}

func runLimited(ctx context.Context, b *bench) error {
	delay := linkDelay
	if b.short {
		delay = time.Millisecond
	}
	return b.compareRows(ctx, comparison{
		name:  "limited",
		title: fmt.Sprintf("Link limited to %d MB/s a connection, %v a request", linkRate/1_000_000, delay),
		rows:  limitedRows(b), clients: b.realClients(),
		figures: []figure{wallTime, connections},
		site:    b.registry(limitedLink(delay)...),
		args:    pullOne,
	})
}
