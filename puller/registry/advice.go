package registry

import (
	"crypto/tls"
	"errors"
)

// An advised error says as well what can be done about it.
type advised struct {
	err    error
	advice string
}

func (e *advised) Error() string { return e.err.Error() + "; " + e.advice }
func (e *advised) Unwrap() error { return e.err }

// advise adds what the configuration can do about a request to the host itself
// that got no answer.
func (ep *endpoint) advise(err error) error {
	switch {
	case !errors.As(err, new(tls.RecordHeaderError)):
		return err
	case ep.withURL:
		return &advised{err, "if it speaks plain http, write http:// in its URL"}
	}
	return &advised{err, "if it speaks plain http, list it in Client.PlainHTTP"}
}
