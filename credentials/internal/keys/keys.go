package keys

import (
	"errors"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// HubName is the name of Docker Hub in the names of images, and Podman's key for it.
const HubName = "docker.io"

const maxHost = 253

var (
	errHostLong    = errors.New("host is longer than 253 bytes")
	errHostChar    = errors.New("host holds a character that no host has")
	errHostColons  = errors.New("host holds more than one colon; an IPv6 address must be in brackets")
	errHostPort    = errors.New("port is not a number")
	errHostAddress = errors.New("brackets do not hold an IPv6 address")
	errKeyUserinfo = errors.New("holds an @: a key must not have a user name")
	errKeyFragment = errors.New("holds a #: a key must not have a fragment")
	errKeyControl  = errors.New("holds a control character")
)

// Normalize returns a key with the host in lower case, and without scheme, empty port, the
// /v1 or /v2 of an API's address, and a path that is only a slash.
func Normalize(key string) string {
	hostport, rest := CutPath(CutScheme(key))
	return strings.TrimSuffix(Fold(hostport), ":") + cutVersion(rest)
}

// CutScheme returns a key without http:// or https://, in any case.
func CutScheme(key string) string {
	for _, scheme := range []string{"https://", "http://"} {
		if len(key) >= len(scheme) && strings.EqualFold(key[:len(scheme)], scheme) {
			return key[len(scheme):]
		}
	}
	return key
}

func cutVersion(path string) string {
	if strings.HasPrefix(path, "/v1/") || strings.HasPrefix(path, "/v2/") {
		path = path[len("/v1"):]
	}
	if path == "/" {
		return ""
	}
	return path
}

// CutPath cuts s before the first slash.
func CutPath(s string) (hostport, rest string) {
	if i := strings.IndexByte(s, '/'); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// SplitHost returns the host and the port of s. It checks the characters of the host, which
// may have wildcards. port is "" if s has no port or an empty one.
func SplitHost(s string) (host, port string, err error) {
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
	case !IsDigits(port):
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
	if rest[0] != ':' || !IsDigits(rest[1:]) {
		return "", "", errHostPort
	}
	return host, rest[1:], nil
}

// IsIPv6 reports whether a host from SplitHost is a bracketed IPv6 address.
func IsIPv6(host string) bool {
	return strings.HasPrefix(host, "[") && strings.Contains(host, ":")
}

// IsAddress reports whether a host is an IP address.
func IsAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// IsDigest reports whether a key ends with an image's digest.
func IsDigest(key string) bool {
	_, digest, ok := strings.Cut(key, "@")
	algorithm, _, hasHex := strings.Cut(digest, ":")
	return ok && hasHex && (algorithm == "sha256" || algorithm == "sha512")
}

// HasMeta reports whether s has a character of the syntax of wildcards.
func HasMeta(s string) bool { return strings.ContainsAny(s, `*?[\`) }

// Fold returns a host in lower case. A host with a character outside of ASCII is not
// changed, because the lower case of some of these characters is in ASCII: that of the
// Kelvin sign is k. Such a host is refused later.
func Fold(s string) string {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return s
		}
	}
	return strings.ToLower(s)
}

// LiteralHost returns a host and its port in the form in which hosts without wildcards are
// compared: in lower case, without an empty port, and with docker.io in place of the other
// names of Docker Hub. These names with a port are not changed.
func LiteralHost(hostport string) string {
	hostport = strings.TrimSuffix(Fold(hostport), ":")
	if hostport == "index.docker.io" || hostport == "registry-1.docker.io" {
		return HubName
	}
	return hostport
}

// IsControl reports whether r is a control character of ASCII.
func IsControl(r rune) bool { return r < 0x20 || r == 0x7f }

// IsDigits reports whether s has only digits, or is empty.
func IsDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// IsAlnum reports whether c is a letter or a digit of ASCII.
func IsAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// IsAlnumRune reports whether r is a letter or a digit of ASCII.
func IsAlnumRune(r rune) bool { return r < utf8.RuneSelf && IsAlnum(byte(r)) }
