package puller

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func openRecords(t *testing.T) *FileRecords {
	t.Helper()
	r, err := OpenRecords(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}
