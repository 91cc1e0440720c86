package registry

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
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
	advice := ""
	var dns *net.DNSError
	switch {
	case errors.As(err, new(tls.RecordHeaderError)) && ep.withURL:
		advice = "if it speaks plain http, write http:// in its URL"
	case errors.As(err, new(tls.RecordHeaderError)):
		advice = "if it speaks plain http, list it in Client.PlainHTTP"
	case errors.As(err, &dns) && strings.EqualFold(dns.Name, ep.registry) && onlyByCase(ep.registry):
		advice = fmt.Sprintf("%.100q was taken for a registry because of its upper-case letter; if it is none, write the name in lower case", ep.registry)
	}
	if advice == "" {
		return err
	}
	return &advised{err, advice}
}

// onlyByCase reports whether nothing but an upper-case letter makes what stands
// before the first slash of a name a registry.
func onlyByCase(registry string) bool {
	return !strings.ContainsAny(registry, ".:") && !strings.EqualFold(registry, "localhost") && registry != strings.ToLower(registry)
}

// noSuchHost reports whether err is the answer that a name does not exist, and
// not that nobody could say.
func noSuchHost(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound && !dns.IsTemporary && !dns.IsTimeout
}
