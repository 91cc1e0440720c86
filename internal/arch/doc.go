// Package arch has tests about the repository as a whole: which package may import which,
// what the exported API is, and that the documentation names what exists and compiles.
package arch
