//go:build !unix

package regular

// NonBlocking is zero, because the file systems of these systems have no named pipes.
const NonBlocking = 0
