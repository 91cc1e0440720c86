//go:build !unix

package regular

// NonBlocking is zero, because these systems have no named pipes among their files.
const NonBlocking = 0
