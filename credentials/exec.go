package credentials

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/pullkit/pullkit/internal/redact"
)

// An Exec says where the programs are that a keyring starts, and sets their limits and their
// environment. The zero Exec runs helpers of PATH with limits of a minute, as in the kubelet,
// and of 1 MiB of output.
//
// A program is started without a shell, in the working directory of this process. The
// question goes to its standard input, and never to its arguments or its environment. The
// environment of a plugin is Environ, and then the env of the plugin's configuration, which
// counts where both have a variable. A program that reaches a limit is killed, on Unix
// together with the programs that it started.
type Exec struct {
	// Dir is the directory of the programs. "" means the directories of PATH for helpers,
	// and is an error for plugins.
	Dir string
	// Timeout is the longest time that one run may take. Zero means a minute.
	Timeout time.Duration
	// MaxOutput is the number of bytes that a program may write to its standard output.
	// Zero means 1 MiB. 64 KiB of the standard error are read, and the rest is ignored.
	MaxOutput int
	// Environ is the environment: the values of variables by their names. Nil means the
	// environment of this process, as in the kubelet, but without DOCKER_AUTH_CONFIG,
	// because that holds passwords. A map that is empty but not nil means an empty
	// environment.
	Environ map[string]Sensitive
}

// An envVar is one variable of a program's environment.
type envVar struct {
	name  string
	value Sensitive
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
	env     []envVar // added to the environment; of equal names the last one counts
	stdin   []byte
	secrets []string // masked where an error quotes the program's output
}

// run runs a program, and returns what it wrote to its standard output. If the program
// failed, stdout is what it wrote before that.
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
		err = nil // the program ended; a daemon that it started holds its output open
	}
	switch cause := context.Cause(ctx); {
	case out.over:
		return nil, fmt.Errorf("%w: %d bytes", errProgramOutput, limit)
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

// findProgram returns the path of a program: program itself if it is a path, and otherwise
// the path of the file that PATH has under this name. The error wraps a [Reason].
func findProgram(program string) (string, error) {
	path, err := exec.LookPath(program) // finds name.exe on Windows
	if err == nil {
		return path, nil
	}
	if errors.Is(err, os.ErrPermission) {
		return "", fmt.Errorf("%w: the file may not be executed (chmod +x)", ErrProgramStart)
	}
	return "", errProgramMissing
}

// missing returns the error for a program that could not be started because a file is
// missing: the program itself, its interpreter or its loader. The system has the same error
// for all of these.
func missing(path string) error {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return errProgramMissing
	}
	if name := interpreter(path); name != "" {
		return fmt.Errorf("%w: the interpreter that its first line names is missing: %s", ErrProgramStart, quote(name))
	}
	return fmt.Errorf("%w: the loader that it needs is missing", ErrProgramStart)
}

// interpreter returns the text after #! in the first line of a script; "" if the file is
// not a script.
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
	return strings.Trim(string(line), " \t") // a carriage return stays, because it may be what is wrong
}

// repeatable returns the text that an error may quote of a program's output, with secrets
// masked; "" if the output looks like an answer, which holds secrets.
func repeatable(words string, secrets ...string) string {
	small := strings.ToLower(words)
	if strings.Contains(small, `"secret"`) || strings.Contains(small, `"password"`) {
		return ""
	}
	return redact.Text(strings.TrimSpace(words), secrets...)
}

func (x Exec) environ(more []envVar) []string {
	env := []string{} // not nil, which would mean the environment of this process
	if x.Environ == nil {
		env = slices.DeleteFunc(os.Environ(), func(v string) bool {
			name, _, _ := strings.Cut(v, "=")
			return strings.EqualFold(name, dockerAuthConfig) // on Windows names have no case
		})
	}
	for _, name := range slices.Sorted(maps.Keys(x.Environ)) {
		env = append(env, name+"="+x.Environ[name].Reveal())
	}
	for _, v := range more {
		env = append(env, v.name+"="+v.value.Reveal())
	}
	return env
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
