package realtest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Programs of containerd: that of the system, which is 1.6 in Debian 12, and one of version
// 2, which CI builds under this name.
const (
	ContainerdProgram  = "containerd"
	Containerd2Program = "containerd2"
)

// A Containerd is a running containerd with its CRI plugin. It is started by
// StartContainerd.
type Containerd struct {
	Socket string // path of its socket
	Root   string // directory in which it keeps content
}

// StartContainerd starts an installed containerd, and stops it at the end of the test. If
// the program is missing, or root does not run the test, the test is skipped or fails, as
// with Need. hosts are the files hosts.toml by registry. When StartContainerd returns,
// containerd listens; its CRI plugin may need some more time.
func StartContainerd(t testing.TB, program string, hosts map[string]string) *Containerd {
	t.Helper()
	program = Need(t, program)
	NeedRoot(t, "containerd needs it")
	dir := ShortDir(t)
	c := &Containerd{Socket: filepath.Join(dir, "cd.sock"), Root: filepath.Join(dir, "root")}
	certs := filepath.Join(dir, "certs.d")
	for registry, file := range hosts {
		at := filepath.Join(certs, registry)
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(at, "hosts.toml"), []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(config, []byte(fmt.Sprintf(containerdConfig, c.Root, filepath.Join(dir, "state"), c.Socket, certs)), 0o600); err != nil {
		t.Fatal(err)
	}
	c.run(t, exec.Command(program, "--config", config))
	return c
}

// containerdConfig is also read by version 2, which moves what has other places there.
const containerdConfig = `version = 2
root = %q
state = %q
[grpc]
  address = %q
[plugins."io.containerd.grpc.v1.cri"]
  disable_tcp_service = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = %q
`

// run starts the program and waits until it listens. At the end of the test it stops the
// program.
func (c *Containerd) run(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its error says how it was stopped
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		if t.Failed() {
			t.Log(log.String())
		}
	})
	for limit := time.After(time.Minute); ; {
		if conn, err := net.Dial("unix", c.Socket); err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-ended:
			t.Fatalf("containerd has not started: %s", log.String())
		case <-limit:
			t.Fatal("containerd does not listen")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Ctr runs ctr, containerd's own client, in a namespace, and returns what it prints. The
// test fails if ctr fails.
func (c *Containerd) Ctr(t testing.TB, namespace string, args ...string) string {
	t.Helper()
	cmd := exec.Command(Need(t, "ctr"), append([]string{"--address", c.Socket, "--namespace", namespace}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("ctr %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
