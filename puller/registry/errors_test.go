package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pullkit/pullkit/puller/content"
)

func TestErrorsOfTLSAreRecognized(t *testing.T) {
	for _, err := range []error{
		tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"},
		&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}},
		x509.HostnameError{Certificate: &x509.Certificate{}, Host: "a"},
		&net.OpError{Op: "remote error", Err: errors.New("tls: bad certificate")},
		errors.New("tls: server selected unsupported protocol version 301"),
	} {
		assert.True(t, isTLS(fmt.Errorf("dial: %w", err)) || isTLS(err), "%v", err)
	}
	for _, err := range []error{nil, errors.New("EOF"), &net.OpError{Op: "read", Err: errors.New("connection reset by peer")}} {
		assert.False(t, isTLS(err), "%v", err)
	}
}

func TestEachStatusHasItsReason(t *testing.T) {
	for status, want := range map[int]content.Reason{
		400: content.ErrStatus, 402: content.ErrStatus, 405: content.ErrStatus, 406: content.ErrStatus, 409: content.ErrStatus,
		412: content.ErrStatus, 418: content.ErrStatus, 451: content.ErrStatus, 401: content.ErrUnauthorized, 403: content.ErrDenied, 404: content.ErrNotFound, 408: content.ErrUnavailable, 410: content.ErrNotFound,
		416: content.ErrRange, 429: content.ErrRateLimited, 499: content.ErrStatus, 500: content.ErrUnavailable, 503: content.ErrUnavailable, 304: content.ErrStatus,
	} {
		assert.Equal(t, want, reasonOfStatus(&statusError{status: status}), status)
		assert.Equal(t, status, fail(want, "r.example", &statusError{status: status}).Status)
	}
}
