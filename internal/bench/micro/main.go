// Command micro compares single functions with those of the peers: parsing names,
// parsing and choosing from an index, building and asking keyrings.
//
//	micro [-short] [-goals FILE] [names] [indexes] [keyrings]
//
// In each round all functions run in turn. The best round of each function counts, because other
// work of the machine disturbs it least.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"

	"github.com/pullkit/pullkit/internal/bench/report"
)

// sizes say how much is measured.
type sizes struct {
	rounds  int   // of a comparison
	part    int   // the number of calls in a round is divided by it
	entries []int // of an index
	secrets []int // of a keyring
}

var (
	fullSizes  = sizes{rounds: 100, part: 1, entries: []int{8, 50, 1000}, secrets: []int{10, 100, 1000, 5000}}
	shortSizes = sizes{rounds: 3, part: 50, entries: []int{8, 50}, secrets: []int{10, 100}}
)

// comparisons are the comparisons that an argument can name.
var comparisons = []struct {
	name string
	run  func(sizes) ([]*report.Table, error)
}{
	{"names", compareNames},
	{"indexes", compareIndexes},
	{"keyrings", compareKeyrings},
}

func main() {
	short := flag.Bool("short", false, "measure little; the figures then mean nothing")
	goals := flag.String("goals", "", "`file` into which the goals are written, as JSON")
	flag.Parse()
	if err := run(*short, *goals, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "micro:", err)
		os.Exit(1)
	}
}

func run(short bool, goals string, names []string) error {
	size := fullSizes
	if short {
		size = shortSizes
	}
	wanted := map[string]bool{}
	for _, name := range names {
		wanted[name] = true
	}
	var judged []report.Line
	for _, c := range comparisons {
		if len(wanted) > 0 && !wanted[c.name] {
			continue
		}
		fmt.Fprintln(os.Stderr, "micro:", c.name)
		before := report.Load()
		tables, err := c.run(size)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		for _, table := range tables {
			table.Note("Best of %d rounds in turn. Load %s before, %s after.", size.rounds, before, report.Load())
			if err := table.Write(os.Stdout); err != nil {
				return err
			}
			judged = append(judged, table.Judged...)
		}
	}
	if goals == "" {
		return nil
	}
	data, err := json.Marshal(judged)
	if err != nil {
		return err
	}
	return os.WriteFile(goals, data, 0o600)
}
