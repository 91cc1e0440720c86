package transfer_test

import (
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The environment variables of a child of TestKilledAndStartedAgain.
const (
	envDir    = "PULLKIT_TEST_KILLED_DIR"
	envKillAt = "PULLKIT_TEST_KILLED_AT" // bytes of blobs after which the process kills itself
)

// killedImage puts the same image in the parent and in the children.
func killedImage(t *testing.T) (*fakeSource, reference.Reference, int64) {
	src := newFakeSource()
	src.readSize = 48 << 10
	layers := [][]byte{random(1, 12<<20), random(2, 5<<20), random(3, 300<<10), random(4, 40)}
	ref := src.name(appName, src.image(t, amd64, layers...))
	var size int64
	for _, b := range src.blobs {
		size += int64(len(b))
	}
	return src, ref, size
}

// A countingSource writes to a file how many bytes it gave, and kills its process.
type countingSource struct {
	*fakeSource
	mu     sync.Mutex
	f      *os.File
	count  int64
	killAt int64
}

func (s *countingSource) Blob(ctx context.Context, repo content.Repo, desc ocispec.Descriptor, off, n int64) (content.Body, error) {
	body, err := s.fakeSource.Blob(ctx, repo, desc, off, n)
	if err != nil {
		return content.Body{}, err
	}
	counted := readFunc(func(p []byte) (int, error) {
		n, err := body.Read(p)
		s.note(int64(n))
		return n, err
	})
	return content.Body{ReadCloser: struct {
		io.Reader
		io.Closer
	}{counted, body}, Start: body.Start}, nil
}

func (s *countingSource) note(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count += n
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(s.count))
	_, _ = s.f.WriteAt(b[:], 0)
	if s.count >= s.killAt {
		p, _ := os.FindProcess(os.Getpid())
		_ = p.Kill()
		select {}
	}
}

// TestKilledChild is the process that is killed.
func TestKilledChild(t *testing.T) {
	dir := os.Getenv(envDir)
	if dir == "" {
		return // runs as a child of TestKilledAndStartedAgain
	}
	fake, ref, _ := killedImage(t)
	src := &countingSource{fakeSource: fake}
	var err error
	src.killAt, err = strconv.ParseInt(os.Getenv(envKillAt), 10, 64)
	require.NoError(t, err)
	src.f, err = os.Create(filepath.Join(dir, "count"))
	require.NoError(t, err)
	store, err := layout.Open(filepath.Join(dir, "images"), layout.Config{})
	require.NoError(t, err)
	_, err = newRuntime(t, transfer.Config{Source: src, Store: store}).Pull(t.Context(), spec(ref))
	require.NoError(t, err)
	require.NoError(t, store.Close())
}

// Bytes that arrived before a SIGKILL are not asked for again, except for 1 MiB a kill.
func TestKilledAndStartedAgain(t *testing.T) {
	dir := t.TempDir()
	_, ref, size := killedImage(t)
	rng := rand.New(rand.NewPCG(1, 2))
	var total int64
	kills := 0
	for {
		at := 1 + rng.Int64N(size/4)
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledChild$", "-test.v")
		child.Env = append(os.Environ(), envDir+"="+dir, envKillAt+"="+strconv.FormatInt(at, 10))
		out, err := child.CombinedOutput()
		count, rerr := os.ReadFile(filepath.Join(dir, "count"))
		require.NoError(t, rerr, "%s", out)
		if len(count) == 8 {
			total += int64(binary.LittleEndian.Uint64(count))
		}
		if err == nil {
			break
		}
		require.NotContains(t, string(out), "FAIL", "%s", out)
		if kills++; kills > 40 {
			t.Fatalf("no progress: %s", out)
		}
	}
	require.Positive(t, kills)
	t.Logf("%d kills, %d of %d bytes", kills, total, size)
	assert.LessOrEqual(t, total, size+size/100+int64(kills)<<20)

	store, err := layout.Open(filepath.Join(dir, "images"), layout.Config{})
	require.NoError(t, err)
	_, err = newRuntime(t, transfer.Config{Source: newFakeSource(), Store: store}).Status(t.Context(), spec(ref))
	require.NoError(t, err)
	require.NoError(t, store.Close())
}
