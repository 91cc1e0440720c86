//go:build race

package archive

// raceFactor is how many times longer a test may take under the race detector.
const raceFactor = 10
