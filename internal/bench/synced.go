package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pullkit/pullkit/internal/bench/report"
)

// syncedRounds is the fewest rounds of this scenario. A pull takes only a few hundredths of a
// second.
const syncedRounds = 25

// syncCalls are the system calls that wait until what was written is on the disk.
var syncCalls = []string{"fsync", "fdatasync", "syncfs"}

// runSynced pulls one small image into a new directory. pullkit waits until all that it has
// written is on the disk. crane does not.
func runSynced(ctx context.Context, b *bench) error {
	r := row{name: "1 x 1 MiB", image: oneImage, goals: map[string][]goal{wallTime.name: {{most: 1.15, of: "crane"}}}}
	c := comparison{
		name: "synced", title: "One small image, all synced", rows: []row{r}, clients: b.realClients(),
		figures: []figure{wallTime, cpuTime},
		site:    b.registry(), least: syncedRounds, args: pullOne,
	}
	if err := b.compareRows(ctx, c); err != nil {
		return err
	}
	return b.countSyncs(ctx, r)
}

// countSyncs lets each client pull once more, under strace.
func (b *bench) countSyncs(ctx context.Context, r row) (err error) {
	t := &report.Table{
		Title: "One small image, all synced: system calls",
		Head:  append(append([]string{"client"}, syncCalls...), "together", "goal", "reached"),
	}
	row := t.Title + ": " + strings.Join(syncCalls, ", ") + " together"
	notMeasured := func(why string) error {
		t.Rows = nil
		t.Note("Not measured: %s.", why)
		b.reach(row, report.Goal{Want: "at most 6 calls", Got: why, Open: true}, "", "", "")
		return b.print(t)
	}
	if b.strace == "" {
		return notMeasured("strace is not installed (apt-get install strace)")
	}
	s, err := b.serve(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	together := map[string]string{}
	ours := 0
	clients := b.realClients()
	for _, c := range clients {
		counted, err := b.traced(ctx, s, c, job{repository: r.image, tag: "1"})
		if errors.Is(err, errTrace) {
			return notMeasured(err.Error()) // some containers forbid strace
		}
		if err != nil {
			return err
		}
		cells, sum := []string{c.name}, 0
		for _, call := range syncCalls {
			cells = append(cells, fmt.Sprint(counted[call]))
			sum += counted[call]
		}
		together[c.name] = fmt.Sprint(sum)
		cells = append(cells, together[c.name])
		if c.name == pullkit {
			ours = sum
			want, reached := report.Cells(report.AtMost(float64(ours), 6, "calls"))
			cells = append(cells, want, reached)
		}
		t.Add(cells...)
	}
	b.reach(row, report.AtMost(float64(ours), 6, "calls"), together[pullkit], together[b.base], together["crane"]+" crane")
	t.Note("Counted by strace -f -c.")
	return b.print(t)
}

// errTrace is the error of a pull that failed under strace.
var errTrace = errors.New("a pull under strace failed")

// traced lets a client pull under strace and returns how often it made each call.
func (b *bench) traced(ctx context.Context, s site, c client, j job) (map[string]int, error) {
	summary := filepath.Join(b.dir, "strace")
	program := c
	program.program = b.strace
	result, err := b.pullCold(ctx, s, program, j, func(_ client, j job) ([]string, error) {
		flags := []string{"-f", "-c", "-o", summary, "-e", "trace=" + strings.Join(syncCalls, ","), "--", c.program}
		return append(flags, c.pull(j)...), os.WriteFile(summary, nil, 0o600)
	})
	if err != nil {
		return nil, err
	}
	if result.err != nil {
		return nil, fmt.Errorf("%w: %w", errTrace, result.err)
	}
	data, err := os.ReadFile(summary)
	return callCounts(string(data)), err
}

// callCounts reads the summary of strace -c: a line for each call, with its number in the
// fourth column and its name in the last.
func callCounts(summary string) map[string]int {
	counts := map[string]int{}
	for line := range strings.Lines(summary) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		if n, err := strconv.Atoi(fields[3]); err == nil {
			counts[fields[len(fields)-1]] += n
		}
	}
	return counts
}
