package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/pullkit/pullkit/internal/bench/report"
)

// peers are the modules whose versions the report has.
var peers = []string{
	"github.com/google/go-containerregistry", "github.com/regclient/regclient", "oras.land/oras-go/v2",
	"github.com/distribution/reference", "github.com/containerd/platforms", "k8s.io/kubernetes",
}

// machine returns the table about the machine and the versions.
func (b *bench) machine(ctx context.Context) *report.Table {
	t := &report.Table{Title: "Machine and versions", Head: []string{"what", ""}}
	t.Add("command", "`"+strings.TrimSpace("go run -C internal/bench . "+b.line)+"`")
	t.Add("date", time.Now().UTC().Format(time.DateOnly))
	t.Add("processors", fmt.Sprintf("%d, %s", processors(), field("/proc/cpuinfo", "model name")))
	t.Add("memory", memory(field("/proc/meminfo", "MemTotal")))
	t.Add("file system", fileSystem(b.dir))
	t.Add("system", runtime.GOOS+"/"+runtime.GOARCH+" "+file("/proc/sys/kernel/osrelease")+", "+runtime.Version())
	if out, err := b.goCommand(ctx, append([]string{"-C", b.root + "/internal/bench", "list", "-m"}, peers...)...); err == nil {
		t.Add("peers", strings.ReplaceAll(out, "\n", ", "))
	}
	if b.skopeo != "" {
		if out, err := exec.CommandContext(ctx, b.skopeo, "--version").Output(); err == nil {
			t.Add("skopeo", strings.TrimSpace(string(out)))
		}
	} else if b.selected(scenarioNames()...) {
		t.Add("skopeo", "is not installed, and left out")
	}
	if b.nginx != "" {
		if out, err := exec.CommandContext(ctx, b.nginx, "-v").CombinedOutput(); err == nil {
			t.Add("nginx", strings.TrimSpace(string(out)))
		}
	}
	if b.base != "" {
		t.Add("base", b.base)
	}
	if b.short {
		t.Note("**Little was measured: the figures say nothing.**")
	}
	return t
}

func processors() int { return runtime.NumCPU() }

func file(name string) string {
	data, err := os.ReadFile(name)
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(data))
}

// field returns the first value of a key in a file of "key: value" lines.
func field(name, key string) string {
	for line := range strings.Lines(file(name)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

// memory returns a text such as "24669120 kB" in GiB.
func memory(s string) string {
	kib, err := strconv.ParseFloat(strings.TrimSuffix(s, " kB"), 64)
	if err != nil {
		return s
	}
	return fmt.Sprintf("%.0f GiB", kib/(1<<20))
}

// fileSystem returns the type of the file system that has dir. Its mount point is the longest
// one that dir begins with. Of several mounts on that point the last one counts.
func fileSystem(dir string) string {
	longest, kind := 0, "unknown"
	for line := range strings.Lines(file("/proc/self/mountinfo")) {
		front, back, ok := strings.Cut(line, " - ")
		fields, kinds := strings.Fields(front), strings.Fields(back)
		if !ok || len(fields) < 5 || len(kinds) == 0 {
			continue
		}
		point := strings.TrimSuffix(fields[4], "/") + "/"
		if strings.HasPrefix(dir+"/", point) && len(point) >= longest {
			longest, kind = len(point), kinds[0]
		}
	}
	return kind
}
