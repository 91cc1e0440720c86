package realtest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// With a long TMPDIR, podman and sockets still get a directory that they take.
func TestShortDirIsShort(t *testing.T) {
	if _, err := os.Stat("/tmp"); err != nil {
		t.Log("this system has no /tmp, so the length depends on TMPDIR")
		return
	}
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	require.NoError(t, os.Mkdir(long, 0o700))
	t.Setenv("TMPDIR", long)
	dir := ""
	t.Run("test", func(t *testing.T) {
		dir = realtest.ShortDir(t)
		assert.DirExists(t, dir)
	})
	assert.LessOrEqual(t, len(dir), 30)
	assert.NoDirExists(t, dir, "after the test")
}
