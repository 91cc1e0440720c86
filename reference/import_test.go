package reference_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestNothingAtImport: a program that imports the package pays for nothing at
// its start. The runtime lists each package that has something to do there.
func TestNothingAtImport(t *testing.T) {
	if testing.CoverMode() != "" {
		t.Skip("the counters of go test -cover are set up at import")
	}
	program, err := os.Executable()
	require.NoError(t, err)
	run := exec.CommandContext(t.Context(), program, "-test.run=^$")
	run.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, err := run.CombinedOutput()
	require.NoError(t, err, "%s", out)
	trace := string(out)
	require.Contains(t, trace, "init github.com/opencontainers/go-digest @", "the trace is on")
	assert.False(t, strings.Contains(trace, "init github.com/pullkit/pullkit/reference @"), "%s", trace)
}
