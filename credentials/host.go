package credentials

import (
	"errors"
	"net/netip"
	"strings"
	"unicode/utf8"
)

var (
	errHostLong    = errors.New("host is longer than 253 bytes")
	errHostChar    = errors.New("host holds a character that no host has")
	errHostColons  = errors.New("host holds more than one colon; an IPv6 address stands in brackets")
	errHostPort    = errors.New("port is no number")
	errHostAddress = errors.New("brackets hold no IPv6 address")
	errKeyUserinfo = errors.New("holds an @: a key has no user name")
	errKeyFragment = errors.New("holds a #: a key has no fragment")
	errKeyControl  = errors.New("holds a control character")
)

const maxHost = 253

// cutPath cuts before the first slash.
func cutPath(s string) (hostport, rest string) {
	if i := strings.IndexByte(s, '/'); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// splitHost takes the port off and checks what a host may hold, wildcards and
// all. An empty port is none.
func splitHost(s string) (host, port string, err error) {
	if strings.HasPrefix(s, "[") {
		if end := strings.IndexByte(s, ']'); end >= 0 && strings.Contains(s[:end], ":") || end < 0 && strings.Contains(s, ":") {
			return splitIPv6(s)
		}
	}
	for i := range len(s) {
		if s[i] == ' ' || s[i] == '%' || s[i] >= 0x80 {
			return "", "", errHostChar
		}
	}
	host, port, _ = strings.Cut(s, ":")
	switch {
	case strings.Contains(port, ":"):
		return "", "", errHostColons
	case !isDigits(port):
		return "", "", errHostPort
	case len(host) > maxHost:
		return "", "", errHostLong
	}
	return host, port, nil
}

func splitIPv6(s string) (host, port string, err error) {
	end := strings.IndexByte(s, ']')
	if end < 0 {
		return "", "", errHostAddress
	}
	addr, err := netip.ParseAddr(s[1:end])
	if err != nil || !addr.Is6() || addr.Zone() != "" {
		return "", "", errHostAddress
	}
	host, rest := s[:end+1], s[end+1:]
	if rest == "" {
		return host, "", nil
	}
	if rest[0] != ':' || !isDigits(rest[1:]) {
		return "", "", errHostPort
	}
	return host, rest[1:], nil
}

// isIPv6 reports whether a host that splitHost let pass is a bracketed address.
func isIPv6(host string) bool {
	return strings.HasPrefix(host, "[") && strings.Contains(host, ":")
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// fold makes ASCII letters small. A host with others stays as it is, to be
// refused: the Kelvin sign must not become a k.
func fold(s string) string {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return s
		}
	}
	return strings.ToLower(s)
}

// literalHost is the host with its port as literal hosts are compared: small
// letters, no empty port, and Docker Hub's names made one. (With a port those are
// hosts like others.)
func literalHost(hostport string) string {
	hostport = strings.TrimSuffix(fold(hostport), ":")
	if hostport == "index.docker.io" || hostport == "registry-1.docker.io" {
		return hubName
	}
	return hostport
}
