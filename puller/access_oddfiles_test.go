//go:build unix && !solaris && !aix

package puller

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// If a record or a note is a pipe, a directory, a link or a socket, no call hangs, and no
// Pod without the secret gets the image. A Pod with the secret gets it from the registry.
func TestRecordsThatAreNotRegularFilesGrantNoAccess(t *testing.T) {
	const id = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	plant := map[string]func(name string) error{
		"pipe":      func(name string) error { return syscall.Mkfifo(name, 0o600) },
		"directory": func(name string) error { return os.Mkdir(name, 0o700) },
		"link to a pipe": func(name string) error {
			_ = syscall.Mkfifo(name+".pipe", 0o600)
			return os.Symlink(filepath.Base(name)+".pipe", name)
		},
		"link outside": func(name string) error { return os.Symlink("/dev/zero", name) },
		"socket": func(name string) error {
			return syscall.Mknod(name, syscall.S_IFSOCK|0o600, 0)
		},
	}
	for what, plantAt := range plant {
		for _, where := range []string{recordFile(id), "intents/" + strings.Repeat("0", 64) + "-00.json"} {
			t.Run(what+" at "+filepath.Dir(where), func(t *testing.T) {
				dir := t.TempDir()
				recs, err := records.Open(dir)
				require.NoError(t, err)
				defer recs.Close()
				require.NoError(t, plantAt(filepath.Join(dir, where)))
				w := newWorld(t, Config{Records: recs})
				w.runtime.store["priv.example/app:1"] = id
				w.runtime.pull = answers(map[string]string{"anonymous": "401", "a": ""})
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()

				_, err = w.Pull(ctx, Request{Image: "priv.example/app:1", Policy: pullpolicy.Never})
				assert.ErrorIs(t, err, ErrImageNeverPull, "a Pod without the secret")
				_, err = w.Pull(ctx, Request{Image: "priv.example/app:1", Pod: credentials.Pod{UID: "1"}})
				assert.ErrorContains(t, err, "401", "for a Pod without the secret the registry is asked")
				w.runtime.pull = nil
				_, err = w.Pull(ctx, Request{Image: "priv.example/app:1", Keyring: keyringOf(secret("a", "1"))})
				assert.NoError(t, err, "a Pod with the secret")
				assert.NoError(t, ctx.Err(), "no call waited until the time limit")
			})
		}
	}
}
