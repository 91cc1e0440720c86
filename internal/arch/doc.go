// Package arch holds the house together by tests: which package may import
// which, and what the exported API is.
package arch
