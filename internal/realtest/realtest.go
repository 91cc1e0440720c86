// Package realtest runs real registries and finds real tools for tests. It has a
// docker-registry, a token server whose tokens docker-registry accepts, and a
// certificate authority for both.
package realtest

import (
	"os"
	"os/exec"
	"testing"
)

// Required reports whether a missing program fails a test instead of skipping it. CI, where
// all programs are installed, requires them by PULLKIT_REQUIRE_REAL_PARTS=1.
func Required() bool { return os.Getenv("PULLKIT_REQUIRE_REAL_PARTS") == "1" }

// Need returns the path of an installed program. If the program is missing, Need skips
// the test, or fails it if Required is true.
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

// NeedRoot skips a test that only root can run, or fails it if Required is true. It does
// nothing if root runs the process. why is the reason, for the message.
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

// ShortDir returns a new directory whose path has at most 30 bytes where the system has a
// directory /tmp, however long the path in TMPDIR is. It is for programs that make sockets,
// whose paths have at most 108 bytes, and for podman, whose runroot has at most 50. The
// directory is removed at the end of the test.
func ShortDir(t testing.TB) string {
	t.Helper()
	parent := os.TempDir()
	if _, err := os.Stat("/tmp"); err == nil {
		parent = "/tmp"
	}
	dir, err := os.MkdirTemp(parent, "pullkit-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
