//go:build linux

package newdir_test

import (
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A pipe is not opened to be synced, because the call could wait for ever.
func TestAPipeIsNotOpenedToBeSynced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	w := newWork(t, dir)
	require.NoError(t, w.Lock(t.Context()))
	root, err := w.Open([]byte("key 1"), true)
	require.NoError(t, err)
	require.NoError(t, syscall.Mkfifo(filepath.Join(w.Files(), "pipe"), 0o600))
	require.NoError(t, w.Publish(t.Context(), root, 1))
	assert.Equal(t, []string{"pipe"}, names(t, dir))
}
