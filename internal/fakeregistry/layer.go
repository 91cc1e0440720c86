package fakeregistry

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"

	"github.com/opencontainers/go-digest"
)

// Layer returns a layer with one file of random bytes, and the digest of the tar in it. The
// gzip stream is stored without compression: random bytes cannot be compressed, and the
// attempt would take most of the time.
func Layer(size int64, seed, position uint64) (data []byte, diffID digest.Digest, err error) {
	var plain bytes.Buffer
	w := tar.NewWriter(&plain)
	if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("data-%d-%d", seed, position), Mode: 0o644, Size: size, Format: tar.FormatPAX}); err != nil {
		return nil, "", err
	}
	if _, err := w.Write(RandomBytes(size, seed, position)); err != nil {
		return nil, "", err
	}
	if err := w.Close(); err != nil {
		return nil, "", err
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.NoCompression)
	if err != nil {
		return nil, "", err
	}
	if _, err := z.Write(plain.Bytes()); err != nil {
		return nil, "", err
	}
	if err := z.Close(); err != nil {
		return nil, "", err
	}
	return packed.Bytes(), SHA256(plain.Bytes()), nil
}

// RandomBytes returns the same bytes for the same numbers, on every machine.
func RandomBytes(size int64, seed, position uint64) []byte {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
		key[8+i] = byte(position >> (8 * i))
	}
	data := make([]byte, size)
	_, _ = rand.NewChaCha8(key).Read(data) // never fails
	return data
}
