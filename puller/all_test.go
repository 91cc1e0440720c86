package puller

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/await"
	"github.com/stretchr/testify/assert"
)

func images(n int) iter.Seq[Request] {
	return func(yield func(Request) bool) {
		for i := range n {
			if !yield(Request{Image: fmt.Sprintf("a.example/app-%d:1", i)}) {
				return
			}
		}
	}
}

// A result and the event of its call agree on whether the image was present already.
func TestPullAllReportsWhatWasPresent(t *testing.T) {
	present, absent := []Request{{Image: "a.example/app-0:1"}, {Image: "a.example/app-0:1"}}, []Request{
		{Image: "a.example/app-0:1", Policy: "Always"},
		{Image: "a.example/app-1:1"},
	}
	refused := Request{Image: "a.example/app-3:1", Keyring: keyringOf(secret("bad", "1"))}
	for _, wait := range []bool{false, true} {
		w := newWorld(t, Config{})
		w.runtime.store["a.example/app-0:1"] = "sha256:0"
		w.runtime.pull = answers(map[string]string{"bad": "401"})
		pullAll, reqs := w.PullAll, slices.Concat(present, absent, []Request{refused})
		want := []string{"a.example/app-0:1 false true", "a.example/app-0:1 true true", "a.example/app-0:1 true true", "a.example/app-1:1 false true", "a.example/app-3:1 false false"}
		if wait { // PullAllWait would never end, because the refused request is tried again and again
			pullAll, reqs, want = w.PullAllWait, reqs[:4], want[:4]
		}
		var got []string
		for req, r := range pullAll(t.Context(), slices.Values(reqs)) {
			got = append(got, fmt.Sprint(req.Image, " ", r.Present, " ", r.Err == nil))
		}
		slices.Sort(got)
		assert.Equal(t, want, got)
		for _, e := range w.took() {
			if e.Reason == EventPulled {
				assert.Equal(t, e.Attempt == nil, strings.Contains(e.Message, "already present"), e.Message)
			}
		}
	}
}

func TestPullAllRunsAtMostParallelPulls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{Parallel: 3})
		var mu sync.Mutex
		now, most := 0, 0
		w.runtime.pull = func(ctx context.Context, spec Spec) (string, error) {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			defer func() {
				mu.Lock()
				now--
				mu.Unlock()
			}()
			if spec.Ref.Repository() == "app-4" {
				return "", textError("404")
			}
			return slow(time.Second, ok)(ctx, spec)
		}
		begin := time.Now()
		done, failed := map[string]bool{}, 0
		for req, r := range w.PullAll(t.Context(), images(10)) {
			done[req.Image] = true
			if r.Err != nil {
				failed++
				assert.ErrorIs(t, r.Err, ErrImagePull)
				assert.Equal(t, "a.example/app-4:1", req.Image)
			}
		}
		assert.Len(t, done, 10)
		assert.Equal(t, 1, failed)
		assert.Equal(t, 3, most)
		assert.Equal(t, 3*time.Second, time.Since(begin))
	})
}

func TestPullAllYieldsEachResultWhenItIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{Parallel: 2})
		w.runtime.pull = func(ctx context.Context, spec Spec) (string, error) {
			if spec.Ref.Repository() == "app-0" {
				return slow(time.Minute, ok)(ctx, spec)
			}
			return "sha256:1", nil
		}
		// The next request comes much later. The results so far are yielded before that.
		reqs := func(yield func(Request) bool) {
			for req := range images(3) {
				if !yield(req) {
					return
				}
				time.Sleep(time.Hour)
			}
		}
		begin := time.Now()
		var at []time.Duration
		for range w.PullAll(t.Context(), reqs) {
			at = append(at, time.Since(begin))
		}
		assert.Equal(t, []time.Duration{time.Minute, time.Hour, 2 * time.Hour}, at)
	})
}

func TestBreakingOutOfPullAllCancelsItsPulls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{Parallel: 4})
		var mu sync.Mutex
		running, begun := 0, 0
		w.runtime.pull = func(ctx context.Context, spec Spec) (string, error) {
			mu.Lock()
			running++
			begun++
			mu.Unlock()
			defer func() {
				mu.Lock()
				running--
				mu.Unlock()
			}()
			if spec.Ref.Repository() == "app-1" {
				return "sha256:1", nil
			}
			return slow(time.Hour, ok)(ctx, spec)
		}
		begin := time.Now()
		for req := range w.PullAll(t.Context(), images(600)) {
			assert.Equal(t, "a.example/app-1:1", req.Image)
			break
		}
		assert.Zero(t, time.Since(begin))
		assert.Zero(t, running, "the pulls that ran have stopped")
		assert.LessOrEqual(t, begun, 5)
	})
}

func TestAPanicInTheLoopOfPullAllCancelsItsPulls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // synctest fails if a goroutine is left
		w := newWorld(t, Config{Parallel: 3})
		w.runtime.pull = slow(time.Second, ok)
		assert.Panics(t, func() {
			for range w.PullAll(t.Context(), images(20)) {
				panic("the loop's body")
			}
		})
		assert.Zero(t, w.pulls.Len())
	})
}

func TestPullAllOfNoRequestsYieldsNothing(t *testing.T) {
	for range newWorld(t, Config{}).PullAll(t.Context(), nil) {
		t.Error("a result")
	}
	for range newWorld(t, Config{Parallel: -1}).PullAll(t.Context(), images(0)) {
		t.Error("a result")
	}
}

func TestPullAllEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{Parallel: 2})
		w.runtime.pull = slow(time.Hour, ok)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		n := 0
		var last Request
		for req, r := range w.PullAll(ctx, images(600)) {
			assert.ErrorIs(t, r.Err, context.DeadlineExceeded)
			last = req
			n++
		}
		assert.Equal(t, 3, n, "the pulls that ran yield their errors, and one last result is for the rest")
		assert.Zero(t, last)
	})
}

func TestPullAllWaitTriesAgainAfterTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		tries := 0
		w.runtime.pull = func(context.Context, Spec) (string, error) {
			if tries++; tries < 3 {
				return "", textError("404")
			}
			return "sha256:1", nil
		}
		begin := time.Now()
		for _, r := range w.PullAllWait(t.Context(), func(yield func(Request) bool) {
			yield(Request{Image: "a.example/a:1"})
		}) {
			assert.NoError(t, r.Err)
		}
		assert.Equal(t, 30*time.Second, time.Since(begin))
	})
}

// While images wait for the end of a back-off window, other images are pulled.
func TestPullAllWaitPullsOtherImagesWhileSomeWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{Parallel: 2})
		var mu sync.Mutex
		now, most := 0, 0
		tried := map[string]bool{}
		w.runtime.pull = func(ctx context.Context, spec Spec) (string, error) {
			mu.Lock()
			now++
			most = max(most, now)
			first := !tried[spec.Written]
			tried[spec.Written] = true
			mu.Unlock()
			defer func() {
				mu.Lock()
				now--
				mu.Unlock()
			}()
			if first {
				return "", textError("404")
			}
			return slow(time.Second, ok)(ctx, spec)
		}
		begin := time.Now()
		n, atMost := 0, 0
		for _, r := range w.PullAllWait(t.Context(), images(600)) {
			assert.NoError(t, r.Err)
			n++
			atMost = max(atMost, runtime.NumGoroutine())
		}
		assert.Equal(t, 600, n)
		assert.Equal(t, 2, most)
		assert.Less(t, atMost, 2*maxAsleep+100, "the number of images that wait is limited")
		assert.Less(t, time.Since(begin), 600*time.Second, "one at a time would take 6,600 s")
	})
}

// Two images of one Pod are never pulled at the same time, and images of other Pods do not
// wait for them. This holds also while an image waits for the end of a back-off window.
func TestPullAllPullsOneImageOfAPodAtATime(t *testing.T) {
	for _, parallel := range []int{-1, 3} {
		for _, wait := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, Config{Parallel: parallel})
				var mu sync.Mutex
				pods := map[string]int{} // images that are pulled now
				most, tried := 0, map[string]bool{}
				w.runtime.pull = func(ctx context.Context, spec Spec) (string, error) {
					pod, _, _ := strings.Cut(spec.Ref.Repository(), "-")
					mu.Lock()
					pods[pod]++
					assert.Equal(t, 1, pods[pod], "%s has two pulls", pod)
					most = max(most, len(pods))
					first := !tried[spec.Written]
					tried[spec.Written] = true
					mu.Unlock()
					time.Sleep(time.Second)
					mu.Lock()
					defer mu.Unlock()
					delete(pods, pod)
					if first && wait && strings.HasSuffix(spec.Written, "-0:1") {
						return "", textError("404")
					}
					return "sha256:1", nil
				}
				const each, podCount = 5, 20
				reqs := func(yield func(Request) bool) {
					for i := range podCount {
						for j := range each {
							pod := fmt.Sprintf("pod%d", i)
							if !yield(Request{Image: fmt.Sprintf("a.example/%s-%d:1", pod, j), Pod: credentials.Pod{UID: pod}}) {
								return
							}
						}
					}
				}
				all := w.PullAll
				if wait {
					all = w.PullAllWait
				}
				begin, n := time.Now(), 0
				for _, r := range all(t.Context(), reqs) {
					assert.NoError(t, r.Err)
					n++
				}
				assert.Equal(t, each*podCount, n)
				if parallel < 0 {
					assert.Equal(t, podCount, most, "all Pods are served at the same time")
					took := each * time.Second
					if wait {
						took = 12 * time.Second // the first image fails, waits for 10 s, and is pulled
					}
					assert.Equal(t, took, time.Since(begin))
				} else {
					assert.Equal(t, parallel, most)
				}
			})
		}
	}
}

// When the context ends, images that wait for their Pod are not started, and the last
// result says that images were not started.
func TestPullAllEndsWhileImagesOfAPodWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{Parallel: -1})
		w.runtime.pull = func(ctx context.Context, _ Spec) (string, error) {
			<-ctx.Done()
			return "", context.Cause(ctx)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		results := []string{}
		for req, r := range w.PullAll(ctx, func(yield func(Request) bool) {
			for i := range maxAsleep + 10 { // more than may wait
				if !yield(Request{Image: fmt.Sprintf("a.example/a-%d:1", i), Pod: credentials.Pod{UID: "1"}}) {
					return
				}
			}
		}) {
			assert.ErrorIs(t, r.Err, context.DeadlineExceeded)
			results = append(results, req.Image)
		}
		assert.Equal(t, []string{"a.example/a-0:1", ""}, results)
	})
}

func TestBreakingOutOfPullAllWaitEndsItsWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		w.runtime.pull = func(ctx context.Context, spec Spec) (string, error) {
			if spec.Ref.Repository() == "app-9" {
				return "sha256:1", nil
			}
			return "", textError("404")
		}
		begin := time.Now()
		for req := range w.PullAllWait(t.Context(), images(600)) {
			assert.Equal(t, "a.example/app-9:1", req.Image)
			break
		}
		assert.Zero(t, time.Since(begin))
	})
}

// How many requests PullAll holds at a time depends only on Parallel, so 2,000 images need
// no more memory than 200.
func TestPullAllNeedsNoMoreMemoryForMoreImages(t *testing.T) {
	p, err := New(Config{Runtime: quietRuntime{}, Parallel: 8})
	assert.NoError(t, err)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var early, late uint64
	n := 0
	for _, r := range p.PullAll(t.Context(), images(2000)) {
		assert.NoError(t, r.Err)
		n++
		switch n {
		case 200:
			early = heap()
		case 2000:
			late = heap()
		}
	}
	assert.Equal(t, 2000, n)
	t.Logf("heap in use after 200 images: %d KiB, after 2,000: %d KiB", early>>10, late>>10)
	assert.Less(t, int64(late)-int64(early), int64(64<<10))
	assert.Zero(t, p.pulls.Len())
	assert.Empty(t, maps.Collect(p.backoff.last.All()))
}

// A quietRuntime remembers no image, so that it needs no memory.
type quietRuntime struct{}

func (quietRuntime) Status(context.Context, Spec) (Image, error) { return Image{}, errAbsent }

func (quietRuntime) Pull(_ context.Context, spec Spec) (Image, error) {
	return fakeImage(spec.Ref, "sha256:1"), nil
}

// A sequence may be nil, or may end by itself because ctx has ended, before any result.
// Then PullAll yields one result with the error.
func TestPullAllWithoutResultsYieldsTheEndOfTheContext(t *testing.T) {
	w := newWorld(t, Config{})
	for name, reqs := range map[string]func(context.Context) iter.Seq[Request]{
		"waits for requests": func(ctx context.Context) iter.Seq[Request] {
			return func(func(Request) bool) { <-ctx.Done() }
		},
		"nil": func(context.Context) iter.Seq[Request] { return nil },
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("the node is shutting down")
		time.AfterFunc(0, func() { cancel(why) })
		if name == "nil" {
			cancel(why)
		}
		results := 0
		for _, r := range w.PullAll(ctx, reqs(ctx)) {
			results++
			assert.ErrorIs(t, r.Err, why, name)
		}
		assert.Equal(t, 1, results, name)
	}
}

// A loop that counts failures sees a failure if images were not started.
func TestPullAllReportsThatImagesWereNotStarted(t *testing.T) {
	endless := func(yield func(Request) bool) {
		for yield(Request{Image: "a.example/app:1"}) {
		}
	}
	why := errors.New("the node is shutting down")
	for name, tt := range map[string]struct {
		reqs     iter.Seq[Request]
		endAfter int // results; 0 is before the loop
		want     int // failures
	}{
		"ended before":                     {images(2), 0, 1},
		"ended before, endless":            {endless, 0, 1},
		"ended in the middle":              {images(20), 3, 1},
		"ended in the middle, endless":     {endless, 3, 1},
		"ended after the last was yielded": {images(3), 3, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, Config{})
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if tt.endAfter == 0 {
					cancel(why)
				}
				results, failed, rest := 0, 0, 0
				for req, r := range w.PullAll(ctx, tt.reqs) {
					if results++; results == tt.endAfter {
						synctest.Wait() // the sequence has returned, unless it is endless
						cancel(why)
					}
					if r.Err != nil {
						failed++
						assert.ErrorIs(t, r.Err, why)
						asError(t, r.Err)
						if req.Image == "" {
							rest++
							assert.EqualError(t, r.Err, "ErrImagePull: the remaining images were not started: the node is shutting down")
						}
					}
				}
				assert.Equal(t, tt.want, rest)
				assert.GreaterOrEqual(t, failed, tt.want)
			})
		})
	}
}

// The sequence and the function of the loop may share variables without a lock. With -race
// this test fails if they may not.
func TestPullAllReturnsAfterItsSequence(t *testing.T) {
	for _, stop := range []string{"break", "panic", "end of the context"} {
		t.Run(stop, func(t *testing.T) {
			for range 50 {
				w := newWorld(t, Config{Parallel: 3})
				ctx, cancel := context.WithCancel(t.Context())
				begun, returned := 0, false
				func() {
					defer func() { _ = recover() }()
					for range w.PullAll(ctx, func(yield func(Request) bool) {
						defer func() { returned = true }()
						for {
							begun++
							if !yield(Request{Image: fmt.Sprintf("a.example/app-%d:1", begun)}) {
								return
							}
						}
					}) {
						switch stop {
						case "break":
							return
						case "panic":
							panic(stop)
						}
						cancel()
					}
				}()
				cancel()
				assert.True(t, returned)
				assert.Positive(t, begun)
			}
		})
	}
}

// The loop does not end before the sequence, even if the sequence's own code takes
// seconds.
func TestPullAllWaitsForASlowSequence(t *testing.T) {
	for _, stop := range []string{"break", "panic", "end of the context"} {
		t.Run(stop, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, Config{})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				returned := false
				func() {
					defer func() { _ = recover() }()
					for range w.PullAll(ctx, func(yield func(Request) bool) {
						defer func() {
							time.Sleep(2 * time.Second)
							returned = true
						}()
						yield(Request{Image: "a.example/app:1"})
						time.Sleep(2 * time.Second)
						yield(Request{Image: "a.example/app:2"})
					}) {
						switch stop {
						case "break":
							return
						case "panic":
							panic(stop)
						}
						cancel()
					}
				}()
				assert.True(t, returned)
			})
		})
	}
}

// The loop ends even if the code of the sequence waits for ever. The end of the context is
// reported at once. If the sequence calls yield again later, yield returns false.
func TestPullAllEndsWithoutASequenceThatBlocks(t *testing.T) {
	for _, stop := range []string{"break", "end of the context"} {
		t.Run(stop, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, Config{})
				ctx, cancel := context.WithCancelCause(t.Context())
				why := errors.New("the node is shutting down")
				release, goOn := make(chan struct{}), make(chan bool, 1)
				begin := time.Now()
				failed := 0
				for _, r := range w.PullAll(ctx, func(yield func(Request) bool) {
					yield(Request{Image: "a.example/app:1"})
					<-release
					goOn <- yield(Request{Image: "a.example/app:2"})
				}) {
					if r.Err != nil {
						failed++
						assert.ErrorIs(t, r.Err, why)
						assert.Equal(t, await.Grace, time.Since(begin))
						continue
					}
					if stop == "break" {
						break
					}
					cancel(why)
				}
				assert.LessOrEqual(t, time.Since(begin), sequenceGrace+await.Grace)
				assert.GreaterOrEqual(t, time.Since(begin), sequenceGrace)
				assert.Equal(t, stop != "break", failed == 1)
				close(release)
				assert.False(t, <-goOn)
				cancel(nil)
			})
		})
	}
}
