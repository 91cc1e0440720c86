//go:build !unix

package regular

// NonBlocking is zero, because no file is a named pipe there.
const NonBlocking = 0
