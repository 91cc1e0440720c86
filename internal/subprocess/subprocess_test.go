//go:build unix

package subprocess_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pullkit/pullkit/internal/subprocess"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func script(t *testing.T, text string) string {
	path := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o755))
	return path
}

func run(t *testing.T, path string) subprocess.Result {
	return subprocess.Run(t.Context(), subprocess.Command{Path: path, Args: []string{"a b"}, Env: []string{"X=1"}, Stdin: []byte("in"), Timeout: time.Minute, MaxOutput: 100})
}

func TestRunPassesInputAndReturnsOutput(t *testing.T) {
	r := run(t, script(t, "#!/bin/sh\n/bin/cat; echo \" $1 $X $HOME\"; echo words >&2; exit 3\n"))
	assert.Equal(t, "in a b 1 \n", string(r.Stdout))
	assert.Equal(t, "words\n", string(r.Stderr))
	assert.EqualError(t, r.Err, "exit status 3")
	assert.True(t, r.Exited)
	assert.False(t, run(t, script(t, "#!/bin/sh\nkill -9 $$\n")).Exited)
	assert.False(t, r.TimedOut || r.TooLong || r.Held)
	assert.NoError(t, run(t, script(t, "#!/bin/sh\nexit 0\n")).Err)
}

func TestRunEndsAtItsLimits(t *testing.T) {
	r := run(t, script(t, "#!/bin/sh\nwhile :; do echo 0123456789; done\n"))
	assert.True(t, r.TooLong)
	assert.Error(t, r.Err)
	assert.Len(t, r.Stdout, 100)

	r = subprocess.Run(t.Context(), subprocess.Command{Path: script(t, "#!/bin/sh\n/bin/sleep 600\n"), Timeout: time.Millisecond})
	assert.True(t, r.TimedOut)
	assert.Error(t, r.Err)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r = subprocess.Run(ctx, subprocess.Command{Path: script(t, "#!/bin/sh\n"), Timeout: time.Minute})
	assert.ErrorIs(t, r.Err, context.Canceled)
	assert.False(t, r.TimedOut)
}

// A process that the program leaves behind holds the output open. Run waits for it at most a
// second.
func TestRunSaysThatTheOutputIsHeld(t *testing.T) {
	r := run(t, script(t, "#!/bin/sh\n/bin/sleep 5 &\nexit 0\n"))
	assert.NoError(t, r.Err)
	assert.True(t, r.Held)
}

func TestMissingSaysWhatIsMissing(t *testing.T) {
	what, name := subprocess.Missing(filepath.Join(t.TempDir(), "absent"))
	assert.Equal(t, []string{"", ""}, []string{what, name})
	path := script(t, "#! /absent/interpreter -x\n")
	what, name = subprocess.Missing(path)
	assert.Equal(t, []string{"interpreter", "/absent/interpreter -x"}, []string{what, name})
	assert.ErrorIs(t, run(t, path).Err, os.ErrNotExist)
	what, name = subprocess.Missing(script(t, strings.Repeat("x", 1000)))
	assert.Equal(t, []string{"loader", ""}, []string{what, name})
}
