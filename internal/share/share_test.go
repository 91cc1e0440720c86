package share

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullkit/pullkit/internal/panics"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// ask makes several callers of one key. It returns how many times fn ran, and the result of
// each caller.
func ask(t *testing.T, c *Calls[string, int], callers int, fn func(context.Context) (int, error)) (runs int, got []int, errs []error) {
	var ran atomic.Int64
	var mu sync.Mutex
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			n, err := c.Do(t.Context(), "key", func(ctx context.Context) (int, error) {
				ran.Add(1)
				time.Sleep(time.Second)
				return fn(ctx)
			})
			mu.Lock()
			defer mu.Unlock()
			got, errs = append(got, n), append(errs, err)
		})
	}
	all.Wait()
	assert.Zero(t, c.Len())
	return int(ran.Load()), got, errs
}

func TestCallersShareOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Calls[string, int]
		runs, got, errs := ask(t, &c, 3, func(context.Context) (int, error) { return 7, nil })
		assert.Equal(t, 1, runs)
		assert.Equal(t, []int{7, 7, 7}, got)
		assert.Equal(t, []error{nil, nil, nil}, errs)

		fault := errors.New("fault")
		runs, got, errs = ask(t, &c, 2, func(context.Context) (int, error) { return 8, fault })
		assert.Equal(t, 1, runs, "a call that is over is not shared")
		assert.Equal(t, []int{8, 8}, got)
		assert.Equal(t, []error{fault, fault}, errs)
	})
}

func TestOtherKeysHaveCallsOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Calls[int, int]
		var all sync.WaitGroup
		for key := range 3 {
			all.Go(func() {
				n, err := c.Do(t.Context(), key, func(context.Context) (int, error) {
					time.Sleep(time.Second)
					return key, nil
				})
				assert.NoError(t, err)
				assert.Equal(t, key, n)
			})
		}
		synctest.Wait()
		assert.Equal(t, 3, c.Len())
		all.Wait()
	})
}

// TestCallGoesOnUntilTheLastCallerLeaves: a caller whose context ends leaves, and the other callers stay.
// The call has the values of the first caller's context, and ends when the last caller has
// left.
func TestCallGoesOnUntilTheLastCallerLeaves(t *testing.T) {
	type ctxKey struct{}
	synctest.Test(t, func(t *testing.T) {
		var c Calls[string, int]
		enough := errors.New("enough")
		var all sync.WaitGroup
		var callCtx context.Context
		leave := make([]context.CancelCauseFunc, 2)
		for i := range leave {
			ctx, cancel := context.WithCancelCause(context.WithValue(t.Context(), ctxKey{}, i))
			leave[i] = cancel
			all.Go(func() {
				n, err := c.Do(ctx, "key", func(ctx context.Context) (int, error) {
					callCtx = ctx
					<-ctx.Done()
					time.Sleep(time.Second)
					return 1, ctx.Err()
				})
				assert.ErrorIs(t, err, enough)
				assert.Zero(t, n)
			})
			synctest.Wait()
		}
		assert.Equal(t, 2, c.Waiting("key"))
		assert.Equal(t, 0, callCtx.Value(ctxKey{}))

		leave[0](enough) // the caller that started the call
		synctest.Wait()
		assert.Equal(t, 1, c.Waiting("key"))
		require.NoError(t, callCtx.Err(), "the call goes on for the other caller")

		leave[1](enough)
		all.Wait() // Do does not wait for a call that ignores the end of its context
		assert.ErrorIs(t, callCtx.Err(), context.Canceled)
		assert.Zero(t, c.Waiting("key"))

		n, err := c.Do(t.Context(), "key", func(context.Context) (int, error) { return 2, nil })
		assert.NoError(t, err)
		assert.Equal(t, 2, n, "a later caller gets a call of its own")
		time.Sleep(2 * time.Second)
		assert.Zero(t, c.Len(), "the end of the first call does not remove the second")
	})
}

func TestPanicReachesAllCallers(t *testing.T) {
	boom := errors.New("boom")
	for name, fn := range map[string]func(){
		"panic":  func() { panic(boom) },
		"goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var c Calls[string, int]
				var all sync.WaitGroup
				var returned atomic.Int64
				for range 3 {
					all.Go(func() {
						defer func() {
							if v := recover(); name == "panic" {
								err, _ := v.(*panics.Error)
								assert.ErrorIs(t, err, boom)
							}
						}()
						_, _ = c.Do(t.Context(), "key", func(context.Context) (int, error) {
							time.Sleep(time.Second)
							fn()
							return 0, nil
						})
						returned.Add(1)
					})
				}
				all.Wait()
				assert.Zero(t, returned.Load())
				n, err := c.Do(t.Context(), "key", func(context.Context) (int, error) { return 1, nil })
				assert.NoError(t, err)
				assert.Equal(t, 1, n)
			})
		})
	}
}

// TestSettleIsCalledWithTheCallersThatStillWait: the work of a run can start after callers have joined, and settle is called
// with the callers that still wait when the work ends.
func TestSettleIsCalledWithTheCallersThatStillWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[string, int, *string]
		newValue := func() *string { return new(string) }
		run, first := g.Join(t.Context(), "key", 1, newValue)
		require.True(t, first)
		for waiter := 2; waiter <= 4; waiter++ {
			other, first := g.Join(t.Context(), "key", waiter, newValue)
			assert.False(t, first)
			assert.Same(t, run, other)
		}
		assert.Equal(t, []*string{run.Value}, g.Values())
		assert.False(t, run.Leave(1))
		assert.False(t, run.Leave(1), "leaving twice changes nothing")
		assert.Equal(t, []int{2, 3, 4}, run.Waiters())

		var settled []int
		run.Go(func(ctx context.Context) {
			time.Sleep(time.Second)
			assert.NoError(t, ctx.Err())
			*run.Value = "result"
		}, func(waiters []int, panicked *panics.Error) {
			settled = append(settled, waiters...)
			assert.Nil(t, panicked)
			select {
			case <-run.Done():
				assert.Fail(t, "Done is closed before settle has returned")
			default:
			}
		})
		synctest.Wait()
		assert.False(t, run.Leave(3))
		<-run.Done()
		run.Raise()
		assert.Equal(t, []int{2, 4}, settled)
		assert.Equal(t, "result", *run.Value)
		assert.ErrorIs(t, run.Context().Err(), context.Canceled)
		assert.Zero(t, g.Len())
	})
}

func TestLastCallerToLeaveEndsTheRun(t *testing.T) {
	var g Group[string, int, int]
	old, _ := g.Join(t.Context(), "key", 1, func() int { return 1 })
	assert.True(t, old.Leave(1))
	assert.ErrorIs(t, old.Context().Err(), context.Canceled)
	next, first := g.Join(t.Context(), "key", 1, func() int { return 2 })
	assert.True(t, first)
	assert.NotSame(t, old, next)
	assert.True(t, old.Leave(1), "the last caller of a run that was replaced")
	assert.Equal(t, []int{2}, g.Values())

	boom := errors.New("boom")
	var settled *panics.Error
	next.Go(func(context.Context) { panic(boom) }, func(_ []int, panicked *panics.Error) { settled = panicked })
	<-next.Done()
	assert.ErrorIs(t, settled, boom)
	assert.PanicsWithError(t, settled.Error(), next.Raise)
}
