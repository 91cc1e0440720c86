package serve_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The test runs another test of this package, which pulls an image of more than 3 MiB from
// a server. The system copies the whole large layer from the file to the connection.
func TestTheSystemCopiesBlobsToTheConnection(t *testing.T) {
	strace := realtest.Need(t, "strace")
	log := filepath.Join(t.TempDir(), "strace")
	cmd := exec.CommandContext(t.Context(), strace, "-f", "-qq", "-e", "trace=/sendfile", "-e", "signal=none", "-o", log, os.Args[0], "-test.run=^TestPullkitPullsFromAServer$")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	data, err := os.ReadFile(log)
	require.NoError(t, err)
	var copied int64
	for line := range strings.Lines(string(data)) {
		if i := strings.LastIndex(line, " = "); i >= 0 && strings.Contains(line, "sendfile") {
			n, _ := strconv.ParseInt(strings.TrimSpace(line[i+3:]), 10, 64) // an error is not a number
			copied += n
		}
	}
	assert.Greater(t, copied, int64(3<<20))
}
