// Package rounds says how often a test repeats a random trial.
//
// A developer who runs go test waits for a fifth of the trials. With the environment
// variable PULLKIT_ALL_ROUNDS=1, which .ci/run sets, a test does all of them.
package rounds

import "os"

// share is the part of the rounds that a run without the variable does: one in so many.
const share = 5

// All reports whether PULLKIT_ALL_ROUNDS=1 asks for all rounds.
func All() bool { return os.Getenv("PULLKIT_ALL_ROUNDS") == "1" }

// Of returns how many of full rounds a test does: all of them if All, otherwise a
// fifth, rounded up, so that it does at least one.
func Of(full int) int {
	if All() {
		return full
	}
	return (full + share - 1) / share
}
