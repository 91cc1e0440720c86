package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pullkit/pullkit/internal/bench/report"
)

func noImages(*bench) []string { return nil }

// sizeLimit is the goal for the size of README's program, in MB.
const sizeLimit = 12

// A built has the size and the packages of a program.
type built struct {
	size     float64  // MB
	packages []string // all, those of the standard library included
	others   []string // those of other projects
}

// runProgram builds the program that README begins with, the one that README of the base begins
// with, and an equal program that uses go-containerregistry.
func runProgram(ctx context.Context, b *bench) error {
	ours, err := b.readmeProgram(ctx, b.root)
	if err != nil {
		return err
	}
	peer, err := b.describe(ctx, filepath.Join(b.root, "internal", "bench"), "./ggcrpull", "")
	if err != nil {
		return err
	}
	t := &report.Table{
		Title: "README's program", Head: []string{"program", "size, MB", "packages", "of others", "goal", "reached"},
	}
	cells := func(name string, p built) []string {
		return []string{name, fmt.Sprintf("%.2f", p.size), fmt.Sprint(len(p.packages)), fmt.Sprint(len(p.others))}
	}
	t.Add(cells("go-containerregistry's", peer)...)
	size := report.AtMost(ours.size, sizeLimit, "MB")
	packages := report.Goal{Want: "no package of another project that the base does not have", Got: "no base", Open: true}
	var base built
	if b.base != "" {
		if base, err = b.readmeProgram(ctx, b.baseDir()); err != nil {
			return err
		}
		more := slices.DeleteFunc(slices.Clone(ours.others), func(p string) bool { return slices.Contains(base.others, p) })
		packages.Got, packages.Met, packages.Open = fmt.Sprintf("%d new", len(more)), len(more) == 0, false
		if len(more) > 0 {
			packages.Got += ": " + strings.Join(more, ", ")
		}
		t.Add(cells(b.base, base)...)
	}
	want, reached := report.Cells(size, packages)
	t.Add(append(cells(pullkit, ours), want, reached)...)
	for _, line := range []struct {
		figure string
		goal   report.Goal
		text   func(built) string
	}{
		{"size, MB", size, func(p built) string { return fmt.Sprintf("%.2f", p.size) }},
		{"packages", packages, func(p built) string { return fmt.Sprint(len(p.packages)) }},
	} {
		was := ""
		if b.base != "" {
			was = line.text(base)
		}
		b.reach(t.Title+": "+line.figure, line.goal, line.text(ours), was, line.text(peer)+" go-containerregistry")
	}
	return b.print(t)
}

// readmeProgram builds the first Go program in README.md of a tree. An overlay shows the program
// to the go command as a file of the tree, and nothing is written into the tree.
func (b *bench) readmeProgram(ctx context.Context, root string) (built, error) {
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		return built{}, err
	}
	_, rest, ok := strings.Cut(string(readme), "```go\n")
	text, _, closed := strings.Cut(rest, "```")
	if !ok || !closed || !strings.HasPrefix(text, "package main\n") {
		return built{}, fmt.Errorf("%s/README.md: its first Go text is not a program", root)
	}
	file := filepath.Join(b.dir, "readme.go")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return built{}, err
	}
	const pkg = "examples/readme-program"
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(root, pkg, "main.go"): file}})
	if err != nil {
		return built{}, err
	}
	name := filepath.Join(b.dir, "overlay.json")
	if err := os.WriteFile(name, overlay, 0o600); err != nil {
		return built{}, err
	}
	return b.describe(ctx, root, "./"+pkg, name)
}

// describe builds a package in a directory, and returns its size and packages.
func (b *bench) describe(ctx context.Context, dir, pkg, overlay string) (p built, err error) {
	flags := func(args ...string) []string {
		if overlay != "" {
			args = append(args, "-overlay", overlay)
		}
		return args
	}
	binary := filepath.Join(b.dir, "program")
	if _, err := b.goCommand(ctx, append(flags("-C", dir, "build", "-o", binary), pkg)...); err != nil {
		return p, err
	}
	info, err := os.Stat(binary)
	if err != nil {
		return p, err
	}
	p.size = float64(info.Size()) / 1e6
	out, err := b.goCommand(ctx, append(flags("-C", dir, "list", "-deps", "-f", "{{.Standard}} {{.ImportPath}}"), pkg)...)
	if err != nil {
		return p, err
	}
	for line := range strings.Lines(out) {
		standard, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		p.packages = append(p.packages, path)
		if standard != "true" && path != module && !strings.HasPrefix(path, module+"/") {
			p.others = append(p.others, path)
		}
	}
	return p, nil
}
