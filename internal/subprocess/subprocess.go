// Package subprocess runs programs without a shell and under limits.
package subprocess

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

const (
	maxStderr = 64 << 10
	// waitDelay is how long a killed program's children may hold its output open.
	waitDelay = time.Second
	// maxInterpreter is how many bytes of a script's first line are read.
	maxInterpreter = 300
)

// A Command describes one run of a program, and its limits.
type Command struct {
	Path  string   // of the program; a name without a slash is looked up in the PATH of this process
	Args  []string // without the name of the program
	Env   []string // all of the environment
	Stdin []byte
	// Timeout is the longest time that the run may take. A program that takes longer is
	// killed, on Unix together with the programs that it started.
	Timeout time.Duration
	// MaxOutput is how many bytes the program may write to its standard output before it is
	// killed. 64 KiB of the standard error are read, and the rest is ignored.
	MaxOutput int
}

// A Result is the outcome of a run.
type Result struct {
	Stdout, Stderr []byte // what the program wrote before it ended
	TimedOut       bool   // it was killed after Command.Timeout
	TooLong        bool   // it was killed because of Command.MaxOutput
	// Held says that the program has ended without an error while another process held its
	// output open.
	Held   bool
	Exited bool // it has ended by itself, with a status
	// Err is nil if the program has ended with the status 0. Otherwise it is the cause of
	// the end of the context, or an error of package os/exec.
	Err error
}

// Run runs a program. It returns when the program has ended and its output is closed. It waits
// at most a second for processes that hold the output open after the end of the program.
func Run(ctx context.Context, c Command) Result {
	errTimeout := errors.New("the time is over")
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, errTimeout)
	defer cancel()
	ctx, kill := context.WithCancel(ctx)
	defer kill()

	out, said := &capture{limit: c.MaxOutput, full: kill}, &capture{limit: maxStderr}
	cmd := exec.CommandContext(ctx, c.Path, c.Args...)
	cmd.Env = append([]string{}, c.Env...) // nil would mean the environment of this process
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(c.Stdin), out, said
	cmd.WaitDelay = waitDelay
	killGroup(cmd)
	err := cmd.Run()
	r := Result{Stdout: out.buf.Bytes(), Stderr: said.buf.Bytes(), TooLong: out.over}
	r.Exited = cmd.ProcessState != nil && cmd.ProcessState.Exited()
	if errors.Is(err, exec.ErrWaitDelay) && cmd.ProcessState.Success() {
		err, r.Held = nil, true
	}
	if err == nil {
		return r
	}
	if r.Err = context.Cause(ctx); r.Err == nil || r.TooLong {
		r.Err = err
	}
	r.TimedOut = r.Err == errTimeout
	return r
}

// Missing says what is missing if the start of a program has failed with os.ErrNotExist. what
// is "interpreter", "loader", or "" for the program itself, because the system has the same
// error for all of these. interpreter is the text after #! in a script; it is not escaped.
func Missing(path string) (what, interpreter string) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return "", ""
	}
	if name := interpreterOf(path); name != "" {
		return "interpreter", name
	}
	return "loader", ""
}

// interpreterOf returns the text after #! in the first line of a script; "" if the file is
// not a script.
func interpreterOf(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	head, _ := io.ReadAll(io.LimitReader(f, maxInterpreter))
	line, ok := bytes.CutPrefix(head, []byte("#!"))
	if !ok {
		return ""
	}
	line, _, _ = bytes.Cut(line, []byte("\n"))
	return strings.Trim(string(line), " \t") // a carriage return stays, because it may be what is wrong
}

// A capture keeps the first bytes that are written to it and drops the rest.
type capture struct {
	buf   bytes.Buffer // not embedded, because io.Copy would call its ReadFrom, which has no limit
	limit int
	over  bool   // a byte was dropped
	full  func() // called when a byte is dropped; may be nil
}

func (c *capture) Write(p []byte) (int, error) {
	keep := min(len(p), c.limit-c.buf.Len())
	c.buf.Write(p[:keep])
	if keep < len(p) {
		c.over = true
		if c.full != nil {
			c.full()
		}
	}
	return len(p), nil
}
