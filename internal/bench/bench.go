package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pullkit/pullkit/internal/bench/report"
)

// A bench is one run of the command.
type bench struct {
	options
	stdout, stderr io.Writer

	dir    string // removed at the end; has the programs, images, home and what clients write
	root   string // of the repository
	failed int    // pulls of pullkit that failed
	goals  []report.Line

	// The paths of programs; "" if a program is not installed.
	skopeo, nginx, varnish, strace string
	podman, containerd, ctr        string
}

// bin returns the path of a program, images the registry's directory, home the home directory
// of the clients, and out the directory in which they write.
func (b *bench) bin(name string) string { return filepath.Join(b.dir, "bin", name) }
func (b *bench) images() string         { return filepath.Join(b.dir, "images") }
func (b *bench) home() string           { return filepath.Join(b.dir, "home") }
func (b *bench) out() string            { return filepath.Join(b.dir, "out") }

// selected reports whether the flag -run matches one of the comparisons.
func (b *bench) selected(names ...string) bool { return slices.ContainsFunc(names, b.only.MatchString) }

// reach adds a goal to the last table.
func (b *bench) reach(row string, g report.Goal, ours, base, peer string) {
	b.goals = append(b.goals, report.Line{Row: row, Goal: g, Ours: ours, Base: base, Peer: peer})
}

// allGoals returns the last table.
func (b *bench) allGoals() *report.Table {
	base := b.base
	if base == "" {
		base = "no base"
	}
	t := &report.Table{Title: "All goals", Head: []string{"row", "goal", pullkit, base, "best peer", "reached", "met"}}
	met := 0
	for _, l := range b.goals {
		t.Add(l.Row, l.Goal.Want, l.Ours, l.Base, l.Peer, l.Goal.Got, l.Goal.Verdict())
		if l.Goal.Met {
			met++
		}
	}
	t.Note("%d of %d are met.", met, len(b.goals))
	return t
}

func (b *bench) progress(format string, args ...any) { fmt.Fprintf(b.stderr, format+"\n", args...) }

func (b *bench) print(tables ...*report.Table) error {
	for _, table := range tables {
		if err := table.Write(b.stdout); err != nil {
			return err
		}
	}
	return nil
}

// micro runs command micro, which compares single functions. It is a process of its own so
// that this process stays small: see peak.
func (b *bench) micro(ctx context.Context) error {
	goals := filepath.Join(b.dir, "goals.json")
	args := []string{"-goals", goals}
	if b.short {
		args = append(args, "-short")
	}
	if !b.selected(microNames...) {
		return nil
	}
	for _, name := range microNames {
		if b.selected(name) {
			args = append(args, name)
		}
	}
	cmd := b.command(ctx, b.bin("micro"), args...)
	cmd.Stdout, cmd.Stderr = b.stdout, b.stderr
	if err := cmd.Run(); err != nil {
		return err
	}
	data, err := os.ReadFile(goals)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, &b.goals)
}

// prepare makes the home directory of the clients and the directory in which they write.
func (b *bench) prepare() error {
	for _, dir := range []string{b.home(), b.out()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	spread(b.out())
	if err := os.Mkdir(filepath.Join(b.home(), "certs"), 0o755); err != nil {
		return err
	}
	return b.logIn("")
}

// logIn writes the config.json of the clients: with a login for the registry host, or without
// logins if host is "".
func (b *bench) logIn(host string) error {
	config := `{"auths":{}}`
	if host != "" {
		config = fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte("bench:bench")))
	}
	return os.WriteFile(filepath.Join(b.home(), "config.json"), []byte(config), 0o600)
}

// spread asks ext4 to place the directories in dir far from each other, as it does in the root
// of a file system. Near many files that were deleted within the last minutes ext4 is slow to
// create a file, because it looks at their inodes and passes over them. Without spread the
// files that one client has left make the next client up to three times as slow. Other file
// systems refuse the attribute, and do not need it.
func spread(dir string) {
	f, err := os.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	const topDir = 0x00020000 // EXT4_TOPDIR_FL
	if flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS); err == nil {
		_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags|topDir)
	}
}

// fresh returns the path of a directory for one client. The directory does not exist, and its
// name was never used. When fresh returns, all that other clients have written or removed is
// on the disk, so that the client does not wait for that.
func (b *bench) fresh(client string) (string, error) {
	f, err := os.Open(b.out())
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return "", err
	}
	return filepath.Join(b.out(), fmt.Sprintf("%s-%016x", client, rand.Uint64())), nil
}
