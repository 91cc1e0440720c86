//go:build race

package layout

// raced is true if the race detector slows this program down.
const raced = true
