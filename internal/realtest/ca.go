package realtest

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"

	"github.com/pullkit/pullkit/internal/fakeregistry"
)

// A CA is a certificate authority for one test. It is made by NewCA.
type CA struct {
	Pool *x509.CertPool // has only this authority
	File string         // path of its certificate, in PEM

	dir       string
	authority *fakeregistry.Authority
}

// NewCA makes an authority. Its files are removed at the end of the test.
func NewCA(t testing.TB) *CA {
	t.Helper()
	authority, err := fakeregistry.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	ca := &CA{Pool: x509.NewCertPool(), dir: t.TempDir(), authority: authority}
	ca.Pool.AppendCertsFromPEM(authority.PEM)
	ca.File = ca.write(t, "ca.crt", authority.PEM)
	return ca
}

// Issue makes a certificate for hosts, which are names and IP addresses. The
// certificate is valid for servers and clients. Issue returns it with the paths of its
// certificate and key files, whose names begin with name.
func (ca *CA) Issue(t testing.TB, name string, hosts ...string) (cert tls.Certificate, certFile, keyFile string) {
	t.Helper()
	certPEM, keyPEM, err := ca.authority.Issue(name, hosts...)
	if err == nil {
		cert, err = tls.X509KeyPair(certPEM, keyPEM)
	}
	if err != nil {
		t.Fatal(err)
	}
	return cert, ca.write(t, name+".cert", certPEM), ca.write(t, name+".key", keyPEM)
}

// write writes a file and returns its path.
func (ca *CA) write(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(ca.dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
