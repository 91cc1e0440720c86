//go:build unix

package credentials

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// end ends a process, which must be there.
func end(t testing.TB, pid int) { require.NoError(t, syscall.Kill(pid, syscall.SIGKILL)) }
