//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package regular_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/internal/regular"
)

// TestReadFileNeverWaitsForAPipe: a pipe without a writer does not block the reader, also
// if it is behind a link, or if a pipe and a file replace each other under one name.
func TestReadFileNeverWaitsForAPipe(t *testing.T) {
	dir := t.TempDir()
	pipe, link, name, file := filepath.Join(dir, "pipe"), filepath.Join(dir, "link"), filepath.Join(dir, "name"), filepath.Join(dir, "file")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	require.NoError(t, os.Symlink(pipe, link))
	require.NoError(t, os.WriteFile(file, []byte("x"), 0o600))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, name := range []string{pipe, link} {
			_, _, err := regular.ReadFile(name, 10)
			assert.ErrorIs(t, err, regular.ErrNotRegular)
		}
		for range 2000 {
			data, _, err := regular.ReadFile(name, 10)
			assert.True(t, err != nil || string(data) == "x")
		}
	}()
	tmp := filepath.Join(dir, "tmp")
	for {
		for _, target := range []string{pipe, file} {
			require.NoError(t, os.Symlink(target, tmp))
			require.NoError(t, os.Rename(tmp, name))
		}
		select {
		case <-done:
			return
		case <-time.After(0):
		}
	}
}
