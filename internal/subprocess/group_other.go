//go:build !unix

package subprocess

import "os/exec"

// killGroup does not change cmd: the cancellation of cmd kills only the program itself, and
// not the programs that it started.
func killGroup(*exec.Cmd) {}
