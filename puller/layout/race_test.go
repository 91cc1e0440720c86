//go:build race

package layout_test

// raced is true if the race detector slows this program down.
const raced = true
