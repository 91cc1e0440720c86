// Package panics carries a panic out of the goroutine it happens in, to the callers
// who wait for what that goroutine does. A panic that leaves a goroutine ends the
// process: no caller's recover is ever asked.
package panics

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// An Error is a panic of a callback that ran in another goroutine than its caller's.
type Error struct {
	// Value is what the callback panicked with.
	Value any
	// Stack is the stack of the goroutine in which it did, as debug.Stack writes it.
	Stack []byte

	exited bool // by runtime.Goexit, without a panic
}

// Error shows the value and the stack, which is what a process that does not
// recover prints.
func (e *Error) Error() string {
	return fmt.Sprintf("%v\n\nthe panic was in another goroutine:\n%s", e.Value, e.Stack)
}

// Unwrap returns Value if that is an error.
func (e *Error) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Catch calls fn, and then end with how fn ended: nil if it returned, an Error if it
// panicked or called runtime.Goexit. The panic goes no further. As end is called in
// all three cases, it is the place to say that the work is over.
func Catch(fn func(), end func(*Error)) {
	returned := false
	defer func() {
		if returned {
			end(nil)
			return
		}
		v := recover()
		if v == nil { // a panic is never nil
			end(&Error{Value: "runtime.Goexit was called", Stack: debug.Stack(), exited: true})
			return
		}
		end(New(v))
	}()
	fn()
	returned = true
}

// New returns what a recover gave as an Error. It is to be called where the stack is
// still that of the panic, in the deferred function. A value that is an Error already
// stays the same.
func New(recovered any) *Error {
	if e, carried := recovered.(*Error); carried {
		return e
	}
	return &Error{Value: recovered, Stack: debug.Stack()}
}

// Raise goes on with e in the goroutine of a caller who waited: it panics with e, or
// ends the goroutine if that is what happened in the other one. Raise of nil returns.
func (e *Error) Raise() {
	switch {
	case e == nil:
	case e.exited:
		runtime.Goexit()
	default:
		panic(e)
	}
}
