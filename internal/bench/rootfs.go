package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// unpackIdeal is the name of the ideal that unpacks layers.
const unpackIdeal = "ideal-unpack"

func rootfsRows(b *bench) []row {
	goals := map[string][]goal{
		wallTime.name:   {{most: 0.75, of: bestPeer}, {most: 1.25, of: unpackIdeal}},
		peakMemory.name: {{most: 64}},
	}
	z := b.sized("text", "z", 4, 128*mib, goals)
	z.kind = "text"
	return []row{z, b.sized("random", "b", 8, 128*mib, goals)}
}

// rootfsClients are the programs that make a root file system of an image.
func (b *bench) rootfsClients(runroot string) []client {
	all := []client{
		{name: "crane, tar", program: installed("sh"), pull: craneExport(b.bin("crane"))},
		{name: "podman", program: b.podman, pull: podmanPull(runroot)},
		{name: containerdName, program: b.ctr, pull: ctrPull},
		{name: pullkit, program: b.bin("rootfs"), pull: pullkitRootFS()},
		{name: pullkit + " -sync", program: b.bin("rootfs"), pull: pullkitRootFS("-sync"), ideal: true}, // does more than its peers
		{name: unpackIdeal, program: b.bin("ideal"), pull: idealPull("-unpack"), ideal: true},
	}
	var there []client
	for _, c := range all {
		if c.program != "" && b.onlyClients.MatchString(c.name) && (c.name != containerdName || b.containerd != "" && os.Geteuid() == 0) {
			there = append(there, c)
		}
	}
	return there
}

func craneExport(crane string) func(job) []string {
	return func(j job) []string {
		return []string{"-c", `mkdir "$3" && "$0" export --insecure --platform "$1" "$2" - | tar -x -C "$3"`, crane, platform, j.name(), j.dir}
	}
}

// podmanPull returns the arguments with which podman pulls into a storage of its own. podman does
// not mount the directory of the storage onto itself, so that the directory can be removed. The
// path of runroot must be short.
func podmanPull(runroot string) func(job) []string {
	return func(j job) []string {
		return []string{
			"--root", filepath.Join(j.dir, "root"), "--runroot", runroot, "--storage-driver", "overlay", "--storage-opt", "overlay.skip_mount_home=true",
			"pull", "--quiet", "--tls-verify=false", "--platform", platform, j.name(),
		}
	}
}

func pullkitRootFS(flags ...string) func(job) []string {
	return func(j job) []string {
		return append(append(flags, j.plain("-plain-http")...), "-policy", j.policy, "-platform", platform, "-o", filepath.Join(j.dir, "app"), j.name())
	}
}

// containerdName is the name of ctr as a client. The daemon containerd does the work, and its
// CPU time and memory are not measured.
const containerdName = "containerd"

func ctrPull(j job) []string {
	return []string{"--address", socket(j.dir), "images", "pull", "--plain-http", "--platform", platform, j.name()}
}

// socket returns the socket of the containerd in dir. It is not in dir, because the path of
// a socket has at most about 100 bytes.
func socket(dir string) string { return filepath.Join(os.TempDir(), filepath.Base(dir)+".sock") }

// A daemon is the containerd of one pull.
type daemon struct {
	cmd *exec.Cmd
	dir string
}

// start starts containerd with a directory of its own.
func (d *daemon) start(ctx context.Context, b *bench, dir string) error {
	d.stop()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	config := filepath.Join(dir, "config.toml")
	text := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\n  address = %q\n",
		filepath.Join(dir, "root"), filepath.Join(dir, "state"), socket(dir))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	d.dir = dir
	d.cmd = b.command(ctx, b.containerd, "--config", config)
	stderr, err := d.cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := d.cmd.Start(); err != nil {
		d.cmd = nil
		return err
	}
	var said tail
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		fmt.Fprintln(&said, lines.Text())
		if strings.Contains(lines.Text(), "successfully booted") {
			go func() { _, _ = io.Copy(io.Discard, stderr) }()
			return nil
		}
	}
	d.stop()
	return fmt.Errorf("containerd did not start: %.300s", lastLine(string(said)))
}

// stop ends the daemon, if it runs.
func (d *daemon) stop() {
	if d.cmd != nil {
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		_ = d.cmd.Wait()
		d.cmd = nil
		_ = os.Remove(socket(d.dir))
		_ = os.Remove(socket(d.dir) + ".ttrpc")
	}
}

func runRootFS(ctx context.Context, b *bench) error {
	runroot, err := os.MkdirTemp("", "podman")
	if err != nil {
		return err
	}
	defer os.RemoveAll(runroot)
	d := &daemon{}
	defer d.stop()
	return b.compareRows(ctx, comparison{
		name: "rootfs", title: "Root file systems, from an empty machine", rows: rootfsRows(b), clients: b.rootfsClients(runroot),
		figures: []figure{wallTime, cpuTime, peakMemory},
		site:    b.registry(),
		args: func(c client, j job) ([]string, error) {
			d.stop()
			if c.name == containerdName {
				if err := d.start(ctx, b, j.dir); err != nil {
					return nil, err
				}
			}
			return c.pull(j), nil
		},
		notes: []string{"Processor time and memory of containerd are those of ctr, without the daemon. Only pullkit -sync waits for the disk."},
	})
}
