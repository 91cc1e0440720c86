//go:build !race

package layout

const raced = false
