// Command registry makes images of random content and serves them, for the
// comparison of pulls:
//
//	registry make -dir DIR IMAGE...
//	registry serve -dir DIR [-rate BYTES] [-delay TIME] [-cut BYTES [-reset]] [-tell BYTES]
//
// It serves on loopback, prints the address first, answers each line on its
// standard input with what was asked of it since the last one, and ends with its
// standard input.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "registry:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("wrong usage: want registry make|serve -dir DIR")
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
		var l link
		flags.Int64Var(&l.rate, "rate", 0, "`bytes` a second that a connection carries, 0 = no limit")
		flags.DurationVar(&l.delay, "delay", 0, "`time` that a connection's set-up and each request take longer")
		flags.Int64Var(&l.cut, "cut", 0, "end each connection after so many `bytes`, 0 = never")
		flags.BoolVar(&l.reset, "reset", false, "end it by a reset")
		flags.Int64Var(&l.tell, "tell", 0, "print a line \"sent\" whenever so many more `bytes` went out, 0 = never")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return serve(*dir, l, os.Stdin, os.Stdout)
	}
	return fmt.Errorf("no such command: %q", args[0])
}
