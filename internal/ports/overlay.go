package main

import (
	"encoding/json"
	"fmt"
	"go/build"
	"os"
	"path/filepath"
	"strings"
)

// An overlay collects the files of packages that differ between systems.
type overlay struct {
	as     string // the system whose files are built
	prefix string // files whose names begin with it are selected for butAs; "" means no files
	butAs  string
	dir    string

	replace map[string]string // the document of the flag -overlay of the go command
}

// add adds the files of the package in the directory pkg.
func (o *overlay) add(pkg string) error {
	pkg, err := filepath.Abs(pkg)
	if err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(pkg, "*.go"))
	if err != nil || len(names) == 0 {
		return fmt.Errorf("%q has no Go files", pkg)
	}
	if o.replace == nil {
		o.replace = make(map[string]string)
	}
	for _, name := range names {
		here, err := selects("", pkg, name)
		if err != nil {
			return err
		}
		there, err := selects(o.system(name), pkg, name)
		if err != nil {
			return err
		}
		switch {
		case here && !there:
			o.replace[name] = "" // to the go command the file does not exist
		case there && !here:
			if err := o.adopt(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// system returns the system for which the file is selected.
func (o *overlay) system(name string) string {
	if o.prefix != "" && strings.HasPrefix(filepath.Base(name), o.prefix) {
		return o.butAs
	}
	return o.as
}

// selects reports whether a build for the system includes the file. "" means this
// system.
func selects(system, pkg, name string) (bool, error) {
	ctx := build.Default
	if system != "" {
		ctx.GOOS, ctx.CgoEnabled = system, false
	}
	return ctx.MatchFile(pkg, filepath.Base(name))
}

// adopt adds to the overlay a copy of the file that this system builds: without a build
// constraint, and under a name that implies no constraint.
func (o *overlay) adopt(name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "//go:build ") {
			lines = append(lines, line)
		}
	}
	base, test := strings.CutSuffix(filepath.Base(name), "_test.go")
	base = "adopted-" + strings.ReplaceAll(strings.TrimSuffix(base, ".go"), "_", "-")
	if test {
		base += "_test"
	}
	to := filepath.Join(o.dir, fmt.Sprintf("%d-%s.go", len(o.replace), base))
	o.replace[filepath.Join(filepath.Dir(name), base+".go")] = to
	return os.WriteFile(to, []byte(strings.Join(lines, "")), 0o644)
}

func (o *overlay) write() error {
	data, err := json.MarshalIndent(map[string]any{"Replace": o.replace}, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(o.dir, "overlay.json"), data, 0o644)
}
