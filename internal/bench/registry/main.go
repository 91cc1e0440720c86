// Command registry makes images with random content and serves them, for the comparisons of
// pulls:
//
//	registry make -dir DIR IMAGE...
//	registry serve -dir DIR [-tls] [-tokens] [-redirect]
//		[-rate BYTES] [-all-rate BYTES] [-delay TIME] [-cut BYTES [-reset]] [-tell BYTES]
//		[-round-trip TIME [-shared-rate BYTES] [-slow-start]]
//
// It serves on loopback, and first prints its address. For each line on its standard input it
// prints the counts of requests since the line before, as JSON. It ends when its standard input
// ends.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/pullkit/pullkit/internal/bench/wan"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "registry:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("usage: registry make|serve -dir DIR")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	dir := flags.String("dir", "", "`directory` of the images")
	switch args[0] {
	case "make":
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return makeImages(*dir, flags.Args())
	case "serve":
		var c setup
		var distance wan.Link
		roundTrip := flags.Duration("round-trip", 0, "put a wide-area link with this round trip `time` before all servers")
		flags.Int64Var(&distance.Rate, "shared-rate", 0, "`bytes` a second that all connections of that link carry together, 0 = no limit")
		flags.BoolVar(&distance.SlowStart, "slow-start", false, "let each connection of that link start with a small window")
		flags.BoolVar(&c.tls, "tls", false, "use https, with the certificate in the directory")
		flags.BoolVar(&c.tokens, "tokens", false, "require tokens of another server")
		flags.BoolVar(&c.redirect, "redirect", false, "redirect each request for a blob to a signed URL of another host")
		flags.Int64Var(&c.rate, "rate", 0, "`bytes` a second that a connection carries, 0 = no limit")
		flags.Int64Var(&c.all, "all-rate", 0, "`bytes` a second that all connections carry together, 0 = no limit")
		flags.DurationVar(&c.delay, "delay", 0, "`time` that a connection's set-up and each request take longer")
		flags.Int64Var(&c.cut, "cut", 0, "end each connection after so many `bytes`, 0 = never")
		flags.BoolVar(&c.reset, "reset", false, "end connections by a reset")
		flags.Int64Var(&c.tell, "tell", 0, "print a line \"sent\" whenever so many more `bytes` went out, 0 = never")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		if *roundTrip > 0 {
			distance.Delay = *roundTrip / 2
			c.wan = &distance
		}
		return serve(*dir, c, os.Stdin, os.Stdout)
	}
	return fmt.Errorf("%q is not a command", args[0])
}
