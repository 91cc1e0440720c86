package registry

import (
	"crypto/x509"
	"io/fs"
)

func readHosts(dir, registry string, base *x509.CertPool) (Hosts, string, error) {
	return Hosts{}, "", fs.ErrNotExist
}
