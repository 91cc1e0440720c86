package transfer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const buffer = 256 << 10 // the largest write

// A strictStore takes time for writes. It records a byte that is written twice, and a write
// that is under way when its ingest ends.
type strictStore struct {
	*memStore
	write func(off int64) (time.Duration, error)

	mu      sync.Mutex
	most    int // writes at once of a blob
	written int64
}

func (s *strictStore) Ingest(ctx context.Context, desc ocispec.Descriptor) (content.Ingest, error) {
	in, err := s.memStore.Ingest(ctx, desc)
	if err != nil {
		return nil, err
	}
	strict := &strictIngest{Ingest: in, s: s, data: desc.Data}
	for off, n := range in.Have() {
		strict.claim(off, n)
	}
	return strict, nil
}

type strictIngest struct {
	content.Ingest
	s    *strictStore
	data []byte     // of the descriptor
	have [][2]int64 // from, to
	now  int        // writes under way
	over bool
}

func (in *strictIngest) note(format string, args ...any) {
	in.s.memStore.mu.Lock()
	defer in.s.memStore.mu.Unlock()
	in.s.problem(format, args...)
}

func (in *strictIngest) claim(off, n int64) {
	if len(in.data) > 0 {
		return // a blob that came in its descriptor is written whole, even if bytes were kept
	}
	for _, h := range in.have {
		if off < h[1] && h[0] < off+n {
			in.note("[%d,%d) is written, and [%d,%d) again", h[0], h[1], off, off+n)
		}
	}
	in.have = append(in.have, [2]int64{off, off + n})
}

func (in *strictIngest) WriteAt(p []byte, off int64) (int, error) {
	s := in.s
	s.mu.Lock()
	if in.over {
		in.note("write at %d of an ingest that is over", off)
	}
	in.claim(off, int64(len(p)))
	in.now++
	s.most = max(s.most, in.now)
	s.mu.Unlock()
	before := bytes.Clone(p)
	var takes time.Duration
	var err error
	if s.write != nil {
		takes, err = s.write(off)
	}
	time.Sleep(takes)
	s.mu.Lock()
	defer s.mu.Unlock()
	in.now--
	if !bytes.Equal(before, p) {
		in.note("the buffer for %d changed while it was written", off)
	}
	if err != nil {
		in.have = slices.DeleteFunc(in.have, func(h [2]int64) bool { return h[0] == off }) // it may be written again
		return 0, err
	}
	s.written += int64(len(p))
	return in.Ingest.WriteAt(p, off)
}

func (in *strictIngest) end(what string) {
	in.s.mu.Lock()
	defer in.s.mu.Unlock()
	if in.now > 0 {
		in.note("%s while a write is under way", what)
	}
	in.over = true
}

func (in *strictIngest) Commit(ctx context.Context) error {
	in.end("commit")
	return in.Ingest.Commit(ctx)
}
func (in *strictIngest) Discard() error { in.end("discard"); return in.Ingest.Discard() }
func (in *strictIngest) Close() error   { in.end("close"); return in.Ingest.Close() }

// While one buffer is written, the next one is read.
func TestABufferIsWrittenWhileTheNextIsRead(t *testing.T) {
	layer := random(1, 24<<20) // 96 buffers: 384 ms to read, as many to write
	const most = 400 * time.Millisecond
	for _, processors := range []int{1, 2, 8} {
		synctest.Test(t, func(t *testing.T) {
			src := newFakeSource()
			src.perRead, src.readSize = time.Millisecond, 64<<10
			store := &strictStore{memStore: newMemStore(), write: func(int64) (time.Duration, error) { return 4 * time.Millisecond, nil }}
			ref := src.name(appName, src.image(t, amd64, layer))
			rt := newRuntime(t, transfer.Config{Source: src, Store: store, MaxConnsPerBlob: 1})
			rt.Processors(processors)
			began := time.Now()
			_, err := rt.Pull(t.Context(), spec(ref))
			require.NoError(t, err)
			took := time.Since(began)
			assert.LessOrEqual(t, took, most, "%d processors", processors)
			assert.GreaterOrEqual(t, took, most*9/10, "%d processors", processors)
			assert.Equal(t, 1, store.most, "one buffer at a time")
			require.NoError(t, rt.Idle())
			store.clean(t)
		})
	}
}

// A body ends early, at different places, while a write is under way. All bytes that came are
// kept, and none of them is asked for again.
func TestBytesThatAreBeingWrittenAtACutAreKept(t *testing.T) {
	layer := random(1, 3<<20+7)
	d := digestOf(layer)
	for _, processors := range []int{1, 8} {
		for _, cut := range []int{0, 1, buffer - 1, buffer, buffer + 1, 2*buffer - 1, 2 * buffer, 5*buffer + 77, len(layer) - 1} {
			for _, writing := range []time.Duration{0, time.Millisecond, 50 * time.Millisecond} {
				synctest.Test(t, func(t *testing.T) {
					src := newFakeSource()
					src.perRead, src.readSize = time.Millisecond, 100_000
					store := &strictStore{memStore: newMemStore(), write: func(int64) (time.Duration, error) { return writing, nil }}
					ref := src.name(appName, src.image(t, amd64, layer))
					cuts := 1
					src.blob = func(desc ocispec.Descriptor, _ credentials.Credential, off, n int64) (io.ReadCloser, int64, error) {
						if desc.Digest != d || cuts == 0 {
							return nil, 0, nil
						}
						cuts--
						src.inFlight++
						data := io.MultiReader(bytes.NewReader(layer[:cut]), errReader{&content.Error{Reason: content.ErrNetwork}})
						return &fakeBody{ctx: t.Context(), s: src, r: data}, 0, nil
					}
					rt := newRuntime(t, transfer.Config{Source: src, Store: store, MaxConnsPerBlob: 1, MaxBlobs: 1})
					rt.Processors(processors)
					_, err := rt.Pull(t.Context(), spec(ref))
					require.ErrorIs(t, err, content.ErrNetwork)
					require.NoError(t, rt.Idle())
					kept, err := store.Kept(t.Context(), ocispec.Descriptor{Digest: d})
					require.NoError(t, err)
					assert.EqualValues(t, cut, kept, "%d processors, writes of %v", processors, writing)
					_, err = rt.Pull(t.Context(), spec(ref))
					require.NoError(t, err)
					if cut > 0 {
						assert.Contains(t, src.asked, asked{d, int64(cut), -1})
					}
					store.clean(t)
				})
			}
		}
	}
}

// Connections come and go, and some writes take long. Each byte is asked for once and written
// once.
func TestEachByteIsFetchedAndWrittenOnce(t *testing.T) {
	layers := [][]byte{random(1, 40<<20), random(2, 9<<20), random(3, 30<<20+1)}
	most := 0
	// The number of connections of a pull depends on the timing. Pulls are made until one of
	// them had many.
	for seed := uint64(0); seed < uint64(rounds.Of(8)) || seed < 40 && most <= 4; seed++ {
		synctest.Test(t, func(t *testing.T) {
			src := newFakeSource()
			src.latency, src.perRead, src.readSize = 20*time.Millisecond, 4*time.Millisecond, 64<<10
			var mu sync.Mutex
			rng := rand.New(rand.NewPCG(seed, 3))
			store := &strictStore{memStore: newMemStore(), write: func(int64) (time.Duration, error) {
				mu.Lock()
				defer mu.Unlock()
				if rng.IntN(20) == 0 {
					return time.Duration(rng.IntN(200)) * time.Millisecond, nil
				}
				return time.Duration(rng.IntN(3)) * time.Millisecond, nil
			}}
			ref := src.name(appName, src.image(t, amd64, layers...))
			cutting := cuttingSource{src, func() (time.Duration, int64, bool) {
				mu.Lock()
				defer mu.Unlock()
				// about as long as a connection needs for the bytes before an added one
				latency := time.Duration(rng.IntN(500)) * time.Millisecond
				return latency, 1 + rng.Int64N(4<<20), rng.IntN(6) == 0
			}}
			rt := newRuntime(t, transfer.Config{Source: cutting, Store: store, MaxMemory: []int64{1, 0}[seed%2], MaxConnsPerBlob: 6})
			rt.Processors([]int{2, 16}[seed/4%2])
			pulls := 0
			for {
				w := newWatcher(t)
				s := spec(ref)
				s.Progress = w.tell
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				_, err := rt.Pull(ctx, s)
				cancel()
				w.over = true
				require.NoError(t, rt.Idle())
				require.Zero(t, src.inFlight)
				if err == nil {
					break
				}
				require.ErrorIs(t, err, content.ErrNetwork)
				pulls++
				require.Less(t, pulls, 100)
			}
			var size int64
			for _, b := range src.blobs {
				size += int64(len(b))
			}
			assert.LessOrEqual(t, src.blobBytes, size, "seed %d", seed)
			most = max(most, src.most)
			store.clean(t)
		})
	}
	assert.Greater(t, most, 4, "connections")
}

// A cuttingSource takes time for answers, and ends some bodies early.
type cuttingSource struct {
	*fakeSource
	cut func() (latency time.Duration, after int64, cut bool)
}

func (s cuttingSource) Blob(ctx context.Context, repo content.Repo, desc ocispec.Descriptor, off, n int64) (content.Body, error) {
	latency, after, cut := s.cut()
	if err := pause(ctx, latency); err != nil {
		return content.Body{}, err
	}
	body, err := s.fakeSource.Blob(ctx, repo, desc, off, n)
	if err != nil || !cut {
		return content.Body{ReadCloser: body, Start: body.Start}, err
	}
	read := readFunc(func(p []byte) (int, error) {
		if after == 0 {
			return 0, &content.Error{Reason: content.ErrNetwork}
		}
		n, err := body.Read(p[:min(after, int64(len(p)))])
		after -= int64(n)
		return n, err
	})
	return content.Body{ReadCloser: struct {
		io.Reader
		io.Closer
	}{read, body}, Start: body.Start}, nil
}

// An error of the Store ends the pull at once, even if the network stalls, is cut or
// gives too much.
func TestAnErrorOfTheStoreEndsThePullAtOnce(t *testing.T) {
	layer := random(1, 24<<20)
	d := digestOf(layer)
	tooMuch, cut := &content.Error{Reason: content.ErrSizeMismatch}, &content.Error{Reason: content.ErrNetwork}
	for _, tt := range []struct {
		network string
		after   int
		err     error
		failing int64 // the offset of the write that fails
	}{
		{"stalls", 5*buffer + 100, nil, 4 * buffer},
		{"is cut", 5*buffer + 100, cut, 4 * buffer},
		{"is cut between buffers", 5 * buffer, cut, 4 * buffer},
		{"gives too much", len(layer), tooMuch, int64(len(layer) - buffer)},
		{"stalls at the end", len(layer), nil, int64(len(layer) - buffer)},
	} {
		for _, processors := range []int{1, 8} {
			synctest.Test(t, func(t *testing.T) {
				src := newFakeSource()
				ref := src.name(appName, src.image(t, amd64, layer))
				store := &strictStore{memStore: newMemStore(), write: func(off int64) (time.Duration, error) {
					if off >= tt.failing {
						return 10 * time.Millisecond, content.ErrNoSpace
					}
					return 0, nil
				}}
				rt := newRuntime(t, transfer.Config{Source: stallingSource{src, d, int64(tt.after), tt.err}, Store: store, MaxConnsPerBlob: 1})
				rt.Processors(processors)
				began := time.Now()
				_, err := rt.Pull(t.Context(), spec(ref))
				require.ErrorIs(t, err, content.ErrNoSpace, tt.network)
				assert.Equal(t, content.ErrStore, content.ReasonOf(err), "%s: %v", tt.network, err)
				assert.True(t, credentials.Stopped(err))
				assert.Equal(t, 10*time.Millisecond, time.Since(began), "the network %s, %d processors", tt.network, processors)
				assert.NotContains(t, store.partials, d)
				require.NoError(t, rt.Idle())
				require.Zero(t, src.inFlight)
				store.clean(t)
			})
		}
	}
}

// A stallingSource gives some bytes of a blob and then an error, or nothing more.
type stallingSource struct {
	*fakeSource
	digest digest.Digest
	after  int64
	err    error
}

func (s stallingSource) Blob(ctx context.Context, repo content.Repo, desc ocispec.Descriptor, off, n int64) (content.Body, error) {
	body, err := s.fakeSource.Blob(ctx, repo, desc, off, n)
	if err != nil || desc.Digest != s.digest {
		return content.Body{ReadCloser: body, Start: body.Start}, err
	}
	left := s.after
	read := readFunc(func(p []byte) (int, error) {
		if left > 0 {
			n, err := body.Read(p[:min(left, int64(len(p)))])
			left -= int64(n)
			return n, err
		}
		if s.err != nil {
			return 0, s.err
		}
		<-ctx.Done()
		return 0, context.Cause(ctx)
	})
	return content.Body{ReadCloser: struct {
		io.Reader
		io.Closer
	}{read, body}, Start: body.Start}, nil
}

// A Store that gives up by a deadline of its own has failed. Other connections do not go on,
// and the error is not mistaken for the end of the pull's context.
func TestAStoreWithADeadlineOfItsOwnFailsThePull(t *testing.T) {
	for _, size := range sizes {
		for _, processors := range []int{1, 8} {
			synctest.Test(t, func(t *testing.T) {
				src := newFakeSource()
				src.latency, src.perRead, src.readSize = 20*time.Millisecond, time.Millisecond, 64<<10
				var failed atomic.Int64
				store := &strictStore{memStore: newMemStore(), write: func(off int64) (time.Duration, error) {
					if off < int64(size/2) {
						return 0, nil
					}
					failed.Add(1)
					return 10 * time.Millisecond, fmt.Errorf("write: %w", context.DeadlineExceeded)
				}}
				ref := src.name(appName, src.image(t, amd64, random(1, size)))
				rt := newRuntime(t, transfer.Config{Source: src, Store: store})
				rt.Processors(processors)
				_, err := rt.Pull(t.Context(), spec(ref))
				require.Error(t, err)
				assert.Equal(t, content.ErrStore, content.ReasonOf(err), "%d bytes: %v", size, err)
				assert.LessOrEqual(t, failed.Load(), int64(8), "one for each connection at most")
				require.NoError(t, rt.Idle())
				store.clean(t)
			})
		}
	}
}

// A pull that is cancelled while a write is under way waits only for the end of that
// write.
func TestACancelledPullWaitsOnlyForTheWrite(t *testing.T) {
	layer := random(1, 24<<20)
	for _, processors := range []int{1, 8} {
		synctest.Test(t, func(t *testing.T) {
			src := newFakeSource()
			store := &strictStore{memStore: newMemStore(), write: func(int64) (time.Duration, error) { return 30 * time.Millisecond, nil }}
			ref := src.name(appName, src.image(t, amd64, layer))
			rt := newRuntime(t, transfer.Config{Source: src, Store: store})
			rt.Processors(processors)
			for i := range 20 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(7*i+1)*time.Millisecond)
				began := time.Now()
				_, err := rt.Pull(ctx, spec(ref))
				cancel()
				require.ErrorIs(t, err, context.DeadlineExceeded)
				assert.LessOrEqual(t, time.Since(began), time.Duration(7*i+1+100)*time.Millisecond)
				require.NoError(t, rt.Idle())
			}
			store.clean(t)
		})
	}
}

// The number of buffers that wait for the hash is limited, and includes the buffer that is
// being written.
func TestTheBuffersThatWaitForTheHashAreLimited(t *testing.T) {
	for _, processors := range []int{1, 8} {
		synctest.Test(t, func(t *testing.T) {
			src := newFakeSource()
			store := &strictStore{memStore: newMemStore(), write: func(int64) (time.Duration, error) { return time.Millisecond, nil }}
			ref := src.name(appName, src.image(t, amd64, random(1, 24<<20)))
			goOn := make(chan struct{})
			rt := newRuntime(t, transfer.Config{Source: src, Store: store, MaxConnsPerBlob: 1, MaxBlobs: 1, NewHash: func(digest.Algorithm) hash.Hash {
				return stillHash{sha256.New(), goOn}
			}})
			rt.Processors(processors)
			var wg sync.WaitGroup
			wg.Go(func() {
				_, err := rt.Pull(t.Context(), spec(ref))
				assert.NoError(t, err)
			})
			time.Sleep(time.Second)
			store.mu.Lock()
			assert.EqualValues(t, 7, store.written/buffer, "%d processors: one is hashed, six wait", processors)
			store.mu.Unlock()
			close(goOn)
			wg.Wait()
			require.NoError(t, rt.Idle())
			store.clean(t)
		})
	}
}

type stillHash struct {
	hash.Hash
	goOn chan struct{}
}

func (h stillHash) Write(p []byte) (int, error) {
	<-h.goOn
	return h.Hash.Write(p)
}

// Connections are added if the network is slow, and not if the disk is slow, whether or not
// there is a processor for each write.
func TestConnectionsAreAddedOnlyForASlowNetwork(t *testing.T) {
	layer := random(1, 14<<20)
	for _, processors := range []int{1, 2, 8} {
		for _, tt := range []struct {
			read, write time.Duration // of a buffer
			more        bool
		}{
			{8 * time.Millisecond, 0, true},
			{8 * time.Millisecond, 2400 * time.Microsecond, true},
			{8 * time.Millisecond, 4 * time.Millisecond, false},
			{time.Millisecond, 8 * time.Millisecond, false},
			{0, 15 * time.Millisecond, false},
			{0, 300 * time.Millisecond, false},
			{4 * time.Millisecond, 300 * time.Millisecond, false},
		} {
			synctest.Test(t, func(t *testing.T) {
				src := newFakeSource()
				src.perRead = tt.read
				store := &strictStore{memStore: newMemStore(), write: func(int64) (time.Duration, error) { return tt.write, nil }}
				ref := src.name(appName, src.image(t, amd64, layer))
				rt := newRuntime(t, transfer.Config{Source: src, Store: store})
				rt.Processors(processors)
				_, err := rt.Pull(t.Context(), spec(ref))
				require.NoError(t, err)
				if tt.more {
					assert.Greater(t, src.most, 2, "%d processors: %v", processors, tt)
				} else {
					assert.LessOrEqual(t, src.most, 2, "%d processors: %v", processors, tt) // one of them is the config's
				}
				store.clean(t)
			})
		}
	}
}
