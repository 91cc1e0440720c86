// Command pull pulls container images by the kubelet's rules into an OCI image
// layout:
//
//	pull [flags] IMAGE...
//
// Without arguments it shows a pull on loopback: a private image for two architectures,
// two pull secrets of which the first is stale, and a second pull that fetches nothing.
//
// On a terminal, the last line shows the progress of all images, without colours if
// NO_COLOR is set. Otherwise each step is printed as one line, and with -json as one line
// of JSON.
//
// It exits with 0 if every image is complete in the store, 1 if an image is not, and 2
// for wrong usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run runs the program and returns its exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseFlags(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintln(stderr, "pull:", err)
		return 2
	case err == nil && len(args) == 0:
		err = demo(ctx, stdout)
	case err == nil:
		return pull(ctx, o, stdout, stderr)
	}
	if err != nil {
		fmt.Fprintln(stderr, "pull:", oneLine(err))
		return 1
	}
	return 0
}
