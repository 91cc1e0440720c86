package puller

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/await"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var errBoom = errors.New("a callback panicked")

// recovers calls fn, which must panic with errBoom or with an error that wraps errBoom.
func recovers(t *testing.T, name string, fn func()) {
	t.Helper()
	returned := false
	defer func() {
		v := recover()
		assert.False(t, returned, "%s: the call returned", name)
		err, _ := v.(error)
		assert.ErrorIs(t, err, errBoom, name)
		var carried *PanicError
		if errors.As(err, &carried) {
			assert.Equal(t, errBoom, carried.Value, name)
			assert.Contains(t, string(carried.Stack), "panic_test.go", "%s: the stack is that of the callback", name)
		}
	}()
	fn()
	returned = true
}

// An explosive is all callbacks of a Puller in one value: Runtime, Planner, Keyring and
// Records. The method that the field at names panics.
type explosive struct {
	*fakeRuntime
	at   string
	mu   sync.Mutex
	slow time.Duration // how long a pull takes, so that all callers share one pull
}

func (x *explosive) reach(point string) {
	x.mu.Lock()
	at := x.at
	x.mu.Unlock()
	if at == point {
		panic(errBoom)
	}
}

func (x *explosive) heal() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.at = ""
}

func (x *explosive) Status(ctx context.Context, spec Spec) (Image, error) {
	x.reach("Status")
	return x.fakeRuntime.Status(ctx, spec)
}

func (x *explosive) Pull(ctx context.Context, spec Spec) (Image, error) {
	time.Sleep(x.slow)
	x.reach("Pull")
	if spec.Progress != nil {
		spec.Progress(Progress{})
	}
	return x.fakeRuntime.Pull(ctx, spec)
}

func (x *explosive) Plan(context.Context, Spec) (Plan, error) {
	x.reach("Plan")
	return Plan{Digest: descriptor('9', 0).Digest}, nil
}

func (x *explosive) Lookup(context.Context, reference.Reference) iter.Seq2[credentials.Credential, error] {
	return func(yield func(credentials.Credential, error) bool) {
		x.reach("Lookup")
		yield(secret("a", "1"), nil)
	}
}

func (x *explosive) Fingerprint(reference.Reference) uint64 {
	x.reach("Fingerprint")
	return 1
}

func (x *explosive) Intend(context.Context, string) (func() error, error) {
	x.reach("Intend")
	return func() error { x.reach("done"); return nil }, nil
}

func (x *explosive) Intents(context.Context) iter.Seq2[string, error] {
	x.reach("Intents")
	return func(func(string, error) bool) {}
}

func (x *explosive) Record(context.Context, string) (records.Record, error) {
	x.reach("Record")
	return records.Record{}, fs.ErrNotExist
}

func (x *explosive) Grant(context.Context, string, string, records.Access) error {
	x.reach("Grant")
	return nil
}

func (x *explosive) Sweep(context.Context, time.Time, func(string) bool) error {
	x.reach("Sweep")
	return nil
}

// A panic of any callback reaches each caller that waits for the pull. A caller that
// recovers can go on using the Puller. No pull and no goroutine is left running.
func TestPanicsReachAllCallers(t *testing.T) {
	for _, at := range []string{"Status", "Pull", "Lookup", "Fingerprint", "Intend", "done", "Intents", "Record", "Grant",
		string(EventPulling), string(EventProgress), string(EventPulled)} {
		t.Run(at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := &explosive{fakeRuntime: &fakeRuntime{store: map[string]string{}}, at: at, slow: time.Second}
				if at == "Record" || at == "Intents" {
					x.store["priv.example/app:1"] = "sha256:1"
				}
				p, err := New(Config{Runtime: x, Keyring: x, Records: x, Events: func(e Event) { x.reach(string(e.Reason)) }})
				require.NoError(t, err)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var callers sync.WaitGroup
				for range 4 {
					callers.Go(func() {
						recovers(t, at, func() { _, _ = p.Pull(ctx, Request{Image: "priv.example/app:1"}) })
					})
				}
				callers.Wait()
				synctest.Wait()
				assert.Zero(t, p.pulls.Len())
				assert.Empty(t, p.access.intents)
				x.heal()
				_, err = p.Pull(ctx, Request{Image: "priv.example/app:1"})
				assert.NoError(t, err, "a panic starts no back-off")
			})
		})
	}
}

// The other methods of a Puller panic as Pull does.
func TestPanicsReachTheCallersOfAllMethods(t *testing.T) {
	x := &explosive{fakeRuntime: &fakeRuntime{store: map[string]string{}}}
	p, err := New(Config{Runtime: x, Keyring: x, Records: x, Parallel: 2})
	require.NoError(t, err)
	req := Request{Image: "priv.example/app:1"}
	set := func(at string) { x.mu.Lock(); x.at = at; x.mu.Unlock() }

	set("Pull")
	recovers(t, "PullWait", func() { _, _ = p.PullWait(t.Context(), req) })
	recovers(t, "PullAll", func() {
		for range p.PullAll(t.Context(), images(20)) {
		}
	})
	set("Plan")
	recovers(t, "Resolve", func() { _, _ = p.Resolve(t.Context(), req) })
	recovers(t, "Explain", func() { _, _ = p.Explain(t.Context(), req) })
	set("Sweep")
	recovers(t, "Sweep", func() { _ = p.Sweep(t.Context(), time.Now(), nil) })
	set("")
	recovers(t, "the sequence of PullAll", func() {
		n := 0
		for _, r := range p.PullAll(t.Context(), func(yield func(Request) bool) {
			yield(req)
			panic(errBoom)
		}) {
			assert.NoError(t, r.Err)
			n++
		}
		assert.Equal(t, 1, n)
	})
	assert.Zero(t, p.pulls.Len())
}

// A callback that ends its goroutine, as t.FailNow does, ends the goroutines of the callers
// too. No caller waits for ever.
func TestGoexitInACallbackEndsItsCallers(t *testing.T) {
	w := newWorld(t, Config{})
	w.runtime.pull = func(context.Context, Spec) (string, error) { runtime.Goexit(); return "", nil }
	returned := false
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = w.Pull(t.Context(), Request{Image: "a.example/app:1"})
		returned = true
	}()
	<-ended
	assert.False(t, returned)
	assert.Zero(t, w.pulls.Len())
}

// A deaf is an explosive that ignores the end of a context. The method that the field
// point names does not return before release is closed.
type deaf struct {
	explosive
	point   string
	release chan struct{}
}

func (d *deaf) block(point string) {
	if d.point == point {
		<-d.release
	}
}

func (d *deaf) Status(ctx context.Context, spec Spec) (Image, error) {
	d.block("Status")
	return d.explosive.Status(ctx, spec)
}

func (d *deaf) Pull(ctx context.Context, spec Spec) (Image, error) {
	d.block("Pull")
	return d.explosive.Pull(ctx, spec)
}

func (d *deaf) Plan(ctx context.Context, spec Spec) (Plan, error) {
	d.block("Plan")
	return d.explosive.Plan(ctx, spec)
}

func (d *deaf) Lookup(ctx context.Context, ref reference.Reference) iter.Seq2[credentials.Credential, error] {
	d.block("Lookup")
	return d.explosive.Lookup(ctx, ref)
}

func (d *deaf) Record(ctx context.Context, id string) (records.Record, error) {
	d.block("Record")
	return d.explosive.Record(ctx, id)
}

func (d *deaf) Intents(ctx context.Context) iter.Seq2[string, error] {
	d.block("Intents")
	return d.explosive.Intents(ctx)
}

func (d *deaf) Intend(ctx context.Context, image string) (func() error, error) {
	d.block("Intend")
	return d.explosive.Intend(ctx, image)
}

func (d *deaf) Grant(ctx context.Context, id, name string, access records.Access) error {
	d.block("Grant")
	return d.explosive.Grant(ctx, id, name, access)
}

func (d *deaf) Sweep(ctx context.Context, before time.Time, stored func(string) bool) error {
	d.block("Sweep")
	return d.explosive.Sweep(ctx, before, stored)
}

// If a Runtime, a Keyring or Records ignore the end of the context, a call of a Puller
// waits for them at most await.Grace.
func TestNoCallbackHoldsACallPastItsContext(t *testing.T) {
	for _, point := range []string{"Status", "Pull", "Plan", "Lookup", "Record", "Intents", "Intend", "Grant", "Sweep"} {
		t.Run(point, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &deaf{explosive: explosive{fakeRuntime: &fakeRuntime{store: map[string]string{}}}, point: point, release: make(chan struct{})}
				req := Request{Image: "priv.example/app:1"}
				if point == "Record" || point == "Intents" {
					d.store["priv.example/app:1"] = "sha256:1"
				}
				p, err := New(Config{Runtime: d, Keyring: d, Records: d})
				require.NoError(t, err)
				call := func(ctx context.Context) error { _, err := p.Pull(ctx, req); return err }
				switch point {
				case "Plan":
					call = func(ctx context.Context) error {
						_, err := p.Resolve(ctx, req)
						if _, e := p.Explain(ctx, req); e == nil {
							return fmt.Errorf("Explain: no error")
						}
						return err
					}
				case "Sweep":
					call = func(ctx context.Context) error { return p.Sweep(ctx, time.Now(), nil) }
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				begin := time.Now()
				assert.ErrorIs(t, call(ctx), context.DeadlineExceeded)
				assert.LessOrEqual(t, time.Since(begin), time.Second+2*await.Grace)
				close(d.release)
				synctest.Wait()
			})
		})
	}
}

// If Records never answer, the pull gives its slot back after recordTime.
func TestRecordsThatHangKeepNoSlot(t *testing.T) {
	for _, point := range []string{"Intend", "Grant"} {
		t.Run(point, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &deaf{explosive: explosive{fakeRuntime: &fakeRuntime{store: map[string]string{}}}, point: point, release: make(chan struct{})}
				p, err := New(Config{Runtime: d, Records: d})
				require.NoError(t, err)
				begin := time.Now()
				_, err = p.Pull(t.Context(), Request{Image: "priv.example/app:1"})
				assert.Equal(t, recordTime+await.Grace, time.Since(begin))
				if point == "Intend" {
					assert.ErrorIs(t, err, errRecordTime)
				} else {
					assert.NoError(t, err, "the image is there")
				}
				close(d.release)
				synctest.Wait()
			})
		})
	}
}
