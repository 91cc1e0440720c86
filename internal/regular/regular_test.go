package regular_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/internal/regular"
)

func TestReadFileReadsRegularFilesUpToTheLimit(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "a")
	require.NoError(t, os.WriteFile(name, bytes.Repeat([]byte("x"), 10), 0o640))
	data, info, err := regular.ReadFile(name, 10)
	require.NoError(t, err)
	assert.Len(t, data, 10)
	assert.EqualValues(t, 10, info.Size())

	_, _, err = regular.ReadFile(name, 9)
	assert.ErrorIs(t, err, regular.ErrTooLarge)
	_, _, err = regular.ReadFile(dir, 10)
	assert.ErrorIs(t, err, regular.ErrNotRegular)
	_, _, err = regular.ReadFile(os.DevNull, 10)
	assert.ErrorIs(t, err, regular.ErrNotRegular)
	_, _, err = regular.ReadFile(filepath.Join(dir, "absent"), 10)
	assert.ErrorIs(t, err, fs.ErrNotExist)
}
