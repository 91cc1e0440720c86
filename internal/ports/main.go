// Command ports prepares runs of this module's tests as other systems run them.
//
//	ports overlay -as openbsd -dir DIR PACKAGE...
//
// writes DIR/overlay.json for the flag -overlay of the go command: with it, the
// packages are built on this system from the files that the other system selects.
// It finds these files by their build constraints, so nobody keeps a list. Code that
// needs a system call of the other system alone does not compile this way; code that
// is written for every Unix does. With -but NAME=SYSTEM the files whose names begin
// with NAME are those of a third system.
//
//	ports leftout SYSTEM
//
// prints a pattern for the flag -skip of go test: the tests in leftout.txt that
// cannot run on the system.
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
