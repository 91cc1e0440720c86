package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A die decides at random that something goes wrong.
type die struct {
	mu   sync.Mutex
	rng  *rand.Rand
	well bool
}

func (d *die) hit(chance float64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.well && d.rng.Float64() < chance
}

// A chaoticSource fails when it is asked, or when its body is read.
type chaoticSource struct {
	*fakeSource
	die *die
}

func (s chaoticSource) Blob(ctx context.Context, repo content.Repo, desc ocispec.Descriptor, off, n int64) (content.Body, error) {
	for _, kind := range []content.Reason{content.ErrDenied, content.ErrNetwork, content.ErrNotFound, content.ErrStore, content.ErrDigestMismatch} {
		if s.die.hit(0.004) {
			return content.Body{}, &content.Error{Reason: kind}
		}
	}
	body, err := s.fakeSource.Blob(ctx, repo, desc, off, n)
	if err != nil {
		return content.Body{}, err
	}
	read := readFunc(func(p []byte) (int, error) {
		if s.die.hit(0.005) {
			return 0, errors.New("cut")
		}
		return body.Read(p)
	})
	return content.Body{ReadCloser: struct {
		io.Reader
		io.Closer
	}{read, body}, Start: body.Start}, nil
}

// TestPullsThatFailOrAreCancelledLeaveNothing makes 300 pulls at once of 20 images that share layers. Source, Store and Admit
// fail at random, and every second pull is cancelled. A cancelled pull ends at once. In the
// end the Runtime holds nothing, and all images can be pulled.
func TestPullsThatFailOrAreCancelledLeaveNothing(t *testing.T) {
	var layers [][]byte
	for i := range 12 {
		layers = append(layers, random(uint64(i+1), []int{100, 300 << 10, 2 << 20, 5 << 20, 17 << 20}[i%5]))
	}
	for seed := range uint64(rounds.Of(6)) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			d := &die{rng: rand.New(rand.NewPCG(seed, 2))}
			src, store := newFakeSource(), newMemStore()
			src.latency, src.perRead, src.readSize = 20*time.Millisecond, time.Millisecond, 64<<10
			src.noRanges = seed == 5
			var refs []reference.Reference
			for i := range 20 {
				var some [][]byte
				for range 1 + rng.IntN(5) {
					some = append(some, layers[rng.IntN(len(layers))])
				}
				image := src.image(t, amd64, some...)
				if i%2 == 0 {
					image = src.index(t, image)
				}
				refs = append(refs, src.name(fmt.Sprintf("registry.example/app-%d:v1", i), image))
			}
			rt := newRuntime(t, transfer.Config{
				Source: chaoticSource{src, d},
				Store: faultyStore{store, func(what string) error {
					if what == "write" && d.hit(0.002) {
						return content.ErrNoSpace
					}
					if (what == "ingest" || what == "commit") && d.hit(0.01) {
						return errors.New("broken")
					}
					return nil
				}},
				MaxMemory: []int64{1, 4 << 20}[seed%2], MaxBlobs: []int{1, 3, 10}[seed%3], MaxConnsPerBlob: []int{8, 1}[seed/4],
			})
			rt.Processors([]int{1, 2, 16}[seed/2])
			var wg sync.WaitGroup
			for i := range 300 {
				s := spec(refs[rng.IntN(len(refs))])
				s.Credential = credentials.Credential{Username: fmt.Sprint(i % 3)}
				s.Admit = func(context.Context, content.Admission) error {
					if d.hit(0.05) {
						return errors.New("no")
					}
					return nil
				}
				begin, patience := time.Duration(rng.IntN(3000))*time.Millisecond, time.Hour
				if i%2 == 0 {
					patience = time.Duration(rng.IntN(5000)) * time.Millisecond
				}
				wg.Go(func() {
					time.Sleep(begin)
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					defer cancel()
					w := newWatcher(t)
					s.Progress = w.tell
					began := time.Now()
					_, err := rt.Pull(ctx, s)
					w.over = true
					assert.LessOrEqual(t, time.Since(began), patience)
					if err == nil {
						assert.Equal(t, w.total.Total, w.total.TotalDone)
					}
				})
			}
			wg.Wait()
			require.NoError(t, rt.Idle(), "seed %d", seed)
			require.Zero(t, src.inFlight, "seed %d: bodies left open", seed)
			d.mu.Lock()
			d.well = true
			d.mu.Unlock()
			for _, ref := range refs {
				_, err := rt.Pull(t.Context(), spec(ref))
				require.NoError(t, err, "seed %d", seed)
			}
			require.NoError(t, rt.Idle(), "seed %d", seed)
			store.clean(t)
		})
	}
}
