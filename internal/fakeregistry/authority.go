package fakeregistry

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"time"
)

// An Authority is a certificate authority for tests. Its certificates are valid for 30
// days. NewAuthority makes one.
type Authority struct {
	PEM []byte // its certificate

	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes an authority with a key of its own.
func NewAuthority() (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	root := &x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := sign(root, root, key, key)
	if err != nil {
		return nil, err
	}
	a := &Authority{PEM: pemOf("CERTIFICATE", der), key: key}
	a.cert, err = x509.ParseCertificate(der)
	return a, err
}

// Issue makes a certificate for hosts, which are names and IP addresses. It is valid for
// servers and clients. Issue returns the certificate and its key as PEM.
func (a *Authority) Issue(name string, hosts ...string) (cert, key []byte, err error) {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := sign(template, a.cert, private, a.key)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pemOf("CERTIFICATE", der), pemOf("PRIVATE KEY", keyDER), nil
}

// ServerCertificate makes an authority, and a certificate from it for host[:port],
// localhost, 127.0.0.1 and ::1. ca is the authority's certificate as PEM.
func ServerCertificate(host string) (cert tls.Certificate, ca []byte, err error) {
	a, err := NewAuthority()
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	hosts := []string{"localhost", "127.0.0.1", "::1"}
	if host != "" {
		hosts = append(hosts, host)
	}
	certPEM, keyPEM, err := a.Issue("registry", hosts...)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	cert, err = tls.X509KeyPair(certPEM, keyPEM)
	return cert, a.PEM, err
}

// sign makes a certificate for key, which by signs.
func sign(template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template.SerialNumber = serial
	template.NotBefore = now.Add(-time.Hour)
	template.NotAfter = now.Add(30 * 24 * time.Hour)
	return x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
