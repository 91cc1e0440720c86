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

	dir     string // removed at the end; holds programs, images, home and what clients write
	root    string // of the repository
	skopeo  string // path of the program, "" without one
	nginx   string // the same
	varnish string
	strace  string
	failed  int // pulls of pullkit that failed
	goals   []report.Line

	podman, containerd, ctr string // paths of programs
}

// bin is the directory of the programs, images that of the registry, home what
// clients take for the user's, and out where they write.
func (b *bench) bin(name string) string { return filepath.Join(b.dir, "bin", name) }
func (b *bench) images() string         { return filepath.Join(b.dir, "images") }
func (b *bench) home() string           { return filepath.Join(b.dir, "home") }
func (b *bench) out() string            { return filepath.Join(b.dir, "out") }

// wants reports whether one of the comparisons was asked for.
func (b *bench) wants(names ...string) bool { return slices.ContainsFunc(names, b.only.MatchString) }

// reach notes a goal for the last table.
func (b *bench) reach(row string, g report.Goal, ours, base, peer string) {
	b.goals = append(b.goals, report.Line{Row: row, Goal: g, Ours: ours, Base: base, Peer: peer})
}

// allGoals is the last table.
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

// micro lets command micro compare single functions, in a process of its own:
// this one stays small, see peak.
func (b *bench) micro(ctx context.Context) error {
	goals := filepath.Join(b.dir, "goals.json")
	args := []string{"-goals", goals}
	if b.short {
		args = append(args, "-short")
	}
	if !b.wants(microNames...) {
		return nil
	}
	for _, name := range microNames {
		if b.wants(name) {
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

// prepare makes the directories that clients see.
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

// logIn gives clients the user and password of a registry, or none.
func (b *bench) logIn(host string) error {
	config := `{"auths":{}}`
	if host != "" {
		config = fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte("bench:bench")))
	}
	return os.WriteFile(filepath.Join(b.home(), "config.json"), []byte(config), 0o600)
}

// spread asks ext4 to place each directory in dir far from the others, as it does
// in the root of a file system: by a hash of its name. Creating a file near many that
// were deleted within the last minutes is slow there, since their inodes are looked
// at and passed over: without this a client would pay for the one before it, with up
// to three times its own time. Other file systems refuse, which does no harm.
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

// fresh returns a directory for one client, which does not exist yet and whose name
// was never used. All that others wrote or removed is on the disk when it returns, so
// that nobody waits for the writes of another.
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
