package reference_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestNothingAtImport: the package does no work when a program starts. The Go runtime's
// trace lists each package that does work then.
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

// TestDigestsWorkInEveryProgram: a program that imports nothing else can verify content with the
// digest of a name. The test builds a program, because a test links more packages.
func TestDigestsWorkInEveryProgram(t *testing.T) {
	file := filepath.Join(t.TempDir(), "main.go")
	require.NoError(t, os.WriteFile(file, []byte(`package main

import (
	"strings"

	"github.com/pullkit/pullkit/reference"
)

func main() {
	for algorithm, digits := range map[string]int{"sha256": 64, "sha384": 96, "sha512": 128} {
		d := reference.MustParse("pause@" + algorithm + ":" + strings.Repeat("0", digits)).Digest()
		if err := d.Validate(); err != nil {
			panic(err)
		}
		if v := d.Verifier(); v.Verified() {
			panic("the digest of nothing has no such digits")
		}
	}
}
`), 0o600))
	out, err := exec.CommandContext(t.Context(), "go", "run", file).CombinedOutput()
	require.NoError(t, err, "%s", out)
}
