//go:build unix && !solaris && !aix

package puller

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRecordsThatAreNoFiles holds that pipes, devices, directories and links among the
// records hold no call, let no stranger in, and cost the owner a question to the registry.
func TestRecordsThatAreNoFiles(t *testing.T) {
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
				records, err := OpenRecords(dir)
				require.NoError(t, err)
				defer records.Close()
				require.NoError(t, plantAt(filepath.Join(dir, where)))
				w := newWorld(t, Config{Records: records})
				w.runtime.store["priv.example/app:1"] = id
				w.runtime.pull = answers(map[string]string{"anonymous": "401", "a": ""})
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()

				_, err = w.Pull(ctx, Request{Image: "priv.example/app:1", Policy: pullpolicy.Never})
				assert.ErrorIs(t, err, ErrImageNeverPull, "a stranger")
				_, err = w.Pull(ctx, Request{Image: "priv.example/app:1", Pod: credentials.Pod{UID: "1"}})
				assert.ErrorContains(t, err, "401", "a stranger asks the registry")
				w.runtime.pull = nil
				_, err = w.Pull(ctx, Request{Image: "priv.example/app:1", Keyring: ringOf(secret("a", "1"))})
				assert.NoError(t, err, "the owner")
				assert.NoError(t, ctx.Err(), "nothing waited for the time limit")
			})
		}
	}
}

// TestRecordsAreReadUnderNoLock holds that an operation on one image's file that hangs
// holds up no other image's, and that those who wait for its turn leave with their
// context.
func TestRecordsAreReadUnderNoLock(t *testing.T) {
	records, err := OpenRecords(t.TempDir())
	require.NoError(t, err)
	defer records.Close()
	hang, hanging := make(chan struct{}), make(chan struct{})
	ended := make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := work(ctx, records, recordFile("a"), func() (int, error) {
			close(hanging)
			<-hang
			return 0, nil
		})
		ended <- err
	}()
	<-hanging
	assert.NoError(t, records.Grant(t.Context(), "b", "x.example/app", Access{Everybody: true}))
	_, err = records.Record(t.Context(), "a")
	assert.ErrorIs(t, err, fs.ErrNotExist, "reading waits for no turn")
	done, err := records.Intend(t.Context(), "x.example/app:v1 linux/amd64")
	require.NoError(t, err)
	assert.NoError(t, done())
	short, end := context.WithTimeout(t.Context(), time.Millisecond)
	defer end()
	assert.ErrorIs(t, records.Grant(short, "a", "x.example/app", Access{}), context.DeadlineExceeded)
	cancel()
	assert.ErrorIs(t, <-ended, context.Canceled)
	close(hang)
	assert.NoError(t, records.Grant(t.Context(), "a", "x.example/app", Access{Everybody: true}))
	assert.Empty(t, records.turns.slots)
}

// TestRecordsHaveOneLimit holds that no file is written that would not be read.
func TestRecordsHaveOneLimit(t *testing.T) {
	dir := t.TempDir()
	records, err := OpenRecords(dir)
	require.NoError(t, err)
	defer records.Close()
	assert.EqualValues(t, 8<<20, records.limit, "as the documentation says")
	records.limit = 10_000
	require.NoError(t, records.Grant(t.Context(), "id", "x.example/first", Access{Everybody: true}))
	file := filepath.Join(dir, recordFile("id"))
	var rec Record
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &rec))
	rec.Names["x.example/"+strings.Repeat("a", int(records.limit)-len(data)-100)] = Access{}
	data, err = json.Marshal(rec)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, data, 0o600))

	err = records.Grant(t.Context(), "id", "x.example/"+strings.Repeat("b", 200), Access{Everybody: true})
	assert.ErrorContains(t, err, "at most 10000 are kept")
	now, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(data, now), "the file stays as it is")
	got, err := records.Record(t.Context(), "id")
	require.NoError(t, err)
	assert.True(t, got.Names["x.example/first"].Everybody)
	_, err = records.Intend(t.Context(), strings.Repeat("a", int(records.limit)))
	assert.ErrorContains(t, err, "at most")
}

// TestUnreadableRecordIsMarked holds that a record written over one that cannot be read
// says that names may be missing.
func TestUnreadableRecordIsMarked(t *testing.T) {
	for _, bad := range []string{"", "{", `{"id":"another"}`, "null"} {
		dir := t.TempDir()
		records, err := OpenRecords(dir)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, recordFile("id")), []byte(bad), 0o600))
		require.NoError(t, records.Grant(t.Context(), "id", "x.example/a", Access{Everybody: true}))
		require.NoError(t, records.Grant(t.Context(), "id", "x.example/b", Access{Everybody: true}))
		rec, err := records.Record(t.Context(), "id")
		require.NoError(t, err)
		assert.True(t, rec.Incomplete, bad)
		assert.Len(t, rec.Names, 2)
		require.NoError(t, records.Close())
	}
}
