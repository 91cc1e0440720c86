//go:build unix

package credentials

import (
	"os"
	"os/exec"
	"syscall"
)

// killGroup makes cmd's cancellation reach the children it started, which might
// otherwise run on and hold its output open.
func killGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if err == syscall.ESRCH {
			return os.ErrProcessDone
		}
		return err
	}
}
