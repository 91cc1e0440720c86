// Command pull pulls container images by the kubelet's rules into an OCI image
// layout:
//
//	pull [flags] IMAGE...
//
// Without arguments it shows the whole of it on loopback: a private image for two
// architectures, two pull secrets of which the first is stale, and a second pull
// that fetches nothing.
//
// On a terminal one line at the bottom shows how far all images are, without colours
// if NO_COLOR is set; elsewhere each step has a line, with -json one of JSON.
//
// It exits with 0 when every image is whole in the store, 1 when not, 2 for
// wrong usage.
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

// run is the program; it returns the exit status.
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
