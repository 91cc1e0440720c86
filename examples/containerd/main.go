// Command containerd pulls container images by the kubelet's rules into containerd, where the
// kubelet, crictl and ctr find them:
//
//	containerd -address SOCKET [-namespace k8s.io] [-pin] [flags] IMAGE...
//
// The kubelet takes an image that it did not pull itself for a preloaded one, and every Pod of
// the node may use it without a secret. So in the kubelet's namespace the program refuses
// images that only a secret opens. With -private it puts them there too.
//
// What a pull that fails or is killed has fetched stays in containerd for a day. The next run
// goes on from there, also within a layer. The program needs root, because only root may use
// the socket of containerd.
//
// It exits with 0 if every image is complete in containerd, 1 if an image is not, and 2 for
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

// run runs the program and returns its exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseFlags(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(stderr, "containerd:", oneLine(err))
		return 2
	}
	ok, err := pull(ctx, o, stdout, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "containerd:", oneLine(err))
	}
	if err != nil || !ok {
		return 1
	}
	return 0
}
