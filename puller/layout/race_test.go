//go:build race

package layout

// raced says that the race detector slows this program down.
const raced = true
