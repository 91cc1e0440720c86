package scripted_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/pullkit/pullkit/internal/scripted"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// slow has the scenarios that take a program 15 to 30 seconds each. In memory they take no
// time. The program plays them only if CI runs the tests.
var slow = map[string]bool{
	"stall-mid-layer": true, "stall-no-header": true, "stall-token": true, "slow-loris": true, "stall-manifest": true, "stall-error-body": true,
}

// The scenarios are played on sockets to the built program examples/pull. So its memory is
// measured, and processes are killed. By default this test plays one scenario in five;
// TestTheBuiltInPartsPassEachScenario plays all of them.
func TestTheBuiltProgramPassesTheScenarios(t *testing.T) {
	program := buildProgram(t)
	play := func(sc scripted.Scenario, box, home string) error {
		return scripted.TestScenario(t.Context(), sc, nil, box, func(ctx context.Context, job scripted.Job) error {
			return runProgram(ctx, program, home, job)
		})
	}
	var all []scripted.Scenario
	for _, file := range files {
		all = append(all, readScenarios(t, file.name, file.scenarios)...)
	}
	require.Len(t, all, 183)
	// The slow scenarios mostly wait. They run in parallel with each other and with the
	// other scenarios.
	waited := map[string]chan error{}
	for _, sc := range all {
		if slow[sc.Name] && realtest.Required() {
			result, box, home := make(chan error, 1), t.TempDir(), t.TempDir()
			waited[sc.Name] = result
			go func() { result <- play(sc, box, home) }()
		}
	}
	t.Run("fast", func(t *testing.T) {
		step := len(all) / rounds.Of(len(all))
		for i, sc := range all {
			if !slow[sc.Name] && i%step == 0 {
				t.Run(sc.Name, func(t *testing.T) {
					t.Parallel()
					assert.NoError(t, play(sc, t.TempDir(), t.TempDir()))
				})
			}
		}
	})
	for name := range slow {
		t.Run(name, func(t *testing.T) {
			if waited[name] == nil {
				t.Skip("takes long; set PULLKIT_REQUIRE_REAL_PARTS=1 to play it, as CI does")
			}
			assert.NoError(t, <-waited[name])
		})
	}
}

func buildProgram(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "pull.exe") // Windows runs a program only with such a name
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/pullkit/pullkit/examples/pull").CombinedOutput()
	require.NoError(t, err, string(out))
	return program
}

// runProgram pulls in a new process, which is killed when ctx ends.
func runProgram(ctx context.Context, program, home string, job scripted.Job) error {
	dir, err := os.MkdirTemp(home, "")
	if err != nil {
		return err
	}
	config := filepath.Join(dir, "config.json")
	if err := os.WriteFile(config, job.Config, 0o600); err != nil {
		return err
	}
	args := []string{"-o", job.Store, "-config", config, "-platform", job.Platform}
	if job.PlainHTTP {
		args = append(args, "-plain-http")
	}
	cmd := exec.CommandContext(ctx, program, append(args, job.Image)...)
	cmd.Dir = job.Box
	cmd.Stdout, cmd.Stderr = job.Log, job.Log
	cmd.Env = append(os.Environ(), "HOME="+home, "TMPDIR="+home, "DOCKER_CONFIG="+dir, "http_proxy=", "https_proxy=")
	if job.CA != nil {
		ca := filepath.Join(dir, "ca.pem")
		if err := os.WriteFile(ca, job.CA, 0o600); err != nil {
			return err
		}
		cmd.Env = append(cmd.Env, "SSL_CERT_FILE="+ca)
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := watchMemory(cmd.Process.Pid, job)
	defer stop()
	return cmd.Wait()
}

// watchMemory reads a process's peak memory until stop is called. The kernel also reports a
// peak after the process has ended, but that includes the memory of the test, from which
// the process was forked. Only Linux reports the peak while the process runs.
func watchMemory(pid int, job scripted.Job) (stop func()) {
	if runtime.GOOS != "linux" {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if mb, ok := peakMB(pid); ok {
					job.PeakMB(mb)
				}
			case <-done:
				return
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

func peakMB(pid int) (int64, bool) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, ok := strings.Cut(string(status), "VmHWM:")
	if err != nil || !ok || !strings.Contains(string(status), "pull.exe") {
		return 0, false // the process has ended, or is still the fork of the test
	}
	var kb int64
	_, err = fmt.Sscan(rest, &kb)
	return kb / 1024, err == nil
}
