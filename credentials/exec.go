package credentials

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/pullkit/pullkit/internal/redact"
)

// An Exec bounds the programs that a keyring starts. The zero Exec has the
// kubelet's time limit.
//
// Programs are started without a shell, in the working directory of this process.
// What they are asked goes to their standard input, never to their arguments or
// their environment. That is Environ, and for a plugin Provider.Env behind it,
// where the last of one name counts. When a limit is reached the program is
// killed, on Unix with the children it started.
type Exec struct {
	// Timeout bounds one run. Zero means a minute.
	Timeout time.Duration
	// MaxOutput bounds what a program may write to its standard output, in bytes.
	// Zero means 1 MiB. Of the standard error 64 KiB are read and the rest dropped.
	MaxOutput int
	// Environ is the environment. Nil means that of this process, as for the
	// kubelet, but without DOCKER_AUTH_CONFIG, which holds passwords; empty but not
	// nil means none.
	Environ []EnvVar
}

// An EnvVar is one variable of a program's environment. Its value may be a
// secret, and has no printed form.
type EnvVar struct {
	Name  string
	Value Sensitive
}

const (
	defaultTimeout   = time.Minute
	defaultMaxOutput = 1 << 20
	maxStderr        = 64 << 10
	// waitDelay is how long a killed program's children may hold its output open.
	waitDelay = time.Second
)

// A command is one run of a program.
type command struct {
	path    string
	args    []string
	env     []EnvVar // added to the environment: of one name the last counts
	stdin   []byte
	secrets []string // masked in what an error repeats of the program's words
}

// run starts a program and returns what it wrote to its standard output. If it
// failed, stdout is what it had written until then.
func (x Exec) run(ctx context.Context, c command) (stdout []byte, err error) {
	timeout, limit := x.Timeout, x.MaxOutput
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	if limit <= 0 {
		limit = defaultMaxOutput
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, ErrProgramTimeout)
	defer cancel()
	ctx, kill := context.WithCancel(ctx)
	defer kill()

	out := &capture{limit: limit, full: kill}
	said := &capture{limit: maxStderr}
	cmd := exec.CommandContext(ctx, c.path, c.args...)
	cmd.Env = x.environ(c.env)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(c.stdin), out, said
	cmd.WaitDelay = waitDelay
	killGroup(cmd)

	err = cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) && cmd.ProcessState.Success() {
		err = nil // it is done; a daemon that it started holds its output open
	}
	switch cause := context.Cause(ctx); {
	case out.over:
		return nil, fmt.Errorf("%w: %d bytes", ErrProgramOutput, limit)
	case err == nil:
		return out.buf.Bytes(), nil
	case cause == ErrProgramTimeout:
		return out.buf.Bytes(), fmt.Errorf("%w: %v", ErrProgramTimeout, timeout)
	case cause != nil:
		return out.buf.Bytes(), cause
	case errors.Is(err, os.ErrNotExist):
		return nil, missing(c.path)
	}
	words := repeatable(said.buf.String(), c.secrets...)
	if words == "" {
		return out.buf.Bytes(), fmt.Errorf("%w: %v", ErrProgramFailed, err)
	}
	return out.buf.Bytes(), fmt.Errorf("%w: %v: %s", ErrProgramFailed, err, words)
}

// findProgram returns the path of a program: itself where it has a separator, and
// otherwise the place where PATH has it. The error is a [Reason].
func findProgram(program string) (string, error) {
	path, err := exec.LookPath(program) // finds name.exe on Windows
	if err == nil {
		return path, nil
	}
	if errors.Is(err, os.ErrPermission) {
		return "", fmt.Errorf("%w: the file may not be executed (chmod +x)", ErrProgramStart)
	}
	return "", ErrProgramMissing
}

// missing says what is not there of a program that could not be started: the
// system has one error for a missing program and for a missing interpreter of it.
func missing(path string) error {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return ErrProgramMissing
	}
	if name := interpreter(path); name != "" {
		return fmt.Errorf("%w: the interpreter that its first line names is missing: %s", ErrProgramStart, quote(name))
	}
	return fmt.Errorf("%w: the loader that it needs is missing", ErrProgramStart)
}

// interpreter is what follows #! in the first line of a script.
func interpreter(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	head, _ := io.ReadAll(io.LimitReader(f, maxQuoted))
	line, ok := bytes.CutPrefix(head, []byte("#!"))
	if !ok {
		return ""
	}
	line, _, _ = bytes.Cut(line, []byte("\n"))
	return strings.Trim(string(line), " \t") // a carriage return at its end is what is wrong
}

// repeatable is what an error may repeat of a program's words: nothing that looks
// like an answer, which is full of secrets.
func repeatable(words string, secrets ...string) string {
	small := strings.ToLower(words)
	if strings.Contains(small, `"secret"`) || strings.Contains(small, `"password"`) {
		return ""
	}
	return redact.Text(strings.TrimSpace(words), secrets...)
}

func (x Exec) environ(more []EnvVar) []string {
	env := []string{} // not nil, which would mean the environment of this process
	if x.Environ == nil {
		env = slices.DeleteFunc(os.Environ(), func(v string) bool {
			name, _, _ := strings.Cut(v, "=")
			return strings.EqualFold(name, dockerAuthConfig) // on Windows names have no case
		})
	}
	for _, v := range slices.Concat(x.Environ, more) {
		env = append(env, v.Name+"="+v.Value.Reveal())
	}
	return env
}

// A capture keeps the first bytes that are written to it and drops the rest.
type capture struct {
	buf   bytes.Buffer // not embedded: io.Copy would go past Write, and past the limit, with its ReadFrom
	limit int
	over  bool   // there was a rest
	full  func() // called when there is one; may be nil
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

// A SourceError says that a helper or plugin could not answer.
type SourceError struct {
	Origin Origin // the program; without a Key
	Image  string // the image's name, without tag and digest
	Err    error
}

// Error says which program, for which image, and why.
func (e *SourceError) Error() string {
	return fmt.Sprintf("%v, for image %s: %v", e.Origin, quote(e.Image), e.Err)
}

// Unwrap returns the reason.
func (e *SourceError) Unwrap() error { return e.Err }
