package await

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullkit/pullkit/internal/panics"
	"github.com/stretchr/testify/assert"
)

func TestCallReturnsWhatTheFunctionReturns(t *testing.T) {
	cancelable, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, ctx := range []context.Context{context.Background(), cancelable} {
		got, ok := Call(ctx, func() string { return "answer" })
		assert.Equal(t, "answer", got)
		assert.True(t, ok)
	}
}

func TestCallLeavesAFunctionThatIgnoresItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, row := range []struct {
			stopsAfter time.Duration // the end of the context
			ok         bool
			took       time.Duration
		}{
			{0, true, time.Second},
			{Grace - 1, true, time.Second + Grace - 1},
			{Grace + 1, false, time.Second + Grace},
			{time.Hour, false, time.Second + Grace},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			begin := time.Now()
			got, ok := Call(ctx, func() int {
				<-ctx.Done()
				time.Sleep(row.stopsAfter)
				return 1
			})
			assert.Equal(t, row.took, time.Since(begin))
			assert.Equal(t, row.ok, ok)
			assert.Equal(t, row.ok, got == 1)
			cancel()
			time.Sleep(2 * time.Hour) // the function has returned
		}
	})
}

func TestPanicReachesTheCaller(t *testing.T) {
	boom := errors.New("boom")
	cancelable, cancel := context.WithCancel(t.Context())
	defer cancel()
	assert.PanicsWithValue(t, boom, func() { Call(context.Background(), func() int { panic(boom) }) })
	var carried *panics.Error
	func() {
		defer func() { carried, _ = recover().(*panics.Error) }()
		Call(cancelable, func() int { panic(boom) })
	}()
	assert.ErrorIs(t, carried, boom, "the panic of another goroutine, with its stack")
	assert.Contains(t, string(carried.Stack), "await_test.go")
}

func TestDoneWaitsForGraceAfterTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := make(chan struct{})
		close(closed)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		begin := time.Now()
		assert.True(t, Done(t.Context(), closed))
		assert.True(t, Done(ended, closed))
		assert.Zero(t, time.Since(begin))
		assert.False(t, Done(ended, make(chan struct{})))
		assert.Equal(t, Grace, time.Since(begin))
	})
}
