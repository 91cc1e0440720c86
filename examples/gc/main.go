// Command gc removes images from an OCI image layout as the kubelet removes them from a node:
//
//	gc -store DIR [flags] [IMAGE...]    (the images are in use)
//	gc                                  (a demonstration on loopback)
//
// It does one round; run it every few minutes. Give the images in use by digest (sha256:... or
// NAME@sha256:...), so that they also stay after their tags have moved to other images. A tag
// keeps only the image that it leads to now. It exits with 0 if nothing is left to do, 1 if too
// little space became free or something failed, and 2 for wrong usage. -explain says what a
// round would do with each listed image, and why, and changes nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"os"
	"os/signal"
	"slices"
	"strings"

	"github.com/pullkit/pullkit/puller/gc"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/reference"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, out, errs io.Writer) int {
	flags := flag.NewFlagSet("gc", flag.ContinueOnError)
	flags.SetOutput(errs)
	dir := flags.String("store", "", "OCI image layout `directory`")
	explain := flags.Bool("explain", false, "say what a round would do, and change nothing")
	all := flags.Bool("all", false, "remove all images that are neither in use nor young, even if there is enough space")
	var cfg gc.Config
	flags.IntVar(&cfg.High, "high", 85, "free space if `percent` of the file system is used")
	flags.IntVar(&cfg.Low, "low", 80, "free space until only this `percent` of the file system is used")
	flags.DurationVar(&cfg.MinAge, "min-age", 0, "keep images that came or were used less than this `time` ago, such as 2m or 24h; 0 means 2m, and a negative time means that no image is too young")
	flags.DurationVar(&cfg.MaxAge, "max-age", 0, "remove images that were not used for this `time`, such as 720h; 0 is no limit")
	flags.BoolVar(&cfg.AsKubelet, "kubelet", false, "decide as the kubelet does: without a memory of earlier runs, and with a shared layer in the size of each image that has it")
	flags.Usage = func() {
		fmt.Fprint(errs, "usage: gc -store DIR [flags] [IMAGE...]    (the images are in use; a digest keeps one whose tag has moved)\n       gc                                  (a demonstration on loopback)\n\nflags:\n")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	switch {
	case len(args) == 0:
		err = demo(ctx, out)
	case *dir == "":
		fmt.Fprintln(errs, "gc: give the layout with -store; see -h")
		return 2
	default:
		if cfg.InUse, err = inUse(flags.Args()); err != nil {
			fmt.Fprintln(errs, "gc:", err)
			return 2
		}
		cfg.High, cfg.Low = percent(cfg.High), percent(cfg.Low)
		err = collect(ctx, *dir, cfg, *explain, *all, out)
	}
	if err != nil {
		fmt.Fprintln(errs, err)
		return 1
	}
	return 0
}

// percent returns a percentage as the fields of gc.Config have it: -1 is 0 percent, because a
// zero field means the default.
func percent(n int) int {
	if n == 0 {
		return -1
	}
	return n
}

// inUse returns the function that yields the images in use. A name that does not parse is an
// error, because it would keep no image.
func inUse(images []string) (func(context.Context) iter.Seq2[string, error], error) {
	for _, image := range images {
		if _, err := reference.Parse(image); err != nil && !strings.HasPrefix(image, "sha256:") {
			return nil, err
		}
	}
	return func(context.Context) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			slices.Values(images)(func(image string) bool { return yield(image, nil) })
		}
	}, nil
}

// collect does one round in the layout in dir, or explains it.
func collect(ctx context.Context, dir string, cfg gc.Config, explain, all bool, out io.Writer) error {
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("gc: %w", err) // a mistyped path must not become a layout
	}
	store, err := layout.Open(dir, layout.Config{})
	if err != nil {
		return err
	}
	defer store.Close()
	cfg.Images = gc.FromStore(store)
	collector, err := gc.New(cfg)
	if err != nil {
		return err
	}
	defer collector.Close()
	if explain {
		return printExplanation(ctx, collector, out)
	}
	round := collector.Round
	if all {
		round = collector.RemoveUnused
	}
	report, err := round(ctx)
	printReport(report, out)
	return err
}

func printExplanation(ctx context.Context, collector *gc.Collector, out io.Writer) error {
	e, err := collector.Explain(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d%% of the file system is used; a round has to free %d bytes\n", e.Usage.Percent(), e.ToFree)
	for _, verdict := range e.Images {
		fmt.Fprintln(out, verdict)
	}
	return nil
}

func printReport(report gc.Report, out io.Writer) {
	for _, removed := range report.Removed {
		name := removed.Image.ID
		if len(removed.Image.Names) > 0 {
			name = removed.Image.Names[0]
		}
		fmt.Fprintf(out, "removed %q for %s: %d bytes\n", name, removed.Reason, removed.Freed)
	}
	if report.Pruned > 0 {
		fmt.Fprintf(out, "removed content that no image needs: %d bytes\n", report.Pruned)
	}
	fmt.Fprintf(out, "images removed: %d, bytes that became free: %d\n", len(report.Removed), report.Freed)
}
