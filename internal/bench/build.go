package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// module is the path of the root module. The go.mod of this directory replaces the module by
// the working tree.
const module = "github.com/pullkit/pullkit"

// build builds the programs that the comparisons need. The versions of the peers are those in
// go.mod. It also finds the programs that are installed.
func (b *bench) build(ctx context.Context) (err error) {
	if b.root, err = b.goCommand(ctx, "list", "-m", "-f", "{{.Dir}}", module); err != nil {
		return err
	}
	b.progress("building the programs")
	here := filepath.Join(b.root, "internal", "bench")
	to := b.bin("") + string(filepath.Separator)
	var programs []string
	if b.selected(microNames...) {
		programs = append(programs, "./micro")
	}
	if b.selected(scenarioNames()...) {
		programs = append(programs, "./registry", "./ideal", "./orascp", "tool")
		if _, err := b.goCommand(ctx, "-C", b.root, "build", "-o", to, "./examples/pull"); err != nil {
			return err
		}
		if b.selected(fleetName) {
			if _, err := b.goCommand(ctx, "-C", filepath.Join(b.root, "examples", "fleet"), "build", "-o", to, "."); err != nil {
				return err
			}
			b.varnish = installed("varnishd")
		}
		if b.selected("rootfs") {
			if _, err := b.goCommand(ctx, "-C", filepath.Join(b.root, "examples", "rootfs"), "build", "-o", to, "."); err != nil {
				return err
			}
			b.podman, b.containerd, b.ctr = installed("podman"), installed("containerd"), installed("ctr")
		}
		b.skopeo, b.nginx, b.strace = installed("skopeo"), installed("nginx"), installed("strace")
		if err := b.buildBase(ctx); err != nil {
			return fmt.Errorf("-base %s: %w", b.base, err)
		}
	}
	_, err = b.goCommand(ctx, append([]string{"-C", here, "build", "-o", to}, programs...)...)
	return err
}

// installed returns the path of a program, or "" if it is not installed. It also looks in
// /usr/sbin, which has nginx and is not in the PATH of an ordinary user.
func installed(program string) string {
	for _, name := range []string{program, filepath.Join("/usr/sbin", program)} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// buildLimit limits a go command. It is long because the peers are large, and because the
// build cache may be empty.
const buildLimit = 20 * time.Minute

// goCommand runs the go command and returns its standard output. The error has the last line
// of its standard error.
func (b *bench) goCommand(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.WaitDelay = time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, lastLine(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}
