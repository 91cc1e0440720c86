package transfer_test

import (
	"context"
	"crypto/sha512"
	"encoding/json"
	"hash"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
)

// A blankBlob is a Source that has, in addition to its images, one blob of any size
// without content. Its connections have speeds in turn.
type blankBlob struct {
	*fakeSource
	desc    ocispec.Descriptor
	latency time.Duration
	speeds  []float64              // bytes a second
	parts   int                    // that were asked for
	factor  func(part int) float64 // of the speed at this time; nil means 1
}

func (s *blankBlob) Blob(ctx context.Context, repo content.Repo, desc ocispec.Descriptor, off, n int64) (content.Body, error) {
	if desc.Digest != s.desc.Digest {
		return s.fakeSource.Blob(ctx, repo, desc, off, n)
	}
	s.mu.Lock()
	part := s.parts
	s.parts++
	s.mu.Unlock()
	left := desc.Size - off
	if n >= 0 {
		left = n
	}
	read := readFunc(func(p []byte) (int, error) {
		if left == 0 {
			return 0, io.EOF
		}
		p = p[:min(left, int64(len(p)), 64<<10)]
		left -= int64(len(p))
		speed := s.speeds[part%len(s.speeds)]
		if s.factor != nil {
			speed *= s.factor(part)
		}
		return len(p), pause(ctx, time.Duration(float64(len(p))/speed*1e9))
	})
	return content.Body{ReadCloser: io.NopCloser(read), Start: off}, pause(ctx, s.latency)
}

func (s *blankBlob) asks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.parts
}

// A blankStore keeps nothing of blobs. Its disk writes 2.5 GB a second.
type blankStore struct{ *memStore }

func (s blankStore) Ingest(ctx context.Context, desc ocispec.Descriptor) (content.Ingest, error) {
	in, err := s.memStore.Ingest(ctx, desc)
	if err == nil && desc.Digest.Algorithm() == digest.SHA512 {
		in = blankIngest{in}
	}
	return in, err
}

type blankIngest struct{ content.Ingest }

func (blankIngest) WriteAt(p []byte, _ int64) (int, error) {
	time.Sleep(time.Duration(float64(len(p)) / 2.5))
	return len(p), nil
}
func (blankIngest) ReadAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (blankIngest) Commit(context.Context) error          { return nil }

// A blankHash hashes nothing, in the time for 1.5 GB a second.
type blankHash struct{ hash.Hash }

func (blankHash) Write(p []byte) (int, error) {
	time.Sleep(time.Duration(float64(len(p)) / 1.5))
	return len(p), nil
}

// newBlankBlob returns a Source with a blank blob of size bytes in the image appName.
func newBlankBlob(t *testing.T, size int64, latency time.Duration, speeds ...float64) *blankBlob {
	src := &blankBlob{fakeSource: newFakeSource(), latency: latency, speeds: speeds}
	src.desc = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.SHA512.FromString(""), Size: size}
	src.name(appName, src.putDoc(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{src.desc},
	}))
	return src
}

// newBlankRuntime returns a Runtime for blank blobs, on a machine with 8 processors.
func newBlankRuntime(t *testing.T, src content.Source, conf transfer.Config) *transfer.Runtime {
	conf.Source, conf.Store = src, blankStore{newMemStore()}
	conf.NewHash = func(a digest.Algorithm) hash.Hash {
		if a == digest.SHA512 {
			return blankHash{sha512.New()}
		}
		return nil
	}
	rt := newRuntime(t, conf)
	rt.Processors(8)
	return rt
}

// A large blob costs few requests, and not much more time than all connections together
// need for it.
func TestALargeBlobNeedsFewRequests(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		size     int64 // MiB
		latency  time.Duration
		speeds   []float64 // MB a second
		requests int
		seconds  float64
	}{
		{1024, time.Millisecond, []float64{1500}, 1, 0.73}, // as fast as the hash
		{1024, time.Millisecond, []float64{900}, 1, 1.21},  // nearly as fast
		{16, time.Millisecond, []float64{60}, 2, 0.2},
		{256, 20 * time.Millisecond, []float64{20}, 14, 2.3},
		{256, 20 * time.Millisecond, []float64{60}, 14, 1.1},
		{1024, 20 * time.Millisecond, []float64{60}, 16, 2.8},
		{4096, 20 * time.Millisecond, []float64{60}, 32, 9.8},
		{4096, time.Millisecond, []float64{60}, 32, 9.7},
		{4096, time.Millisecond, []float64{60, 30, 90, 60, 45, 75, 50, 70}, 40, 10.6},
		{4096, time.Millisecond, []float64{60, 60, 10, 60, 60, 60, 60, 60, 60}, 40, 13.5},
		{1024, 10 * time.Millisecond, oneSlow(1, 1, 400), 10, 2.4},
		{4096, 10 * time.Millisecond, oneSlow(1, 1, 400), 16, 4.7},
		{4096, 10 * time.Millisecond, oneSlow(1, 20, 400), 16, 4.2},
		{64, 10 * time.Millisecond, oneSlow(1, 1, 20), 16, 1.7},
		{64, 10 * time.Millisecond, oneSlow(1, 2, 60), 12, 1.5},
	} {
		var speeds []float64
		for _, mb := range tt.speeds {
			speeds = append(speeds, mb*1e6)
		}
		synctest.Test(t, func(t *testing.T) {
			src := newBlankBlob(t, tt.size*mib, tt.latency, speeds...)
			rt := newBlankRuntime(t, src, transfer.Config{})
			began := time.Now()
			_, err := rt.Pull(t.Context(), spec(reference.MustParse(appName)))
			require.NoError(t, err)
			assert.LessOrEqual(t, time.Since(began).Seconds(), tt.seconds, "%+v", tt)
			assert.LessOrEqual(t, src.asks(), tt.requests, "%+v", tt)
			assert.Equal(t, tt.requests > 1, src.asks() > 1, "%+v", tt)
			require.NoError(t, rt.Idle())
		})
	}
}

// oneSlow returns the speeds of many connections, one of which is slow.
func oneSlow(at int, slow, others float64) []float64 {
	speeds := slices.Repeat([]float64{others}, 64)
	speeds[at] = slow
	return speeds
}

// A connection whose speed falls from 60 MB a second to 0.5 while it fetches a part delays
// a blob of 4 GiB by a tenth at most.
func TestAConnectionThatBecomesSlowDelaysALargeBlobLittle(t *testing.T) {
	for part, at := range map[int]time.Duration{0: 3 * time.Second, 2: 5 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			src := newBlankBlob(t, 4<<30, 10*time.Millisecond, 60e6)
			rt := newBlankRuntime(t, src, transfer.Config{})
			began := time.Now()
			src.factor = func(p int) float64 {
				if p == part && time.Since(began) >= at {
					return 1. / 120
				}
				return 1
			}
			_, err := rt.Pull(t.Context(), spec(reference.MustParse(appName)))
			require.NoError(t, err)
			assert.Less(t, time.Since(began).Seconds(), 10.8, "part %d from %v on", part, at)
			assert.LessOrEqual(t, src.asks(), 40, "part %d from %v on", part, at)
		})
	}
}

// A blob whose parts take many seconds, and which uses all connections, gives one of them
// up at once for another blob.
func TestAConnectionStopsWithinItsPartForAnotherBlob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newBlankBlob(t, 4<<30, time.Millisecond, 20e6)
		other := src.name("registry.example/other:v1", src.image(t, amd64, random(1, 3<<20)))
		rt := newBlankRuntime(t, src, transfer.Config{MaxBlobs: 2})
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := rt.Pull(t.Context(), spec(reference.MustParse(appName)))
			assert.NoError(t, err)
		})
		time.Sleep(5 * time.Second)
		assert.Equal(t, 8, src.asks(), "all connections")
		began := time.Now()
		_, err := rt.Pull(t.Context(), spec(other))
		assert.NoError(t, err)
		assert.Less(t, time.Since(began), 100*time.Millisecond)
		wg.Wait()
		assert.LessOrEqual(t, src.asks(), 34)
		require.NoError(t, rt.Idle())
	})
}

// A front is a registry behind a link with a speed for each answer, which may refuse
// requests. It notes the ranges that are asked of its large blob.
type front struct {
	http.Handler
	layer    []byte
	speed    float64               // bytes a second; 0 means as fast as possible
	noRanges bool                  // Range is ignored
	refuse   func(request int) int // the status of a refusal, or 0

	mu     sync.Mutex
	ranges []string
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasSuffix(r.URL.Path, digestOf(f.layer).String()) {
		f.Handler.ServeHTTP(w, r)
		return
	}
	f.mu.Lock()
	f.ranges = append(f.ranges, r.Header.Get("Range"))
	n := len(f.ranges)
	f.mu.Unlock()
	if f.refuse != nil {
		if status := f.refuse(n); status != 0 {
			w.WriteHeader(status)
			return
		}
	}
	if f.noRanges {
		r.Header.Del("Range")
	}
	f.Handler.ServeHTTP(&pacedWriter{ResponseWriter: w, speed: f.speed}, r)
}

type pacedWriter struct {
	http.ResponseWriter
	speed float64
}

func (w *pacedWriter) Write(p []byte) (int, error) {
	if w.speed > 0 {
		time.Sleep(time.Duration(float64(len(p)) / w.speed * 1e9))
	}
	return w.ResponseWriter.Write(p)
}

// pull pulls an image with the layer through the front into store. It returns what was asked
// for of the layer.
func (f *front) pull(t *testing.T, store content.Store) ([]string, error) {
	var network pullertest.Network
	reg, err := pullertest.Start(pullertest.Config{Network: &network})
	require.NoError(t, err)
	defer reg.Close()
	doc, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: ocispec.DescriptorEmptyJSON,
		Layers: []ocispec.Descriptor{reg.PutBlob("app", ocispec.MediaTypeImageLayer, f.layer)},
	})
	require.NoError(t, err)
	reg.PutManifest("app:v1", ocispec.MediaTypeImageManifest, doc)
	f.Handler = reg
	const host = "front.example:80"
	ln, err := network.Listen(host)
	require.NoError(t, err)
	server := &http.Server{Handler: f}
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(ln) })
	defer served.Wait()
	defer server.Close()
	client, err := registry.New(registry.Config{PlainHTTP: []string{host}, DialContext: network.DialContext})
	require.NoError(t, err)
	defer client.CloseIdleConnections()
	rt := newRuntime(t, transfer.Config{Source: client, Store: store})
	_, err = rt.Pull(t.Context(), spec(reference.MustParse(host+"/app:v1")))
	require.NoError(t, rt.Idle())
	return f.ranges, err
}

func TestALargeBlobNeedsFewRequestsOverHTTP(t *testing.T) {
	const mib = 1 << 20
	layer := random(1, 96*mib)
	for name, tt := range map[string]struct {
		front *front
		kept  [][2]int64
		check func(t *testing.T, ranges []string)
	}{
		"fresh, fast": {front: &front{}, check: func(t *testing.T, ranges []string) {
			assert.Equal(t, []string{""}, ranges)
		}},
		"fresh, slow": {front: &front{speed: 40e6}, check: func(t *testing.T, ranges []string) {
			assert.Empty(t, ranges[0])
			assert.NotContains(t, ranges[1:], "")
			assert.Greater(t, len(ranges), 4)
			assert.LessOrEqual(t, len(ranges), 2*8+1)
		}},
		"resumed, fast: one for each gap": {front: &front{}, kept: [][2]int64{{10 * mib, 5 * mib}, {40 * mib, 1000}}, check: func(t *testing.T, ranges []string) {
			assert.Equal(t, []string{"bytes=0-10485759", "bytes=15728640-41943039", "bytes=41944040-100663295"}, ranges)
		}},
		"resumed, slow": {front: &front{speed: 40e6}, kept: [][2]int64{{10 * mib, 5 * mib}, {40 * mib, 1000}}, check: func(t *testing.T, ranges []string) {
			assert.LessOrEqual(t, len(ranges), 2*8+1+2)
			assert.NotContains(t, ranges, "")
		}},
		"slow, ignores Range": {front: &front{speed: 40e6, noRanges: true}, check: func(t *testing.T, ranges []string) {
			require.Len(t, ranges, 2, "one part was tried")
			assert.Empty(t, ranges[0])
		}},
		"slow, resumed, ignores Range": {front: &front{speed: 40e6, noRanges: true}, kept: [][2]int64{{0, mib}}, check: func(t *testing.T, ranges []string) {
			assert.Equal(t, []string{"bytes=1048576-100663295"}, ranges)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, store := tt.front, newMemStore()
				f.layer = layer
				store.keep(t, layer, tt.kept...)
				ranges, err := f.pull(t, store)
				require.NoError(t, err)
				tt.check(t, ranges)
				store.clean(t)
			})
		})
	}
}

// A registry that has refused one request of a blob because of their number is asked for
// the rest of the blob in one request.
func TestTheRestIsOneRequestAfterALimit(t *testing.T) {
	layer := random(1, 96<<20)
	for _, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		for _, refused := range []int{2, 3, 5, 8} {
			synctest.Test(t, func(t *testing.T) {
				f, store := &front{layer: layer, speed: 40e6}, newMemStore()
				f.refuse = func(request int) int {
					if request == refused {
						return status
					}
					return 0
				}
				ranges, err := f.pull(t, store)
				require.NoError(t, err)
				assert.LessOrEqual(t, len(ranges), refused+1, "%d at request %d: %v", status, refused, ranges)
				store.clean(t)
			})
		}
	}
}
