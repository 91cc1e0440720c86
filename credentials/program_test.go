package credentials

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMain makes the test's own binary the program of the plugins and helpers in the tests.
// programMode says what the program does.
func TestMain(m *testing.M) {
	if mode := os.Getenv(programMode); mode != "" {
		os.Exit(program(mode))
	}
	os.Exit(m.Run())
}

const (
	programMode   = "PULLKIT_TEST_PROGRAM"
	programSecret = "PULLKIT_TEST_SECRET"
	programLog    = "PULLKIT_TEST_LOG"  // the program appends a line for each run
	programGate   = "PULLKIT_TEST_GATE" // a pipe; the program waits until it is closed
)

// program is the main function of the plugins and helpers.
func program(mode string) int {
	stdin, err := io.ReadAll(os.Stdin)
	if err != nil {
		return 3
	}
	if path := os.Getenv(programLog); path != "" {
		log, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return 3
		}
		fmt.Fprintf(log, "%s\n", bytes.TrimSpace(stdin))
		log.Close()
	}
	if path := os.Getenv(programGate); path != "" {
		gate, err := os.Open(path) // waits until the test opens it to write
		if err != nil {
			return 3
		}
		io.Copy(io.Discard, gate)
	}
	switch mode {
	case "registry", "image", "global":
		var req request
		if err := json.Unmarshal(stdin, &req); err != nil {
			return 4
		}
		host, _, _ := strings.Cut(req.Image, "/")
		scope := strings.ToUpper(mode[:1]) + mode[1:]
		fmt.Printf(`{"kind":"CredentialProviderResponse","apiVersion":%q,"cacheKeyType":%q,"cacheDuration":"1h","auth":{%q:{"username":"run","password":%q}}}`,
			req.APIVersion, scope, host, os.Getenv(programSecret))
	case "report": // all that the plugin received, as the password
		report, _ := json.Marshal(map[string]any{"args": os.Args[1:], "env": os.Environ(), "stdin": string(stdin)})
		password, _ := json.Marshal(string(report))
		fmt.Printf(`{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"Image","auth":{"*.io":{"username":"u","password":%s}}}`, password)
	case "huge":
		block := bytes.Repeat([]byte("x"), 64<<10)
		for {
			if _, err := os.Stdout.Write(block); err != nil {
				return 5
			}
		}
	case "hang": // does not end, and has a child that holds the output open
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), programMode+"=wait")
		child.Stdout, child.Stderr = os.Stdout, os.Stderr
		if err := child.Start(); err != nil {
			return 3
		}
		wait()
	case "wait":
		wait()
	case "daemon": // answers, and leaves a child that holds the output open
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), programMode+"=wait", programGate+"=", programLog+"=")
		child.Stdout = os.Stdout
		if err := child.Start(); err != nil {
			return 3
		}
		if path := os.Getenv(programSecret); path != "" {
			os.WriteFile(path, fmt.Append(nil, child.Process.Pid), 0o600)
		}
		fmt.Print(`{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"Image"}`)
	case "fail":
		fmt.Fprintf(os.Stderr, "\x1b[31mcannot log in with %s\n", os.Getenv(programSecret))
		return 1
	case "echo": // a helper that has one login for all servers
		fmt.Print(`{"ServerURL":"","Username":"helper","Secret":"hunter2"}`)
	case "servers": // a helper that answers with the server as the user name
		fmt.Printf(`{"Username":%q,"Secret":"hunter2"}`, "for "+strings.TrimSpace(string(stdin)))
	case "helper":
		return helperProgram(strings.TrimSpace(string(stdin)))
	}
	return 0
}

// wait does not return.
func wait() {
	r, w, err := os.Pipe()
	if err != nil {
		os.Exit(3)
	}
	defer w.Close()
	r.Read(make([]byte, 1))
}

// helperProgram is a docker-credential-* program.
func helperProgram(server string) int {
	switch {
	case len(os.Args) != 2 || os.Args[1] != "get":
		return 2
	case server == "r.io":
		fmt.Printf(`{"ServerURL":"r.io","Username":"kept","Secret":%q}`, os.Getenv(programSecret))
	case server == "token.io":
		fmt.Print(`{"ServerURL":"token.io","Username":"<token>","Secret":"refresh"}`)
	case server == "https://index.docker.io/v1/":
		fmt.Print(`{"ServerURL":"https://index.docker.io/v1/","Username":"hub","Secret":"hunter2"}`)
	case server == "broken.io":
		fmt.Print("the store is locked\n")
		return 1
	case server == "half.io":
		answer := `{"ServerURL":"half.io","Username":"u","Secret":"hunter2"}`
		fmt.Print("warning: the store is old\n", answer)
		fmt.Fprint(os.Stderr, "+ echo ", answer)
		return 1
	case server == "garbage.io":
		fmt.Print(`{"Username":"u","Secret":["hunter2"]}`)
	default:
		fmt.Print("credentials not found in native keychain\n")
		return 1
	}
	return 0
}

// installProgram puts the test's binary into a new directory under each of the names, and
// returns the directory.
func installProgram(t testing.TB, names ...string) (dir string) {
	self, err := os.Executable()
	require.NoError(t, err)
	dir = t.TempDir()
	for _, name := range names {
		if runtime.GOOS == "windows" { // programs have a suffix there, and links need a privilege
			data, err := os.ReadFile(self)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, name+".exe"), data, 0o755))
			continue
		}
		require.NoError(t, os.Symlink(self, filepath.Join(dir, name)))
	}
	return dir
}

// programEnv returns an environment that sets the mode of the program, and more variables.
func programEnv(mode string, more ...string) map[string]Sensitive {
	env := map[string]Sensitive{programMode: Conceal(mode)}
	for i := 0; i < len(more); i += 2 {
		env[more[i]] = Conceal(more[i+1])
	}
	return env
}

// pluginEnv returns the variables of programEnv as the configuration of a plugin has them.
func pluginEnv(mode string, more ...string) []envVar {
	env := []envVar{{programMode, Conceal(mode)}}
	for i := 0; i < len(more); i += 2 {
		env = append(env, envVar{more[i], Conceal(more[i+1])})
	}
	return env
}

// runs returns one line for each run of the program.
func runs(t testing.TB, log string) []string {
	data, err := os.ReadFile(log)
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(t, err)
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}
