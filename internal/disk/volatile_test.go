package disk_test

import (
	"errors"
	"testing"

	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/disk/disktest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A volatile FS neither syncs nor reserves room, and all other operations are those of the FS.
func TestAVolatileFSSyncsAndReservesNothing(t *testing.T) {
	mem := disktest.New()
	failing := disktest.Before(mem.Process(), func(op, _ string) error {
		switch op {
		case "sync", "syncdir", "syncfs":
			return errors.New(op)
		}
		return nil
	})
	fsys := disk.Volatile(failing)
	f, err := fsys.OpenFile("a", disk.NewFile)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("1"), 0)
	require.NoError(t, err)
	f.WriteBack()
	assert.NoError(t, f.Sync())
	assert.NoError(t, fsys.SyncDir("."))
	assert.NoError(t, fsys.SyncFS())
	assert.ErrorIs(t, f.Reserve(0, 1<<20), errors.ErrUnsupported)
	info, err := f.Stat()
	require.NoError(t, err)
	assert.EqualValues(t, 1, info.Size())
	_, err = fsys.OpenFile("absent", 0)
	assert.Error(t, err)
}
