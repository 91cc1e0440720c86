//go:build !race

package layout

const raceFactor = 1
