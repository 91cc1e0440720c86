// Package realtest finds the real programs that some tests run against.
package realtest

import (
	"os"
	"os/exec"
	"testing"
)

// Required reports whether a missing program is a failure, as it is in CI,
// which installs them all.
func Required() bool { return os.Getenv("PULLKIT_REQUIRE_REAL_PARTS") == "1" }

// Need returns the path of a program. Without the program the test is skipped,
// or fails where Required says so.
func Need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	if Required() {
		t.Fatalf("%s is not installed: %v", program, err)
	}
	t.Skipf("%s is not installed; set PULLKIT_REQUIRE_REAL_PARTS=1 to make this a failure", program)
	return ""
}

// NeedRoot skips a test that only root can run, or fails it where Required says
// so.
func NeedRoot(t testing.TB, why string) {
	t.Helper()
	switch {
	case os.Geteuid() == 0:
	case Required():
		t.Fatalf("not run as root: %s", why)
	default:
		t.Skipf("not run as root: %s; set PULLKIT_REQUIRE_REAL_PARTS=1 to make this a failure", why)
	}
}
