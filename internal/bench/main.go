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
	// If the reader of the output ends, writing fails. SIGPIPE must not end the process before
	// the work directory is removed.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options are the settings from the command line, already checked.
type options struct {
	rounds int
	many   int
	short  bool
	dir    string
	base   string // commit of this repository to compare with, "" = none
	all    bool   // all twenty rounds of nginx-small
	line   string // the arguments as they were typed

	only        *regexp.Regexp // comparisons, by their names in microNames and scenarios
	onlyClients *regexp.Regexp // clients, by their names
}

// microNames are the comparisons of single functions, which command micro does.
var microNames = []string{"names", "indexes", "keyrings"}

func parseFlags(args []string, stderr io.Writer) (options, error) {
	o := options{line: strings.Join(args, " ")}
	var run, clients string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&o.rounds, "n", 0, "`rounds` of pulls; medians of them are printed (default 3, with -short 1)")
	flags.IntVar(&o.many, "many", 0, "`images` of the scenario many (default 2000, with -short 20)")
	flags.BoolVar(&o.short, "short", false, "measure little, to see whether all works; the figures then mean nothing")
	flags.StringVar(&o.dir, "dir", os.TempDir(), "`directory` to work in; what is made there is removed at the end")
	flags.StringVar(&run, "run", "", "do only comparisons whose name matches this `regexp`: "+
		strings.Join(slices.Concat(microNames, scenarioNames()), ", "))
	flags.StringVar(&clients, "clients", "", "compare only clients whose name matches this `regexp`")
	flags.StringVar(&o.base, "base", "", "`commit` of this repository whose program is compared too")
	flags.BoolVar(&o.all, "all", false, "do all twenty rounds of nginx-small, and not only five")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("%q: there are only flags, and no other arguments", flags.Arg(0))
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
		return o, errors.New("-n and -many must be 1 or more")
	}
	var err error
	if o.only, err = regexp.Compile(run); err != nil {
		return o, fmt.Errorf("-run: %w", err)
	}
	if !slices.ContainsFunc(slices.Concat(microNames, scenarioNames()), o.only.MatchString) {
		return o, fmt.Errorf("-run %q matches no comparison", run)
	}
	if o.onlyClients, err = regexp.Compile(clients); err != nil {
		return o, fmt.Errorf("-clients: %w", err)
	}
	return o, nil
}

// run runs the program and returns its exit status.
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

// compare does every comparison that o asks for. All that it makes is in one directory, which
// it removes at the end, also after an error.
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
