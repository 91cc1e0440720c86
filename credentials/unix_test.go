//go:build unix

package credentials

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// end kills a process, which must exist.
func end(t testing.TB, pid int) { require.NoError(t, syscall.Kill(pid, syscall.SIGKILL)) }
