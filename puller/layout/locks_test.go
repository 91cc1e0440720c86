package layout

import (
	"context"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullkit/pullkit/puller/content"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Both ways to lock, that of Linux and that of the other systems.
func TestLocks(t *testing.T) {
	for name, try := range map[string]func(f *osFS, key string) (func() error, error){
		"this system's": func(f *osFS, key string) (func() error, error) { return f.TryLock(key) },
		"a file each": func(f *osFS, key string) (func() error, error) {
			d, err := f.dir(stateDir)
			if err != nil {
				return nil, err
			}
			return tryLockFile(d.root, key)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			a, b := must(openOS(dir)), must(openOS(dir))
			defer a.Close()
			defer b.Close()
			require.NoError(t, a.Mkdir(stateDir))
			for range 3 {
				unlock, err := try(a, "sha256:x")
				require.NoError(t, err)
				_, err = try(b, "sha256:x")
				require.ErrorIs(t, err, errLocked)
				other, err := try(b, "sha256:y")
				require.NoError(t, err)
				require.NoError(t, other())
				require.NoError(t, unlock())
				unlock, err = try(b, "sha256:x")
				require.NoError(t, err)
				require.NoError(t, unlock())
			}
			require.NoError(t, os.RemoveAll(dir+"/"+stateDir)) // as another tool might
			require.NoError(t, os.Mkdir(dir+"/"+stateDir, 0o755))
			require.ErrorIs(t, a.CheckDir(stateDir), errReplacedDir)
			require.ErrorIs(t, b.CheckDir(stateDir), errReplacedDir)
			unlock, err := try(a, "sha256:x")
			require.NoError(t, err)
			_, err = try(b, "sha256:x")
			require.ErrorIs(t, err, errLocked)
			require.NoError(t, unlock())
		})
	}
}

func TestLockWaitsAndGivesUp(t *testing.T) {
	l := openTest(t, t.TempDir())
	other := openTest(t, l.Dir())
	require.NoError(t, l.mkdir(stateDir))
	for _, holder := range []*Layout{l, other} { // in the process, and of another
		unlock, err := holder.lock(t.Context(), "k")
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan error)
		go func() {
			_, err := l.lock(ctx, "k")
			got <- err
		}()
		cancel()
		assert.ErrorIs(t, <-got, context.Canceled)
		_, ok := l.tryLock("k")
		assert.False(t, ok)
		unlock()
		unlock, err = l.lock(t.Context(), "k")
		require.NoError(t, err)
		unlock()
	}
	assert.Empty(t, l.keys.held)
}

// A process that was stopped while it made the layout holds Open up for a minute
// and not for ever.
func TestOpenGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newMemDisk()
		_, err := (&memFS{disk}).TryLock(indexLock)
		require.NoError(t, err)
		start := time.Now()
		_, err = openMem(&memFS{disk})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, content.ErrStore, content.KindOf(err))
		assert.Equal(t, openWait, time.Since(start))
	})
}
