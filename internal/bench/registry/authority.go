package main

import (
	"os"
	"path/filepath"

	"github.com/pullkit/pullkit/internal/fakeregistry"
)

// The files of TLS in a directory of images: the authority that clients trust, and the
// certificate and key of the servers on loopback.
const (
	caFile   = "ca.pem"
	certFile = "server.pem"
	keyFile  = "server.key"
)

// makeAuthority writes these files, with new keys.
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
