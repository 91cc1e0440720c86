package reference

import (
	"errors"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/internal/verify"
)

// checkDigest returns what is wrong with a digest, "" if nothing is.
func checkDigest(s string) Reason {
	if s == "" {
		return ErrMissing
	}
	err := verify.Digest(digest.Digest(s))
	if err == nil {
		return ""
	}
	if algorithm, _, _ := strings.Cut(s, ":"); errors.Is(err, verify.ErrAlgorithm) && isAlgorithm(algorithm) {
		return ErrAlgorithm
	}
	return ErrDigest
}

// isAlgorithm reports whether s has the form of an algorithm's name: letters
// and digits, joined by one of "+._-" (OCI image specification, digests). Upper
// case is included, so that the error for SHA256 says that the algorithm is unknown.
func isAlgorithm(s string) bool {
	run := 0
	for i := range len(s) {
		switch c := s[i]; {
		case class[c]&(lower|upper) != 0:
			run++
		case run > 0 && strings.IndexByte("+._-", c) >= 0:
			run = 0
		default:
			return false
		}
	}
	return run > 0
}
