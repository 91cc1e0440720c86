//go:build !race

package archive

const raceFactor = 1
