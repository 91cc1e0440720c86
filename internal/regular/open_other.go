//go:build !unix

package regular

// nonBlocking is nothing where no file is a named pipe.
const nonBlocking = 0
