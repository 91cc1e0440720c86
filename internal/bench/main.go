// Command bench compares pullkit with its peers in one run and prints the result
// as Markdown: see README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // a reader that is gone is an error of writing, so that all is removed
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options is the command line, checked.
type options struct {
	rounds int
	many   int
	short  bool
	dir    string
	base   string // commit of ours to compare with, "" = none
	all    bool   // rounds of what is repeated twenty times
	line   string // as it was typed

	only, onlyClients *regexp.Regexp // comparisons, of those in microNames and scenarios; and clients
}

// microNames are the comparisons of single functions, which command micro makes.
var microNames = []string{"names", "indexes", "keyrings"}

func parseFlags(args []string, stderr io.Writer) (options, error) {
	o := options{line: strings.Join(args, " ")}
	var run, clients string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&o.rounds, "n", 0, "`rounds` of pulls; medians of them are printed (default 3, with -short 1)")
	flags.IntVar(&o.many, "many", 0, "`images` of the scenario many (default 2000, with -short 20)")
	flags.BoolVar(&o.short, "short", false, "measure little, to see that all works: the figures say nothing then")
	flags.StringVar(&o.dir, "dir", os.TempDir(), "`directory` to work in; what is made there is removed at the end")
	flags.StringVar(&run, "run", "", "make only comparisons whose name matches this `regexp`: "+
		strings.Join(slices.Concat(microNames, scenarioNames()), ", "))
	flags.StringVar(&clients, "clients", "", "let only clients whose name matches this `regexp` pull")
	flags.StringVar(&o.base, "base", "", "`commit` of this repository that is built and compared, too")
	flags.BoolVar(&o.all, "all", false, "make all twenty rounds of nginx-small, and not only those of -n")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("%q: no arguments but flags are taken", flags.Arg(0))
	}
	rounds, many := 3, 2000
	if o.short {
		rounds, many = 1, 20
	}
	if o.rounds == 0 {
		o.rounds = rounds
	}
	if o.many == 0 {
		o.many = many
	}
	if o.rounds < 0 || o.many < 0 {
		return o, errors.New("-n and -many want 1 or more")
	}
	var err error
	if o.only, err = regexp.Compile(run); err != nil {
		return o, fmt.Errorf("-run: %w", err)
	}
	if !slices.ContainsFunc(slices.Concat(microNames, scenarioNames()), o.only.MatchString) {
		return o, fmt.Errorf("-run %q: no such comparison", run)
	}
	if o.onlyClients, err = regexp.Compile(clients); err != nil {
		return o, fmt.Errorf("-clients: %w", err)
	}
	return o, nil
}

// run is the program; it returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseFlags(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 2
	}
	if err := compare(ctx, o, stdout, stderr); err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	return 0
}

// compare makes a work directory, in it all that is needed, and every comparison
// that o asks for. The directory is removed however it ends.
func compare(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	b := &bench{options: o, stdout: stdout, stderr: stderr}
	if b.dir, err = os.MkdirTemp(o.dir, "pullkit-bench-"); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, os.RemoveAll(b.dir))
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
	}()
	if err := b.build(ctx); err != nil {
		return fmt.Errorf("building the programs: %w", err)
	}
	if err := b.print(b.machine(ctx)); err != nil {
		return err
	}
	if err := b.micro(ctx); err != nil {
		return fmt.Errorf("micro: %w", err)
	}
	if err := b.pulls(ctx); err != nil {
		return err
	}
	if err := b.print(b.allGoals()); err != nil {
		return err
	}
	if b.failed > 0 {
		return errOurs
	}
	return nil
}
