//go:build !unix

package credentials

import "os/exec"

// killGroup leaves cmd as it is: its cancellation kills only the program, not its children.
func killGroup(*exec.Cmd) {}
