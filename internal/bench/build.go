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

// module is the repository's; this directory's go.mod replaces it by the working tree.
const module = "github.com/pullkit/pullkit"

// build makes the programs that are compared, with their peers as go.mod has them.
func (b *bench) build(ctx context.Context) (err error) {
	if b.root, err = b.goCommand(ctx, "list", "-m", "-f", "{{.Dir}}", module); err != nil {
		return err
	}
	b.progress("building the programs")
	here := filepath.Join(b.root, "internal", "bench")
	to := b.bin("") + string(filepath.Separator)
	var programs []string
	if b.wants(microNames...) {
		programs = append(programs, "./micro")
	}
	if b.wants(scenarioNames()...) {
		programs = append(programs, "./registry", "./ideal", "./orascp", "tool")
		if _, err := b.goCommand(ctx, "-C", b.root, "build", "-o", to, "./examples/pull"); err != nil {
			return err
		}
		if b.wants(fleetName) {
			if _, err := b.goCommand(ctx, "-C", filepath.Join(b.root, "examples", "fleet"), "build", "-o", to, "."); err != nil {
				return err
			}
			b.varnish = installed("varnishd")
		}
		if b.wants("rootfs") {
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

// installed is the path of a program, "" without it. nginx is where an ordinary user does
// not look.
func installed(program string) string {
	for _, name := range []string{program, filepath.Join("/usr/sbin", program)} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// buildLimit bounds a go command: the peers are heavy where nothing is built yet.
const buildLimit = 20 * time.Minute

// goCommand runs the go command and returns the last thing it said.
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
