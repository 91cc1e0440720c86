//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package certsd

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller/content"
)

// A pipe or a device in place of hosts.toml, or of a file that hosts.toml names, is an error at
// once. Other registries can still be asked.
func TestAPipeInPlaceOfAFileIsAnErrorAtOnce(t *testing.T) {
	_, cert, _ := realtest.NewCA(t).Issue(t, "client", "client")
	for name, toml := range map[string]string{
		"hosts.toml":  "",
		"ca.crt":      `ca = "ca.crt"`,
		"other.crt":   `ca = ["other.crt"]`,
		"client.pem":  `client = "client.pem"`,
		"key.pem":     `client = [["` + cert + `", "key.pem"]]`,
		"mirror.crt":  "[host.\"https://m.example\"]\nca = \"mirror.crt\"",
		"docker.crt":  "",
		"docker.cert": "",
	} {
		for _, device := range []string{"", "/dev/zero"} {
			dir := certsDir(t, map[string]string{"reg.example/unrelated": ""})
			at := filepath.Join(dir, "reg.example", name)
			if toml != "" {
				require.NoError(t, os.WriteFile(filepath.Join(dir, "reg.example", "hosts.toml"), []byte(toml), 0o600))
			}
			if device == "" {
				require.NoError(t, syscall.Mkfifo(at, 0o600))
			} else {
				require.NoError(t, os.Symlink(device, at))
			}
			began := time.Now()
			err := ask(t, dir, "reg.example/app")
			assert.ErrorIs(t, err, content.ErrConfig, name)
			assert.ErrorContains(t, err, "is not a regular file", name)
			err = ask(t, dir, "other.example/app")
			assert.ErrorIs(t, err, content.ErrNetwork, name)
			assert.Less(t, time.Since(began), 15*time.Second, "the time that a Client waits for files")
		}
	}
}
