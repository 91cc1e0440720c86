// Package imageverifier compares package verify with containerd's image verifier plugin
// (pkg/imageverifier/bindir) on the same programs.
package imageverifier
