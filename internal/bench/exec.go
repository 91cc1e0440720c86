package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// clientLimit bounds one run of a client.
const clientLimit = 10 * time.Minute

// A result is how one run of a client went.
type result struct {
	err    error
	late   bool    // it was killed because it took too long
	wall   float64 // seconds
	cpu    float64 // seconds, of user and system
	memory float64 // MiB at its peak
	counts counts  // what it asked of the registry
}

// command is a process of this run: it sees no configuration of the user's, and
// is killed when ctx ends.
func (b *bench) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = time.Second
	cmd.Env = append(os.Environ(),
		"HOME="+b.home(), "DOCKER_CONFIG="+b.home(), "REGISTRY_AUTH_FILE="+b.home()+"/config.json",
		"XDG_RUNTIME_DIR="+b.home(), "XDG_CONFIG_HOME="+b.home(), "XDG_DATA_HOME="+b.home(), "TMPDIR="+b.home(),
		// Certificates: only those of this run, which no client may read from elsewhere.
		"SSL_CERT_FILE="+filepath.Join(b.images(), "ca.pem"), "SSL_CERT_DIR="+filepath.Join(b.home(), "certs"))
	return cmd
}

// pull runs a client once and measures its process. An error of the client is in
// the result.
func (b *bench) pull(ctx context.Context, c client, args []string, limit time.Duration) result {
	if limit == 0 {
		limit = clientLimit
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := b.command(ctx, c.program, args...)
	var said tail
	cmd.Stderr = &said
	began := time.Now()
	err := cmd.Run()
	var r result
	r.measure(cmd, time.Since(began), err, said)
	if r.err != nil && ctx.Err() != nil {
		r.err, r.late = fmt.Errorf("not done after %v", limit), true
	}
	return r
}

// measure takes down how a process ended and what it used.
func (r *result) measure(cmd *exec.Cmd, took time.Duration, err error, said tail) {
	r.wall = took.Seconds()
	if err != nil {
		r.err = fmt.Errorf("%w: %.300s", err, lastLine(string(said)))
	}
	if state := cmd.ProcessState; state != nil {
		r.cpu = (state.UserTime() + state.SystemTime()).Seconds()
		r.memory = peak(state)
	}
}

// peak is the most memory that a process had, in MiB. The kernel counts what this
// process had when it started the other, too: that is why it is kept small, and
// has neither an HTTP client nor the libraries of the peers in it.
func peak(state *os.ProcessState) float64 {
	usage, ok := state.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	return float64(usage.Maxrss) / 1024
}

// A tail keeps the last of what is written to it.
type tail []byte

const tailSize = 4096

func (t *tail) Write(p []byte) (int, error) {
	*t = append(*t, p...)
	if over := len(*t) - tailSize; over > 0 {
		*t = append((*t)[:0], (*t)[over:]...)
	}
	return len(p), nil
}

// note tells of a run on stderr, and remembers failures of pullkit.
func (b *bench) note(scenario string, c client, r result) {
	if r.err == nil {
		b.progress("%-24s %-12s %7.2f s, cpu %6.2f s, %3.0f MiB", scenario, c.name, r.wall, r.cpu, r.memory)
		return
	}
	b.progress("%-24s %-12s failed: %v", scenario, c.name, r.err)
	if c.name == pullkit {
		b.failed++
	}
}

// errOurs is the error of a run in which pullkit did not pull what it should have.
var errOurs = errors.New("pullkit failed: see above")
