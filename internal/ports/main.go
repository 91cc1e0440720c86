// Command ports prepares runs of this module's tests with the code for other systems.
//
//	ports overlay -as openbsd -dir DIR PACKAGE...
//
// writes DIR/overlay.json for the flag -overlay of the go command. With it, the
// packages are built on this system from the files that the other system selects. The
// command finds these files by their build constraints, so no list of them is
// necessary. Code for every Unix compiles this way, but code that needs a system call
// that only the other system has does not. With -but NAME=SYSTEM, the files whose names
// begin with NAME are those that a third system selects.
//
//	ports leftout SYSTEM
//
// prints a pattern for the flag -skip of go test. It matches the tests that leftout.txt
// lists for the system, because they cannot run there.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ports:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 2 && args[0] == "leftout" {
		pattern, err := skipPattern(args[1])
		if err == nil {
			fmt.Println(pattern)
		}
		return err
	}
	if len(args) == 0 || args[0] != "overlay" {
		return fmt.Errorf("usage: ports overlay -as SYSTEM -dir DIR PACKAGE... | ports leftout SYSTEM")
	}
	flags := flag.NewFlagSet("ports overlay", flag.ContinueOnError)
	as := flags.String("as", "openbsd", "the `system` whose files are built")
	but := flags.String("but", "", "`NAME=SYSTEM`: files whose names begin with NAME are that system's")
	dir := flags.String("dir", "", "the `directory` that gets overlay.json and the changed files")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if *dir == "" || flags.NArg() == 0 {
		return fmt.Errorf("overlay needs -dir and at least one package directory")
	}
	o := overlay{as: *as, dir: *dir}
	if *but != "" {
		var ok bool
		if o.prefix, o.butAs, ok = strings.Cut(*but, "="); !ok {
			return fmt.Errorf("-but %q: want NAME=SYSTEM", *but)
		}
	}
	for _, pkg := range flags.Args() {
		if err := o.add(pkg); err != nil {
			return err
		}
	}
	return o.write()
}
