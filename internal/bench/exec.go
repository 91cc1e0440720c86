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

// clientLimit is how long one run of a client may take, unless its job says otherwise.
const clientLimit = 10 * time.Minute

// A result is what was measured of one run of a client.
type result struct {
	err    error
	late   bool    // it was killed because it took too long
	wall   float64 // seconds
	cpu    float64 // seconds, of user and system
	memory float64 // peak, in MiB
	counts counts  // the client's requests at the registry
}

// command returns a command that does not see the user's configuration, and that is killed
// when ctx ends.
func (b *bench) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = time.Second
	cmd.Env = append(os.Environ(),
		"HOME="+b.home(), "DOCKER_CONFIG="+b.home(), "REGISTRY_AUTH_FILE="+b.home()+"/config.json",
		"XDG_RUNTIME_DIR="+b.home(), "XDG_CONFIG_HOME="+b.home(), "XDG_DATA_HOME="+b.home(), "TMPDIR="+b.home(),
		// The only authority that clients trust is the one of this run.
		"SSL_CERT_FILE="+filepath.Join(b.images(), "ca.pem"), "SSL_CERT_DIR="+filepath.Join(b.home(), "certs"))
	return cmd
}

// pull runs a client once and measures its process. If the client fails, the result has the
// error.
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

// measure notes how a process has ended, and what it has used.
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

// peak returns the largest resident set that a process had, in MiB. The kernel also counts the
// memory that this process had when it started the other. This process is therefore kept
// small: it contains neither an HTTP client nor the libraries of the peers.
func peak(state *os.ProcessState) float64 {
	usage, ok := state.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	return float64(usage.Maxrss) / 1024
}

// A tail keeps the last bytes that are written to it.
type tail []byte

const tailSize = 4096

func (t *tail) Write(p []byte) (int, error) {
	*t = append(*t, p...)
	if over := len(*t) - tailSize; over > 0 {
		*t = append((*t)[:0], (*t)[over:]...)
	}
	return len(p), nil
}

// note prints a line about a run to stderr, and counts failures of pullkit.
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

// errOurs is the error of this command if a pull of pullkit has failed.
var errOurs = errors.New("pullkit failed: see above")
