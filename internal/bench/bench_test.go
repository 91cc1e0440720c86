package main

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// readTables returns the rows of each table of a report, by the title and by the first cell.
func readTables(text string) map[string]map[string][]string {
	tables := map[string]map[string][]string{}
	var rows map[string][]string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if title, ok := strings.CutPrefix(line, "### "); ok {
			rows = map[string][]string{}
			tables[title] = rows
		}
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| ---") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows[cells[0]] = cells[1:]
	}
	return tables
}

// TestAShortRunHasEveryTable runs the whole command with little to measure. Every table has its
// rows, every client that should succeed does, the numbers of requests are exactly as promised,
// and nothing is left in the directory. No time is checked.
func TestAShortRunHasEveryTable(t *testing.T) {
	dir := t.TempDir()
	var out, progress bytes.Buffer
	require.Equal(t, 0, run(t.Context(), []string{"-short", "-base", "HEAD", "-dir", dir}, &out, &progress), progress.String())
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
	tables := readTables(out.String())

	peers := []string{"crane", "oras-go", "regctl"}
	if installed("skopeo") != "" {
		peers = append(peers, "skopeo")
	}
	ours := []string{pullkit, "HEAD"}
	expected := 0
	for _, want := range []struct {
		title string   // the beginning of the title
		count int      // tables with such a title
		rows  int      // rows of each table, its head included; 0 = any
		first []string // cells of the first column
		head  []string // cells of the head
	}{
		{title: "Machine and versions", count: 1},
		{title: "Parsing an image name", count: 1, rows: 7},
		{title: "Choosing from an index", count: 1, rows: 3},
		{title: "Parsing an index", count: 1, rows: 3},
		{title: "Keyrings of imagePullSecrets", count: 1, rows: 3},
		{title: "Cold pulls: ", count: 4, rows: 4, head: slices.Concat(peers, ours, []string{"ideal-inline", "ideal-pipe"})},
		{title: "Link limited to", count: 2, rows: 4, head: slices.Concat(peers, ours)},
		{title: "Cut connections: ", count: 1, first: slices.Concat(peers, ours)},
		{title: "Killed and started again: ", count: 1, first: slices.Concat(peers, ours)},
		{title: "Requests", count: 1, first: append(peers, "pullkit, IfNotPresent", "pullkit, Always")},
		{title: "Many tiny images into one layout: ", count: 3, rows: 2, head: append(ours, "crane")},
		{title: "Cold pulls over TLS: ", count: 4, rows: 4, head: slices.Concat(peers, ours, []string{"ideal-pipe"})},
		{title: "One large layer, ", count: 3, rows: 2, head: ours},
		{title: "One small image, all synced: CPU", count: 1, rows: 2},
		{title: "One small image, all synced: wall", count: 1, rows: 2, head: slices.Concat(peers, ours)},
		{title: "One small image, all synced: system calls", count: 1},
		{title: "README's program", count: 1, first: append(ours, "go-containerregistry's")},
		{title: "Blobs redirected to signed URLs, ", count: 2, rows: 2, head: slices.Concat(peers, ours)},
		{title: "20 private repositories of one registry, one process: ", count: 1, rows: 3, head: append(ours, "crane")},
		{title: "Wide-area link of ", count: 3 + 1 + 2 + 2, rows: 2, head: append(ours, "crane")},
		{title: "Behind nginx with ", count: 2},
		{title: "6 cold nodes at the same time: ", count: 1, first: []string{"without each other", "from each other", "from each other, 2 killed"}},
		{title: "Root file systems, ", count: 3, rows: 3, head: []string{"crane, tar", pullkit, unpackIdeal}},
		{title: "All goals", count: 1},
	} {
		count := 0
		for title, rows := range tables {
			if !strings.HasPrefix(title, want.title) {
				continue
			}
			count++
			if want.rows > 0 {
				assert.Len(t, rows, want.rows, title)
			}
			for _, name := range want.first {
				assert.Contains(t, rows, name, title)
			}
			for _, name := range want.head {
				assert.Contains(t, rows["scenario"], name, title)
			}
			if _, ok := rows["scenario"]; ok {
				for _, row := range rows {
					assert.NotContains(t, row, "**fails**", title)
				}
			}
		}
		assert.Equal(t, want.count, count, want.title)
		expected += count
	}
	assert.Len(t, tables, expected, "no other tables")
	for _, title := range []string{"Cut connections", "Killed"} {
		for full, rows := range tables {
			if strings.HasPrefix(full, title) {
				assert.Contains(t, rows[pullkit], "succeeds", title)
				assert.NotContains(t, rows[pullkit], "fails", title)
			}
		}
	}
	for row, cells := range tables["All goals"] {
		// The other rows need programs that may not be installed.
		if !strings.HasPrefix(row, "Behind nginx") && !strings.Contains(row, "system calls") {
			assert.NotEqual(t, "not judged", cells[5], row)
		}
	}

	const blobs, head = "GET blob", "1: HEAD manifest"
	requests := tables["Requests"]
	assert.Equal(t, []string{"3: 2 " + blobs + ", GET manifest", "0", "0", "4: 2 " + blobs + ", 2 GET manifest", "0", "0"},
		requests["pullkit, IfNotPresent"][:6])
	assert.Equal(t, []string{"3: 2 " + blobs + ", GET manifest", head, head, "4: 2 " + blobs + ", 2 GET manifest", head, head},
		requests["pullkit, Always"][:6])
	assert.Equal(t, "all: met", requests["pullkit, Always"][7])
}

// TestMissingProgramsAreNamedAndTheRunGoesOn: a comparison names the programs that it needs and
// that are not installed, and is not an error.
func TestMissingProgramsAreNamedAndTheRunGoesOn(t *testing.T) {
	var out, progress bytes.Buffer
	b := &bench{stdout: &out, stderr: &progress, skopeo: "/usr/bin/skopeo"}
	b.options.short = true
	require.NoError(t, runNginxSmall(t.Context(), b))
	assert.Contains(t, out.String(), "Not measured: nginx is not installed (apt-get install nginx).")
	require.NoError(t, b.countSyncs(t.Context(), row{})) // without strace it starts no registry
	assert.Contains(t, out.String(), "Not measured: strace is not installed (apt-get install strace).")
	require.Len(t, b.goals, 2)
	for _, l := range b.goals {
		assert.Equal(t, "not judged", l.Goal.Verdict())
	}
}

// TestAMissingBaseCommitIsNamed: the error names a commit that the clone does not have.
func TestAMissingBaseCommitIsNamed(t *testing.T) {
	var out, progress bytes.Buffer
	const commit = "0123456789012345678901234567890123456789"
	assert.Equal(t, 1, run(t.Context(), []string{"-short", "-run", "redirect", "-base", commit, "-dir", t.TempDir()}, &out, &progress))
	assert.Contains(t, progress.String(), "-base "+commit+": this clone has no such commit")
}

// An interrupter calls cancel when a certain word is written to it.
type interrupter struct {
	mu     sync.Mutex
	text   strings.Builder
	word   string
	cancel context.CancelFunc
}

func (i *interrupter) Write(p []byte) (int, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.text.Write(p)
	if strings.Contains(i.text.String(), i.word) {
		i.cancel()
	}
	return len(p), nil
}

// TestAnInterruptedRunLeavesNothingBehind interrupts a run at several points.
func TestAnInterruptedRunLeavesNothingBehind(t *testing.T) {
	for _, word := range []string{"building", "cold A", "oras-go"} {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		progress := &interrupter{word: word, cancel: cancel}
		var out bytes.Buffer
		assert.Equal(t, 1, run(ctx, []string{"-short", "-run", "cold", "-dir", dir}, &out, progress), word)
		assert.Contains(t, progress.text.String(), "bench: interrupted", word)
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		assert.Empty(t, left, word)
	}
}

func TestFlagsSetRoundsImagesAndParts(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want options
	}{
		{nil, options{rounds: 3, many: 2000}},
		{[]string{"-short"}, options{rounds: 1, many: 20, short: true}},
		{[]string{"-short", "-n", "4", "-many", "7", "-base", "HEAD", "-all"}, options{rounds: 4, many: 7, short: true, base: "HEAD", all: true}},
	} {
		got, err := parseFlags(tt.args, &bytes.Buffer{})
		require.NoError(t, err)
		for _, name := range slices.Concat(microNames, scenarioNames()) {
			assert.Regexp(t, got.only, name)
		}
		assert.Equal(t, tt.want, options{rounds: got.rounds, many: got.many, short: got.short, base: got.base, all: got.all})
	}
	got, err := parseFlags([]string{"-run", "^names|cut", "-clients", "crane"}, &bytes.Buffer{})
	require.NoError(t, err)
	assert.Regexp(t, got.only, "cut")
	assert.NotRegexp(t, got.only, "cold")
	assert.NotRegexp(t, got.onlyClients, pullkit)
	for _, args := range [][]string{{"-run", "fast"}, {"-run", "("}, {"-clients", "("}, {"-n", "-1"}, {"image"}, {"-many", "x"}} {
		assert.Equal(t, 2, run(t.Context(), args, &bytes.Buffer{}, &bytes.Buffer{}), args)
	}
}
