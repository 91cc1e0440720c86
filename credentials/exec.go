package credentials

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/internal/subprocess"
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
	r := subprocess.Run(ctx, subprocess.Command{
		Path: c.path, Args: c.args, Env: x.environ(c.env), Stdin: c.stdin, Timeout: timeout, MaxOutput: limit,
	})
	switch {
	case r.TooLong:
		return nil, fmt.Errorf("%w: %d bytes", errProgramOutput, limit)
	case r.Err == nil: // r.Held: a daemon that the program started holds its output open
		return r.Stdout, nil
	case r.TimedOut:
		return r.Stdout, fmt.Errorf("%w: %v", ErrProgramTimeout, timeout)
	case ctx.Err() != nil:
		return r.Stdout, r.Err
	case errors.Is(r.Err, os.ErrNotExist):
		return nil, missing(c.path)
	}
	words := repeatable(string(r.Stderr), c.secrets...)
	if words == "" {
		return r.Stdout, fmt.Errorf("%w: %v", ErrProgramFailed, r.Err)
	}
	return r.Stdout, fmt.Errorf("%w: %v: %s", ErrProgramFailed, r.Err, words)
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
	switch what, name := subprocess.Missing(path); what {
	case "":
		return errProgramMissing
	case "interpreter":
		return fmt.Errorf("%w: the interpreter that its first line names is missing: %s", ErrProgramStart, quote(name))
	}
	return fmt.Errorf("%w: the loader that it needs is missing", ErrProgramStart)
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
