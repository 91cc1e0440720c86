package main

import (
	"os"
	"path/filepath"

	"github.com/pullkit/pullkit/internal/fakeregistry"
)

// The files of TLS in a directory of images: what clients trust, and what servers on
// loopback show.
const (
	caFile   = "ca.pem"
	certFile = "server.pem"
	keyFile  = "server.key"
)

// makeAuthority writes those files, with keys of this run.
func makeAuthority(dir string) error {
	ca, err := fakeregistry.NewAuthority()
	if err != nil {
		return err
	}
	cert, key, err := ca.Issue("bench", "localhost", "127.0.0.1")
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{caFile: ca.PEM, certFile: cert, keyFile: key} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}
