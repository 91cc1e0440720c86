// Command serve gives the images of a store to other nodes, as a registry for pulling only:
//
//	serve -store DIR [-listen ADDR] [flags]
//	serve            (a demonstration on loopback)
//
// DIR is an OCI image layout. By default only what is public by the records of a Puller is
// served, which -records names. The example pull keeps no records, so its images are served
// only with -all. With -from REGISTRY missing images of that registry are pulled when a
// client asks for them, and recorded.
//
// It serves until it is interrupted. It exits with 0 then, 1 if it cannot serve, and 2 for
// wrong usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/serve"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options are the settings from the command line.
type options struct {
	store, records, listen string
	registry               string
	from                   []string
	plainHTTP, all         bool
	verbose                bool
}

func parseFlags(args []string, stderr io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, "usage: serve -store DIR [flags]\n       serve            (a demonstration on loopback)\n\n"+
			"Gives the images of a store to other nodes. Without -all it serves only what is public by the\nrecords: what was pulled from the registry itself without a credential.\n\nflags:\n")
		flags.PrintDefaults()
	}
	flags.StringVar(&o.store, "store", "", "OCI image layout `directory` with the images")
	flags.StringVar(&o.records, "records", "", "`directory` with the records of the Puller that fills the store (default: DIR.records)")
	flags.StringVar(&o.listen, "listen", "127.0.0.1:5050", "`address` to listen on")
	flags.StringVar(&o.registry, "registry", "docker.io", "`registry` of names that have none")
	flags.Func("from", "`registry` whose images are pulled if they are missing; repeatable", func(s string) error {
		o.from = append(o.from, s)
		return nil
	})
	flags.BoolVar(&o.plainHTTP, "plain-http", false, "use plain http for the registries of -from")
	flags.BoolVar(&o.all, "all", false, "serve everything in the store to every client, also private images")
	flags.BoolVar(&o.verbose, "v", false, "log each request")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.store == "" || flags.NArg() > 0 {
		return o, errors.New("give the store with -store DIR, and no other arguments than flags")
	}
	if o.records == "" {
		o.records = strings.TrimRight(o.store, "/\\") + ".records"
	}
	return o, nil
}

// run runs the program and returns its exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fail := func(status int, err error) int {
		fmt.Fprintln(stderr, "serve:", err)
		return status
	}
	if len(args) == 0 {
		if err := demo(ctx, stdout); err != nil {
			return fail(1, err)
		}
		return 0
	}
	o, err := parseFlags(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return fail(2, err)
	}
	if err := listen(ctx, o, stdout, stderr); err != nil {
		return fail(1, err)
	}
	return 0
}

// listen serves until ctx ends. It prints the address to stdout when it listens.
func listen(ctx context.Context, o options, stdout, stderr io.Writer) error {
	store, err := layout.Open(o.store, layout.Config{})
	if err != nil {
		return err
	}
	defer store.Close()
	if _, err := os.Stat(o.records); errors.Is(err, fs.ErrNotExist) && !o.all && len(o.from) == 0 {
		fmt.Fprintf(stderr, "serve: warning: there are no records in %s, so no image is known to be public, and each request gets 404; see -records, -from and -all\n", o.records)
	}
	recs, err := records.Open(o.records)
	if err != nil {
		return err
	}
	defer recs.Close()
	level := slog.LevelInfo
	if o.verbose {
		level = slog.LevelDebug
	}
	conf := serve.Config{
		Store: store, Records: recs, DefaultRegistry: o.registry,
		Logger: slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})),
	}
	if o.all {
		conf.Allow = func(*http.Request, reference.Reference) error { return nil }
	}
	if len(o.from) > 0 {
		if conf.Puller, err = newPuller(store, recs, o); err != nil {
			return err
		}
		conf.PullFrom = o.from
	}
	h, err := serve.New(conf)
	if err != nil {
		return err
	}
	var config net.ListenConfig
	ln, err := config.Listen(ctx, "tcp", o.listen)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "serving %s at http://%s\n", o.store, ln.Addr())
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func newPuller(store *layout.Layout, recs *records.Dir, o options) (*puller.Puller, error) {
	var plain []string
	if o.plainHTTP {
		plain = o.from
	}
	source, err := registry.New(registry.Config{PlainHTTP: plain, UserAgent: "pullkit-example-serve"})
	if err != nil {
		return nil, err
	}
	rt, err := transfer.New(transfer.Config{Store: store, Source: source})
	if err != nil {
		return nil, err
	}
	return puller.New(puller.Config{Runtime: rt, Records: recs, Parallel: 4})
}
