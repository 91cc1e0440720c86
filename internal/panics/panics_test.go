package panics

import (
	"errors"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// in runs fn in a goroutine and returns the argument of Catch's end.
func in(fn func()) *Error {
	ended := make(chan *Error)
	go Catch(fn, func(e *Error) { ended <- e })
	return <-ended
}

// recovered returns what a caller of e.Raise recovers. exited says that the caller's
// goroutine ended without a panic.
func recovered(e *Error) (got any, exited bool) {
	done := make(chan struct{})
	exited = true
	go func() {
		defer close(done)
		defer func() { got = recover() }()
		e.Raise()
		exited = false
	}()
	<-done
	return got, exited && got == nil
}

func explode() { panic("boom") }

func TestCatchSaysHowAFunctionEnded(t *testing.T) {
	assert.Nil(t, in(func() {}))

	e := in(explode)
	require.NotNil(t, e)
	assert.Equal(t, "boom", e.Value)
	assert.Contains(t, string(e.Stack), "panics.explode")
	assert.Regexp(t, `^boom\n(?s:.*)panics\.explode`, e.Error())
	assert.NoError(t, errors.Unwrap(e), "a string is not an error")

	cause := errors.New("cause")
	e = in(func() { panic(cause) })
	assert.ErrorIs(t, e, cause)

	var missing *runtime.PanicNilError
	assert.ErrorAs(t, in(func() { panic(nil) }), &missing)
}

func TestRaisePanicsWithTheSameError(t *testing.T) {
	got, exited := recovered(nil)
	assert.Nil(t, got)
	assert.False(t, exited)

	e := in(explode)
	got, _ = recovered(e)
	assert.Same(t, e, got, "the panic of the other goroutine, unchanged")
	assert.Same(t, e, in(func() { e.Raise() }), "through two goroutines it is still the first panic")
}

func TestRaiseEndsTheGoroutineAfterGoexit(t *testing.T) {
	e := in(runtime.Goexit)
	require.NotNil(t, e)
	got, exited := recovered(e)
	assert.Nil(t, got)
	assert.True(t, exited)
	_, exited = recovered(in(e.Raise))
	assert.True(t, exited, "through two goroutines")
}
