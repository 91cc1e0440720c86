package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// readTables are the rows of each table of a report, by title and by first cell.
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

// TestCommand runs the whole command with little to measure: every table has its
// rows, every client that should pull does, requests are exactly as many as
// promised, and nothing stays in the directory. No figure is judged by its time.
func TestCommand(t *testing.T) {
	dir := t.TempDir()
	var out, progress bytes.Buffer
	require.Equal(t, 0, run(t.Context(), []string{"-short", "-dir", dir}, &out, &progress), progress.String())
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
	tables := readTables(out.String())

	sizes := map[string]int{ // rows with the head
		"Machine and versions": 9, "Parsing an image name": 7, "Choosing from an index": 3,
		"Parsing an index": 3, "Keyrings of imagePullSecrets": 3,
	}
	clients := []string{"client", "crane", "oras-go", "regctl"}
	if _, err := exec.LookPath("skopeo"); err == nil {
		clients = append(clients, "skopeo")
	}
	for title, rows := range tables {
		switch kind, _, _ := strings.Cut(title, ":"); {
		case sizes[title] > 0:
			assert.Len(t, rows, sizes[title], title)
		case kind == "Cold pulls", strings.HasPrefix(kind, "Link limited"):
			assert.Len(t, rows, 4, title)
		case strings.HasPrefix(kind, "Many tiny images"):
			assert.Len(t, rows, 2, title)
		case kind == "Requests":
			for _, name := range append(clients, "pullkit, IfNotPresent", "pullkit, Always") {
				assert.Contains(t, rows, name, title)
			}
		case kind == "Cut connections", strings.HasPrefix(kind, "Killed"):
			for _, name := range append(clients, pullkit) {
				assert.Contains(t, rows, name, title)
			}
			assert.Contains(t, rows[pullkit], "succeeds", title)
			assert.NotContains(t, rows[pullkit], "fails", title)
		default:
			assert.Fail(t, "a table that is not expected", title)
		}
	}
	assert.Len(t, tables, 5+3+2+1+1+1+3)
	assert.NotContains(t, out.String(), "**fails**")
	assert.NotContains(t, out.String(), "nothing to compare")

	const blobs, head = "GET blob", "1: HEAD manifest"
	requests := tables["Requests"]
	assert.Equal(t, []string{"3: 2 " + blobs + ", GET manifest", "0", "0", "4: 2 " + blobs + ", 2 GET manifest", "0", "0"},
		requests["pullkit, IfNotPresent"][:6])
	assert.Equal(t, []string{"3: 2 " + blobs + ", GET manifest", head, head, "4: 2 " + blobs + ", 2 GET manifest", head, head},
		requests["pullkit, Always"][:6])
	assert.Equal(t, "all: met", requests["pullkit, Always"][7])
}

// An interrupter cancels when what is written to it has a certain word in it.
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

// TestInterrupted holds that a run which is interrupted leaves nothing behind.
func TestInterrupted(t *testing.T) {
	for _, word := range []string{"building", "cold A", "oras-go"} {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		progress := &interrupter{word: word, cancel: cancel}
		var out bytes.Buffer
		assert.Equal(t, 1, run(ctx, []string{"-short", "-only", "cold", "-dir", dir}, &out, progress), word)
		assert.Contains(t, progress.text.String(), "bench: interrupted", word)
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		assert.Empty(t, left, word)
	}
}

func TestFlags(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want options
	}{
		{nil, options{rounds: 5, many: 2000}},
		{[]string{"-short"}, options{rounds: 1, many: 20, short: true}},
		{[]string{"-short", "-n", "3", "-many", "7"}, options{rounds: 3, many: 7, short: true}},
	} {
		got, err := parseFlags(tt.args, &bytes.Buffer{})
		require.NoError(t, err)
		assert.Len(t, got.only, len(microNames)+len(scenarioNames()))
		assert.Equal(t, tt.want, options{rounds: got.rounds, many: got.many, short: got.short})
	}
	got, err := parseFlags([]string{"-only", "names,cut,many"}, &bytes.Buffer{})
	require.NoError(t, err)
	assert.Equal(t, []string{"names", "cut", "many"}, got.only)
	for _, args := range [][]string{{"-only", "fast"}, {"-n", "-1"}, {"image"}, {"-many", "x"}} {
		assert.Equal(t, 2, run(t.Context(), args, &bytes.Buffer{}, &bytes.Buffer{}), args)
	}
}
