// Command bars pulls images and draws a bar for each blob, from the events of a
// Puller, with github.com/vbauerster/mpb:
//
//	bars [-o directory] IMAGE...
//	bars          (a demonstration on loopback)
//
// The command is a module of its own, so that other programs do not get its dependencies.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"

	"github.com/vbauerster/mpb/v8"

	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/transfer"
)

func main() {
	dir := flag.String("o", "images", "OCI image layout `directory` to store into")
	flag.Usage = func() {
		fmt.Fprint(os.Stderr, "usage: bars [-o directory] IMAGE...\n       bars          (a demonstration on loopback)\n\nflags:\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 && flag.NFlag() > 0 {
		fmt.Fprintln(os.Stderr, "bars: no image is named; give one or more, or no arguments for a demonstration")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if flag.NArg() > 0 {
		err = pull(ctx, *dir, nil, flag.Args(), os.Stdout)
	} else {
		err = demo(ctx, 6<<20, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bars:", err)
		os.Exit(1)
	}
}

// pull pulls images from source into the layout in dir. If source is nil, it pulls from the
// registries in the images' names.
func pull(ctx context.Context, dir string, source content.Source, images []string, out io.Writer, options ...mpb.ContainerOption) error {
	store, err := layout.Open(dir, layout.Config{})
	if err != nil {
		return err
	}
	defer store.Close()
	// A full bar moves up and stays on the screen. mpb reads the terminal's width each time
	// it draws. If out is not a terminal, it draws nothing.
	progress := mpb.New(append([]mpb.ContainerOption{mpb.WithOutput(out), mpb.PopCompletedMode()}, options...)...)
	bars := newBars(progress)
	rt, err := transfer.New(transfer.Config{Store: store, Source: source})
	if err != nil {
		return err
	}
	p, err := puller.New(puller.Config{
		Runtime:  rt,
		Parallel: 3,
		Events:   bars.event,
	})
	if err != nil {
		return err
	}
	var requests []puller.Request
	for _, image := range images {
		requests = append(requests, puller.Request{Image: image})
	}
	var lines []string
	missing := len(images)
	for _, res := range p.PullAll(ctx, slices.Values(requests)) {
		if res.Err != nil {
			lines = append(lines, res.Err.Error()) // it names the image
			continue
		}
		missing--
		lines = append(lines, fmt.Sprintf("%s %s", res.Image.Ref, res.Image.Digest))
	}
	bars.end()
	progress.Wait() // until the last bars are drawn
	for _, line := range lines {
		fmt.Fprintln(out, line)
	}
	if missing > 0 {
		return fmt.Errorf("%d of %d images are missing", missing, len(images))
	}
	return nil
}
