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
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The environment of a child of TestKilledAndStartedAgain.
const (
	envDir    = "PULLKIT_TEST_KILLED_DIR"
	envKillAt = "PULLKIT_TEST_KILLED_AT" // bytes of blobs after which the process kills itself
)

// killedImage is the same in parent and children.
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

// A countingSource notes the bytes it gives in a file, and kills its process.
type countingSource struct {
	*fakeSource
	mu     sync.Mutex
	f      *os.File
	count  int64
	killAt int64
}

func (s *countingSource) Blob(ctx context.Context, ref reference.Reference, cred credentials.Credential, desc ocispec.Descriptor, off, n int64) (io.ReadCloser, int64, error) {
	body, start, err := s.fakeSource.Blob(ctx, ref, cred, desc, off, n)
	if err != nil {
		return nil, 0, err
	}
	counted := readFunc(func(p []byte) (int, error) {
		n, err := body.Read(p)
		s.note(int64(n))
		return n, err
	})
	return struct {
		io.Reader
		io.Closer
	}{counted, body}, start, nil
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
	store, err := layout.Open(filepath.Join(dir, "images"))
	require.NoError(t, err)
	_, err = transfer.New(transfer.Config{Source: src, Store: store}).Pull(t.Context(), spec(ref))
	require.NoError(t, err)
	require.NoError(t, store.Close())
}

// What arrived before a SIGKILL is not asked for again, but for 1 MiB a kill.
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

	store, err := layout.Open(filepath.Join(dir, "images"))
	require.NoError(t, err)
	_, err = transfer.New(transfer.Config{Source: newFakeSource(), Store: store}).Status(t.Context(), spec(ref))
	require.NoError(t, err)
	require.NoError(t, store.Close())
}
