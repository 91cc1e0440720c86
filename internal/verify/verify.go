// Package verify checks digests. It has its own code for that, because the answers of
// go-digest depend on which hash packages a program links.
package verify

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/internal/redact"
)

// ErrAlgorithm is wrapped by errors for digests of an algorithm other than
// sha256, sha384 and sha512.
var ErrAlgorithm = errors.New("unsupported digest algorithm")

// Digest returns an error if d has no or an unknown algorithm, the wrong length, or
// characters other than lower-case hex. It does not panic.
func Digest(d digest.Digest) error {
	algorithm, encoded, ok := strings.Cut(string(d), ":")
	if !ok {
		return fmt.Errorf("digest %s has no algorithm", redact.Quote(string(d), 80))
	}
	size := 0
	switch algorithm {
	case "sha256":
		size = sha256.Size
	case "sha384":
		size = sha512.Size384
	case "sha512":
		size = sha512.Size
	default:
		return fmt.Errorf("digest %s: %w", redact.Quote(string(d), 80), ErrAlgorithm)
	}
	if len(encoded) != 2*size {
		return fmt.Errorf("digest %s: %d hex digits, want %d", redact.Quote(string(d), 80), len(encoded), 2*size)
	}
	for i := range len(encoded) {
		if c := encoded[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fmt.Errorf("digest %s: not lower-case hex", redact.Quote(string(d), 80))
		}
	}
	return nil
}

// New returns the hash of d's algorithm. The error is that of Digest.
func New(d digest.Digest) (hash.Hash, error) {
	if err := Digest(d); err != nil {
		return nil, err
	}
	switch algorithm, _, _ := strings.Cut(string(d), ":"); algorithm {
	case "sha384":
		return sha512.New384(), nil
	case "sha512":
		return sha512.New(), nil
	}
	return sha256.New(), nil
}

// Sum returns the digest of the bytes that were written to h. h is the hash that New(d)
// returned.
func Sum(d digest.Digest, h hash.Hash) digest.Digest {
	algorithm, _, _ := strings.Cut(string(d), ":")
	return digest.Digest(algorithm + ":" + hex.EncodeToString(h.Sum(nil)))
}

// Bytes reports whether data has the digest d. It is false for a malformed digest.
func Bytes(d digest.Digest, data []byte) bool {
	h, err := New(d)
	if err != nil {
		return false
	}
	h.Write(data)
	return Sum(d, h) == d
}
