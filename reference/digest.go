package reference

import (
	"strings"

	// go-digest knows an algorithm only where the program links its package, and
	// panics or calls the digest unsupported elsewhere. What Digest returns shall
	// be of use in programs that import nothing but this package.
	_ "crypto/sha256"
	_ "crypto/sha512"
)

// checkDigest looks at a digest. The algorithms are a list of our own, so that
// the answer does not depend on which hash packages a program links, as
// go-digest's does.
func checkDigest(s string) Reason {
	algorithm, encoded, ok := strings.Cut(s, ":")
	digits := 0
	switch algorithm {
	case "sha256":
		digits = 64
	case "sha384":
		digits = 96
	case "sha512":
		digits = 128
	case "":
		if s == "" {
			return ErrMissing
		}
		return ErrDigest
	default:
		if ok && isAlgorithm(algorithm) {
			return ErrAlgorithm
		}
		return ErrDigest
	}
	if len(encoded) != digits || !allHex(encoded) {
		return ErrDigest
	}
	return ""
}

// isAlgorithm reports whether s has the form of an algorithm's name: letters
// and digits, joined by one of "+._-" (OCI image specification, digests; upper
// case, too, so that SHA256 is told that it is unknown).
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
