// Package arch holds the house together by tests: which package may import
// which, what the exported API is, and that its docs are whole and compile.
package arch
