//go:build unix && !solaris && !aix

package credentials

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func mkfifo(t testing.TB, path string) { require.NoError(t, syscall.Mkfifo(path, 0o600)) }
