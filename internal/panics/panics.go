// Package panics carries a panic from the goroutine in which it happens to the callers that
// wait for that goroutine. Otherwise the panic would end the process, and no caller could
// recover from it.
package panics

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// An Error is a panic of a callback that ran in a goroutine other than the caller's.
type Error struct {
	// Value is the value of the panic.
	Value any
	// Stack is the stack of the goroutine that panicked, as debug.Stack writes it.
	Stack []byte

	exited bool // the goroutine ended by runtime.Goexit, without a panic
}

// Error returns the value and the stack as text. The Go runtime prints this text if no
// caller recovers.
func (e *Error) Error() string {
	return fmt.Sprintf("%v\n\nthe panic was in another goroutine:\n%s", e.Value, e.Stack)
}

// Unwrap returns Value if that is an error.
func (e *Error) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Catch calls fn and then end. The argument of end is nil if fn returned, and an Error if
// fn panicked or called runtime.Goexit. Catch stops the panic. Because end is called in all
// three cases, it can signal that the work has ended.
func Catch(fn func(), end func(*Error)) {
	returned := false
	defer func() {
		if returned {
			end(nil)
			return
		}
		v := recover()
		if v == nil { // recover returns nil only if there is no panic
			end(&Error{Value: "runtime.Goexit was called", Stack: debug.Stack(), exited: true})
			return
		}
		end(New(v))
	}()
	fn()
	returned = true
}

// New returns an Error for recovered, the result of recover. Call it in the deferred
// function, because there the stack is still that of the panic. If recovered is an Error
// already, New returns it.
func New(recovered any) *Error {
	if e, carried := recovered.(*Error); carried {
		return e
	}
	return &Error{Value: recovered, Stack: debug.Stack()}
}

// Raise repeats e in the goroutine of a caller that waited. It panics with e, or calls
// runtime.Goexit if the other goroutine did. If e is nil, Raise does nothing.
func (e *Error) Raise() {
	switch {
	case e == nil:
	case e.exited:
		runtime.Goexit()
	default:
		panic(e)
	}
}
