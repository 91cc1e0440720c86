//go:build unix

package subprocess

import (
	"os"
	"os/exec"
	"syscall"
)

// killGroup makes the cancellation of cmd also kill the programs that cmd started. Otherwise
// these might run on, and hold its output open.
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
