package transfer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sizes has the size of a small blob, which is hashed by the goroutine that reads it, and the
// size of a large blob.
var sizes = []int{1 << 20, 24<<20 + 5}

func TestKeptBytesAreNotFetchedAgain(t *testing.T) {
	for _, size := range sizes {
		layer := random(1, size)
		n := int64(size)
		for name, kept := range map[string][][2]int64{
			"the beginning":   {{0, n / 3}},
			"holes":           {{0, 100}, {n / 4, 1000}, {n / 2, n / 4}},
			"not the start":   {{n / 2, n / 2}},
			"all":             {{0, n}},
			"all but one":     {{0, n - 1}},
			"nothing of many": {},
		} {
			src, store := newFakeSource(), newMemStore()
			ref := src.name(appName, src.image(t, amd64, layer))
			store.keep(t, layer, kept...)
			_, err := newRuntime(t, transfer.Config{Source: src, Store: store}).Pull(t.Context(), spec(ref))
			require.NoError(t, err, "%d bytes, %s", size, name)
			var had int64
			for _, k := range kept {
				had += k[1]
			}
			config := src.blobBytes - (n - had)
			assert.Less(t, config, int64(300), "%d bytes, %s: only the missing bytes are fetched", size, name)
			store.clean(t)
		}
	}
}

func TestKeptBytesThatAreWrongAreFetchedAgain(t *testing.T) {
	for _, size := range sizes {
		for _, ranges := range [][][2]int64{{{0, 1000}}, {{0, int64(size)}}, {{5000, 1000}, {9000, 1}}} {
			src, store := newFakeSource(), newMemStore()
			layer := random(1, size)
			ref := src.name(appName, src.image(t, amd64, layer))
			store.keepAs(t, digestOf(layer), flipped(layer, ranges[0][0]), ranges...)
			_, err := newRuntime(t, transfer.Config{Source: src, Store: store}).Pull(t.Context(), spec(ref))
			require.NoError(t, err)
			assert.Contains(t, src.asked, asked{digestOf(layer), 0, -1}, "the whole blob is requested")
			store.clean(t)
		}
	}
}

func TestABlobIsFetchedFromAServerThatIgnoresRanges(t *testing.T) {
	for _, size := range sizes {
		src, store := newFakeSource(), newMemStore()
		src.noRanges = true
		layer := random(1, size)
		d := digestOf(layer)
		ref := src.name(appName, src.image(t, amd64, layer))
		store.keep(t, layer, [2]int64{0, 1000}, [2]int64{5000, 10})
		_, err := newRuntime(t, transfer.Config{Source: src, Store: store}).Pull(t.Context(), spec(ref))
		require.NoError(t, err)
		assert.Equal(t, 1, src.blobGets[d])

		src, store = newFakeSource(), newMemStore()
		src.noRanges = true
		ref = src.name(appName, src.image(t, amd64, layer))
		store.keep(t, layer, [2]int64{5000, 10})
		_, err = newRuntime(t, transfer.Config{Source: src, Store: store}).Pull(t.Context(), spec(ref))
		require.NoError(t, err)
		store.clean(t)
	}
}

// A rejectable is a body of a Source. again says whether the Source has other hosts to ask.
type rejectable struct {
	io.Reader
	again    bool
	rejected *int
}

func (r *rejectable) Close() error { return nil }
func (r *rejectable) reject() bool { *r.rejected++; return r.again }

func TestWrongBytesAreRejectedAndNeverStored(t *testing.T) {
	for _, size := range sizes {
		for _, mirrors := range []int{0, 1, 3} {
			src, store := newFakeSource(), newMemStore()
			layer := random(1, size)
			d := digestOf(layer)
			ref := src.name(appName, src.image(t, amd64, layer))
			rejected, gets := 0, 0
			src.blob = func(desc ocispec.Descriptor, _ credentials.Credential, off, n int64) (io.ReadCloser, int64, error) {
				if desc.Digest != d {
					return nil, 0, nil
				}
				gets++
				wrong := bytes.Clone(layer)
				if gets <= mirrors || mirrors == 0 {
					wrong[size/2] ^= 1
				}
				return &rejectable{bytes.NewReader(wrong), gets <= mirrors, &rejected}, 0, nil
			}
			_, err := newRuntime(t, transfer.Config{Source: src, Store: store, MaxConnsPerBlob: 1}).Pull(t.Context(), spec(ref))
			assert.NotContains(t, store.partials, d)
			store.clean(t)
			if mirrors == 0 {
				require.ErrorIs(t, err, content.ErrDigestMismatch)
				assert.True(t, credentials.Stopped(err), "no other credential helps")
				assert.Equal(t, 1, gets, "the blob is not requested again")
				assert.Equal(t, 1, rejected)
				continue
			}
			require.NoError(t, err, "%d mirrors give wrong bytes", mirrors)
			assert.Equal(t, mirrors+1, gets)
			assert.Equal(t, mirrors, rejected)
		}
	}
}

func TestAFullDiskLeavesNoPartial(t *testing.T) {
	for _, size := range sizes {
		src, store := newFakeSource(), newMemStore()
		store.fullAt = int64(size / 2)
		layer := random(1, size)
		ref := src.name(appName, src.image(t, amd64, layer))
		_, err := newRuntime(t, transfer.Config{Source: src, Store: store}).Pull(t.Context(), spec(ref))
		require.ErrorIs(t, err, content.ErrNoSpace)
		assert.ErrorIs(t, err, content.ErrStore)
		assert.True(t, credentials.Stopped(err))
		assert.NotContains(t, store.partials, digestOf(layer), "the partial would take the room that is missing")
		store.clean(t)
	}
}

func TestRoomIsCheckedBeforeTheFirstBlob(t *testing.T) {
	src, store := newFakeSource(), newMemStore()
	store.free = 3 << 20
	a, b := random(1, 2<<20), random(2, 2<<20)
	ref := src.name(appName, src.image(t, amd64, a, b))
	rt := newRuntime(t, transfer.Config{Source: src, Store: store})
	_, err := rt.Pull(t.Context(), spec(ref))
	require.ErrorIs(t, err, content.ErrNoSpace)
	assert.Equal(t, 1, src.requests(), "before the first byte")
	assert.Empty(t, store.ingests)

	store.keep(t, a, [2]int64{0, 3 << 19})
	_, err = rt.Pull(t.Context(), spec(ref))
	require.NoError(t, err, "kept bytes need no more room")
	store.clean(t)
}

func TestASlowBlobComesOverSeveralConnections(t *testing.T) {
	const size = 64 << 20
	synctest.Test(t, func(t *testing.T) {
		src, store := newFakeSource(), newMemStore()
		src.latency, src.perRead, src.readSize = 20*time.Millisecond, time.Millisecond, 64<<10 // 64 MB/s each
		layer := random(1, size)
		ref := src.name(appName, src.image(t, amd64, layer))
		began := time.Now()
		_, err := newRuntime(t, transfer.Config{Source: src, Store: store, MaxConnsPerBlob: 5}).Pull(t.Context(), spec(ref))
		require.NoError(t, err)
		assert.LessOrEqual(t, src.most, 5, "connections at once")
		assert.GreaterOrEqual(t, src.most, 4)
		assert.Less(t, time.Since(began), 600*time.Millisecond, "one connection takes 1.02 s")
		// The first connection ends early. All bytes that it read are used.
		assert.Less(t, src.blobBytes, int64(size+1000))
		var parts []int64 // the lengths that were asked for; -1 is "to the end"
		for _, a := range src.asked {
			if a.digest == digestOf(layer) {
				parts = append(parts, a.n)
			}
		}
		assert.Equal(t, int64(-1), parts[0])
		assert.LessOrEqual(t, len(parts), 10, "two for each connection")
		store.clean(t)
	})
}

func TestConnectionsThatBringNothingAreNotAdded(t *testing.T) {
	layer := random(1, 32<<20)
	slow := func(s *fakeSource) {
		s.latency, s.perRead, s.readSize = 20*time.Millisecond, time.Millisecond, 64<<10
	}
	t.Run("a server without ranges", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			src, store := newFakeSource(), newMemStore()
			slow(src)
			src.noRanges = true
			ref := src.name(appName, src.image(t, amd64, layer))
			_, err := newRuntime(t, transfer.Config{Source: src, Store: store}).Pull(t.Context(), spec(ref))
			require.NoError(t, err)
			assert.Equal(t, 2, src.blobGets[digestOf(layer)], "one more connection was tried")
			store.clean(t)
		})
	})
	t.Run("a server that refuses a second connection", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			src, store := newFakeSource(), newMemStore()
			slow(src)
			ref := src.name(appName, src.image(t, amd64, layer))
			src.blob = func(desc ocispec.Descriptor, _ credentials.Credential, off, n int64) (io.ReadCloser, int64, error) {
				if off > 0 {
					return nil, 0, &content.Error{Reason: content.ErrRateLimited}
				}
				return nil, 0, nil
			}
			_, err := newRuntime(t, transfer.Config{Source: src, Store: store}).Pull(t.Context(), spec(ref))
			require.NoError(t, err)
			assert.Equal(t, 2, src.blobGets[digestOf(layer)])
			store.clean(t)
		})
	})
	t.Run("a link that all connections share", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			src, store := newFakeSource(), newMemStore()
			slow(src)
			src.link = make(chan struct{}, 1)
			ref := src.name(appName, src.image(t, amd64, layer))
			_, err := newRuntime(t, transfer.Config{Source: src, Store: store}).Pull(t.Context(), spec(ref))
			require.NoError(t, err)
			assert.LessOrEqual(t, src.most, 3, "another connection brought nothing")
			store.clean(t)
		})
	})
	t.Run("MaxConnsPerBlob is 1", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			src, store := newFakeSource(), newMemStore()
			slow(src)
			ref := src.name(appName, src.image(t, amd64, layer))
			_, err := newRuntime(t, transfer.Config{Source: src, Store: store, MaxConnsPerBlob: 1}).Pull(t.Context(), spec(ref))
			require.NoError(t, err)
			assert.Equal(t, 1, src.blobGets[digestOf(layer)])
		})
	})
}

// The connection of one part fails for good after some bytes. The others fetch the rest.
func TestTheOtherConnectionsFetchWhatOneCouldNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, store := newFakeSource(), newMemStore()
		src.latency, src.perRead, src.readSize = 20*time.Millisecond, time.Millisecond, 64<<10
		layer := random(1, 64<<20)
		ref := src.name(appName, src.image(t, amd64, layer))
		n := 0
		src.blob = func(desc ocispec.Descriptor, _ credentials.Credential, off, size int64) (io.ReadCloser, int64, error) {
			if off == 0 {
				return nil, 0, nil
			}
			if n++; n != 2 {
				return nil, 0, nil
			}
			src.inFlight++
			data := io.MultiReader(bytes.NewReader(layer[off:off+1<<20]), errReader{errors.New("gone")})
			return &fakeBody{ctx: context.Background(), s: src, r: data}, off, nil
		}
		_, err := newRuntime(t, transfer.Config{Source: src, Store: store}).Pull(t.Context(), spec(ref))
		require.NoError(t, err)
		assert.Less(t, src.blobBytes, int64(64<<20+1000))
		store.clean(t)
	})
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

type countingHash struct {
	hash.Hash
	n   *atomic.Int64
	now *atomic.Int64
}

func (h countingHash) Write(p []byte) (int, error) {
	if h.now.Add(1) > 64 {
		panic("too many at once")
	}
	defer h.now.Add(-1)
	h.n.Add(int64(len(p)))
	return h.Hash.Write(p)
}

func TestNewHashHashesEachByteOnce(t *testing.T) {
	src, store := newFakeSource(), newMemStore()
	layer := random(1, 5<<20)
	desc := src.putBlob(ocispec.MediaTypeImageLayer, layer)
	desc.Digest = digest.Digest(fmt.Sprintf("sha512:%x", sha512.Sum512(layer)))
	src.blobs[desc.Digest] = layer
	config := src.putBlob("application/vnd.example+json", []byte("{}"))
	m := src.putDoc(t, ocispec.MediaTypeImageManifest, map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "config": config, "layers": []any{desc},
	})
	ref := src.name(appName, m)
	var n, now atomic.Int64
	var algorithms sync.Map
	rt := newRuntime(t, transfer.Config{Source: src, Store: store, NewHash: func(a digest.Algorithm) hash.Hash {
		algorithms.Store(a, true)
		if a == digest.SHA512 {
			return countingHash{sha512.New(), &n, &now}
		}
		return nil
	}})
	_, err := rt.Pull(t.Context(), spec(ref))
	require.NoError(t, err)
	assert.EqualValues(t, len(layer), n.Load(), "each byte is hashed once")
	_, ok := algorithms.Load(digest.SHA256)
	assert.True(t, ok)
	store.clean(t)
}

// A crowdedHash takes time, and records how many of its kind are written to at the same time.
type crowdedHash struct {
	hash.Hash
	now, most *atomic.Int64
}

func (h crowdedHash) Write(p []byte) (int, error) {
	n := h.now.Add(1)
	defer h.now.Add(-1)
	for most := h.most.Load(); n > most && !h.most.CompareAndSwap(most, n); most = h.most.Load() {
	}
	time.Sleep(time.Millisecond)
	return h.Hash.Write(p)
}

func TestAtMostAsManyGoroutinesHashAsThereAreProcessors(t *testing.T) {
	for _, size := range []int{1000, 3 << 20} {
		synctest.Test(t, func(t *testing.T) {
			src := newFakeSource()
			var layers [][]byte
			for i := range 10 {
				layers = append(layers, random(uint64(i), size))
			}
			var now, most atomic.Int64
			rt := newRuntime(t, transfer.Config{Source: src, Store: newMemStore(), NewHash: func(digest.Algorithm) hash.Hash { return crowdedHash{sha256.New(), &now, &most} }})
			_, err := rt.Pull(t.Context(), spec(src.name(appName, src.image(t, amd64, layers...))))
			require.NoError(t, err)
			assert.LessOrEqual(t, most.Load(), int64(runtime.GOMAXPROCS(0)), "%d bytes", size)
			assert.GreaterOrEqual(t, most.Load(), int64(min(runtime.GOMAXPROCS(0), 2)), "%d bytes", size)
		})
	}
}

func TestAMissingBlobMeansThatTheImageDoesNotExist(t *testing.T) {
	src, store := newFakeSource(), newMemStore()
	layer := random(1, 1000)
	ref := src.name(appName, src.image(t, amd64, layer, random(2, 1000)))
	delete(src.blobs, digestOf(layer))
	_, err := newRuntime(t, transfer.Config{Source: src, Store: store}).Pull(t.Context(), spec(ref))
	require.ErrorIs(t, err, fs.ErrNotExist)
	assert.False(t, credentials.Stopped(err), "another credential may see it")
	assert.Empty(t, store.tags)
	store.clean(t)
}

// The io.ErrUnexpectedEOF of a Source that gives too few bytes becomes an ErrNetwork.
func TestABlobThatEndsEarlyIsAnErrNetwork(t *testing.T) {
	for _, size := range sizes {
		src, store := newFakeSource(), newMemStore()
		layer := random(1, size)
		ref := src.name(appName, src.image(t, amd64, layer))
		src.blobs[digestOf(layer)] = layer[:size/2]
		rt := newRuntime(t, transfer.Config{Source: src, Store: store, MaxConnsPerBlob: 1})
		_, err := rt.Pull(t.Context(), spec(ref))
		require.ErrorIs(t, err, content.ErrNetwork)
		assert.ErrorIs(t, err, puller.ErrRegistryUnavailable)
		src.blobs[digestOf(layer)] = layer
		_, err = rt.Pull(t.Context(), spec(ref))
		require.NoError(t, err)
		assert.Less(t, src.blobBytes, int64(size+1000), "bytes that arrived are kept")
		store.clean(t)
	}
}

// A layer that its manifest also lists at other addresses is missing in the registry. The
// error says that these addresses were not followed.
func TestTheErrorOfAMissingForeignLayerNamesItsAddresses(t *testing.T) {
	for _, urls := range [][]string{{"https://elsewhere.example/layer"}, nil} {
		s := newTown(t, []byte("a layer"))
		var m ocispec.Manifest
		require.NoError(t, json.Unmarshal(s.doc, &m))
		m.Layers[0].URLs = urls
		var err error
		s.doc, err = json.Marshal(m)
		require.NoError(t, err)
		layer := "/v2/team/app/blobs/" + m.Layers[0].Digest.String()
		s.hosts["r.example"] = func(w http.ResponseWriter, r *http.Request, blob []byte) {
			if r.URL.Path == layer {
				http.NotFound(w, r)
				return
			}
			honest(w, r, blob)
		}
		err = s.pull(s.client(""))
		require.ErrorIs(t, err, fs.ErrNotExist)
		if urls == nil {
			assert.NotContains(t, err.Error(), "urls")
		} else {
			assert.Contains(t, err.Error(), "(urls), which are not followed")
		}
	}
}

type slowHash struct{ hash.Hash }

func (h slowHash) Write(p []byte) (int, error) {
	time.Sleep(time.Millisecond)
	return h.Hash.Write(p)
}

// A blob whose bytes were all kept is only hashed. There is no connection that would end with
// the context.
func TestAPullEndsWhileKeptBytesAreHashed(t *testing.T) {
	for _, size := range []int{1 << 20, 64 << 20} {
		synctest.Test(t, func(t *testing.T) {
			src, store := newFakeSource(), newMemStore()
			layer := random(1, size)
			store.keep(t, layer, [2]int64{0, int64(size)})
			ref := src.name(appName, src.image(t, amd64, layer))
			rt := newRuntime(t, transfer.Config{Source: src, Store: store, NewHash: func(digest.Algorithm) hash.Hash {
				return slowHash{sha256.New()}
			}})
			ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Microsecond)
			defer cancel()
			began := time.Now()
			_, err := rt.Pull(ctx, spec(ref))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			assert.LessOrEqual(t, time.Since(began), 5*time.Millisecond)
			assert.Contains(t, store.partials, digestOf(layer), "the partial is kept")
			store.clean(t)
		})
	}
}

// An Admit that returns because its ctx has ended has not refused the image.
func TestAnAdmitThatIsCancelledHasNotRefused(t *testing.T) {
	src, store := newFakeSource(), newMemStore()
	ref := src.name(appName, src.image(t, amd64, random(1, 100)))
	ctx, cancel := context.WithCancel(t.Context())
	admit := func(ctx context.Context, _ content.Admission) error {
		cancel()
		<-ctx.Done()
		return errors.Join(errors.New("no answer"), ctx.Err())
	}
	rt, s := newRuntime(t, transfer.Config{Source: src, Store: store}), spec(ref)
	s.Admit = admit
	_, err := rt.Pull(ctx, s)
	require.ErrorIs(t, err, context.Canceled)
	assert.NotErrorIs(t, err, puller.ErrSignatureValidation)
	assert.Empty(t, content.ReasonOf(err))

	for _, own := range []error{context.DeadlineExceeded, &content.Error{Reason: content.ErrNetwork}, &content.Error{Reason: content.ErrNotFound}} {
		s.Admit = func(context.Context, content.Admission) error { return fmt.Errorf("signature: %w", own) }
		_, err = rt.Pull(t.Context(), s)
		assert.ErrorIs(t, err, content.ErrCheckFailed, "an Admit that cannot decide has not refused")
		assert.NotErrorIs(t, err, puller.ErrSignatureValidation)
		assert.NotErrorIs(t, err, fs.ErrNotExist, "the error must not say that the image does not exist")
		assert.True(t, credentials.Stopped(err))
	}
	assert.Empty(t, store.blobs)
}
