package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
)

// A store is a directory with a file for each blob and manifest, and with images.json, which
// lists tags and manifests.
type store struct{ dir string }

// A catalog is the content of images.json.
type catalog struct {
	Tags      map[string]digest.Digest // "repository:tag"
	Manifests map[digest.Digest]string // media types
}

func (s store) path(d digest.Digest) string { return filepath.Join(s.dir, d.Encoded()) }

// put stores the content of r under its digest.
func (s store) put(r io.Reader) (digest.Digest, int64, error) {
	f, err := os.CreateTemp(s.dir, "new-")
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	hash := sha256.New()
	size, err := io.CopyBuffer(io.MultiWriter(f, hash), r, make([]byte, 1<<20))
	if err != nil {
		return "", 0, err
	}
	d := digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(hash.Sum(nil)))
	return d, size, os.Rename(f.Name(), s.path(d))
}

// putHole stores a blob of size bytes: start, and then zeros.
func (s store) putHole(start []byte, size int64) (digest.Digest, error) {
	f, err := os.CreateTemp(s.dir, "new-")
	if err != nil {
		return "", err
	}
	defer f.Close()
	if _, err := f.Write(start); err != nil {
		return "", err
	}
	if err := f.Truncate(size); err != nil {
		return "", err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	hash := sha256.New()
	if _, err := io.CopyBuffer(hash, struct{ io.Reader }{f}, make([]byte, 1<<20)); err != nil {
		return "", err
	}
	d := digest.NewDigest(digest.SHA256, hash)
	return d, os.Rename(f.Name(), s.path(d))
}

func (s store) putJSON(v any) (digest.Digest, int64, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return "", 0, err
	}
	return s.put(bytes.NewReader(data))
}

func (s store) catalogPath() string { return filepath.Join(s.dir, "images.json") }

func (s store) save(c catalog) error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return os.WriteFile(s.catalogPath(), data, 0o644)
}

func (s store) load() (c catalog, err error) {
	data, err := os.ReadFile(s.catalogPath())
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal(data, &c)
}
