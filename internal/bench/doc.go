// Package bench compares pullkit with its peers in one run: see README.md.
package bench
