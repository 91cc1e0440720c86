// Command prepull pulls a list of images onto a node before a Pod needs them:
//
//	prepull [-o directory] [-parallel n] IMAGE...
//	prepull          (a demonstration on loopback)
//
// It pulls the images in parallel and prints a table in the order of the list. It exits
// with 0 if all images are in the layout, 1 if an image is missing, and 2 for wrong
// usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/transfer"
)

func main() {
	dir := flag.String("o", "images", "OCI image layout `directory` to store into")
	parallel := flag.Int("parallel", 4, "`number` of images pulled at a time")
	flag.Usage = func() {
		fmt.Fprint(os.Stderr, "usage: prepull [flags] IMAGE...\n       prepull    (a demonstration on loopback)\n\nflags:\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	if *parallel < 1 || flag.NArg() == 0 && flag.NFlag() > 0 {
		fmt.Fprintln(os.Stderr, "prepull: give images, and a -parallel of 1 or more; see -h")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if images := flag.Args(); len(images) > 0 {
		err = prepull(ctx, *dir, *parallel, images, os.Stdout, os.Stderr)
	} else {
		err = demo(ctx, *parallel, os.Stdout, os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "prepull:", err)
		os.Exit(1)
	}
}

// prepull pulls images with the node's credentials into the layout in dir. It writes a line
// to log for each finished image.
func prepull(ctx context.Context, dir string, parallel int, images []string, out, log io.Writer) error {
	store, err := layout.Open(dir, layout.Config{})
	if err != nil {
		return err
	}
	defer store.Close()
	node, err := credentials.FindFile(credentials.DockerPaths(), credentials.Rules{}) // empty if there is no file
	if err != nil {
		return err
	}
	rt, err := transfer.New(transfer.Config{Store: store})
	if err != nil {
		return err
	}
	p, err := puller.New(puller.Config{
		Runtime:  rt,
		Keyring:  node.WithHelpers(credentials.Exec{}),
		Parallel: parallel,
	})
	if err != nil {
		return err
	}
	start := time.Now()
	rows := pullAll(ctx, p, images, log)
	return summary(out, rows, time.Since(start))
}

// A row is the result for one image.
type row struct {
	image string
	puller.Result
}

// pullAll returns a row for each image, in the order of the list. PullAll itself yields
// results as they are finished.
func pullAll(ctx context.Context, p *puller.Puller, images []string, log io.Writer) []row {
	var requests []puller.Request
	for _, image := range images {
		requests = append(requests, puller.Request{Image: image})
	}
	done := map[string]puller.Result{} // an image that is listed twice has one result
	n := 0
	for req, res := range p.PullAll(ctx, slices.Values(requests)) {
		if first, twice := done[req.Image]; !twice || first.Err != nil || !res.Present {
			done[req.Image] = res
		}
		if req.Image == "" {
			continue // the context has ended, and this result is for all images that are not in done
		}
		n++
		fmt.Fprintf(log, "%d of %d: %s\n", n, len(images), req.Image)
	}
	rows := make([]row, 0, len(images))
	for _, image := range images {
		res, ok := done[image]
		if !ok { // the pull was interrupted before this image
			res.Err = context.Cause(ctx)
		}
		rows = append(rows, row{image, res})
	}
	return rows
}

// summary prints the table; its error counts the images that are missing.
func summary(out io.Writer, rows []row, took time.Duration) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "IMAGE\tSTATUS\tMIB\tDIGEST OR ERROR")
	for _, r := range rows {
		if r.Err == nil {
			status := "pulled"
			if r.Present {
				status = "present"
			}
			fmt.Fprintf(table, "%s\t%s\t%.1f\t%s\n", r.image, status, float64(r.Image.Size)/(1<<20), r.Image.Digest)
			continue
		}
		status, text := "failed", r.Err.Error()
		if perr := (*puller.Error)(nil); errors.As(r.Err, &perr) && perr.Reason != "" {
			status, text = string(perr.Reason), perr.Message() // as in a container's status
		}
		fmt.Fprintf(table, "%s\t%s\t\t%s\n", r.image, status, text)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	present := len(slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return r.Err != nil }))
	fmt.Fprintf(out, "\n%d of %d images are present after %s\n", present, len(rows), took.Round(time.Millisecond))
	if missing := len(rows) - present; missing > 0 {
		return fmt.Errorf("%d of %d images are missing", missing, len(rows))
	}
	return nil
}
