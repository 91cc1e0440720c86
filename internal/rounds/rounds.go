// Package rounds says how often a test repeats a random trial.
//
// By default go test runs a fifth of the trials. With the environment variable
// PULLKIT_ALL_ROUNDS=1, which .ci/run sets, it runs all of them.
package rounds

import "os"

// share says which part of the rounds a test does by default: one in share.
const share = 5

// All reports whether PULLKIT_ALL_ROUNDS is 1, so that tests do all rounds.
func All() bool { return os.Getenv("PULLKIT_ALL_ROUNDS") == "1" }

// Of returns how many of full rounds a test does: all of them if All reports true,
// otherwise a fifth, rounded up, so that a test does at least one.
func Of(full int) int {
	if All() {
		return full
	}
	return (full + share - 1) / share
}
