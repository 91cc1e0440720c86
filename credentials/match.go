package credentials

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gobwas/glob"
)

// Rules say how keys are read, and in which order candidates come. The caller passes them to
// the function that reads a source: see [ReadFile], [FromSecrets] and [ProviderConfig]. The
// zero Rules are those of this package, which [Match] describes.
type Rules struct {
	// Kubelet means the rules of the kubelet (of Kubernetes 1.36 to 1.38 beta), with their
	// shortcomings. They differ from the rules of this package as follows:
	//   - the path of a key matches by byte prefix, so that the password of
	//     registry.io/team is also sent to registry.io/team-b;
	//   - only * is a wildcard in the host; a key with another wildcard is left out
	//     or cut off, as net/url cuts it;
	//   - hosts are compared with case, and a bracketed IPv6 address matches only with a
	//     port;
	//   - the key index.docker.io counts only if no other key matches;
	//   - an entry without a credential is a candidate;
	//   - identity tokens, registry tokens and the names of helpers are not read;
	//   - the same credential is tried again;
	//   - a document that begins with a byte order mark is malformed;
	//   - all plugins are asked before the first candidate of any of them is
	//     tried, and the keys of all answers are ordered together.
	// There is one exception: the kubelet refuses a whole document because of one malformed
	// entry. Here only the entry is left out, and Problems lists it.
	Kubelet bool
}

// A pattern is a key that was read: a host with or without wildcards, a port, and a path.
type pattern struct {
	hostport string  // for a host without wildcards: the folded host with its port
	port     string  // "" if the key has none
	labels   []label // the parts of a host with wildcards; nil for a host without
	path     string  // "", or from the first / on
	empty    bool    // the host is empty, so that the key matches nothing
	prefix   bool    // the path matches by byte prefix
}

// A target is the name of an image that was read.
type target struct {
	hostport string // folded, with one name for all names of Docker Hub
	host     string // for patterns with wildcards: without port and brackets
	labels   int    // the number of the host's parts
	port     string
	path     string
}

// Match reports whether a key matches the name of an image. The key is one of a config.json
// file, but without a scheme, or one of a matchImages list. The name is registry and
// repository, as [reference.Reference.Name] returns them. These are the rules:
//
//   - In the host *, ?, [a-z], [^x] and \c have the meaning of [path.Match], but match
//     only within one part between dots. So both hosts must have the same number of
//     parts. Case does not matter in hosts.
//   - Both must have the same port, or both must have none. A port has no wildcards.
//   - An IPv6 address in brackets is compared as text.
//   - A path matches the same path and all paths below it: registry.io/team matches
//     registry.io/team/app, and not registry.io/team-b. A path with a slash at its end
//     matches only the paths below it. A path has no wildcards.
//   - docker.io, index.docker.io and registry-1.docker.io are the same host, unless the
//     host of the key has a wildcard.
//
// The rules are those of the kubelet, without the shortcomings that [Rules] lists. The
// error is a [*KeyError], and says why key or name is malformed; Match returns false then.
func Match(key, name string, rules Rules) (bool, error) {
	p, err := rules.compile(key)
	if err != nil {
		return false, &KeyError{Key: redactKey(key), Err: err}
	}
	t, err := rules.target(name)
	if err != nil {
		return false, &KeyError{Key: redactKey(name), Err: err}
	}
	return p.match(t) == matched, nil
}

// compile reads a key without a scheme.
func (r Rules) compile(key string) (pattern, error) {
	if r.Kubelet {
		return compileKubelet(key)
	}
	return compileKey(key)
}

// target reads the name of an image.
func (r Rules) target(name string) (target, error) {
	if r.Kubelet {
		return targetKubelet(name)
	}
	return targetName(name)
}

func compileKey(key string) (pattern, error) {
	switch {
	case strings.ContainsFunc(key, isControl):
		return pattern{}, errKeyControl
	case strings.Contains(key, "@"):
		return pattern{}, errKeyUserinfo
	case strings.Contains(key, "#"):
		return pattern{}, errKeyFragment
	}
	hostport, rest := cutPath(key)
	host, port, err := splitHost(hostport)
	if err != nil {
		return pattern{}, err
	}
	p := pattern{port: port, path: rest, empty: host == ""}
	host = fold(host)
	if !hasMeta(host) || isIPv6(host) {
		p.hostport = literalHost(hostport)
		return p, nil
	}
	for text := range strings.SplitSeq(host, ".") {
		l, err := compileLabel(text)
		if err != nil {
			return pattern{}, err
		}
		p.labels = append(p.labels, l)
	}
	return p, nil
}

func targetName(name string) (target, error) {
	hostport, rest := cutPath(name)
	host, port, err := splitHost(hostport)
	if err != nil {
		return target{}, err
	}
	if strings.ContainsFunc(host, isControl) || strings.ContainsAny(host, "@#") {
		return target{}, errHostChar
	}
	host = fold(host)
	t := target{hostport: literalHost(hostport), port: port, path: rest}
	if isIPv6(host) {
		t.host, t.labels = host[1:len(host)-1], 1
	} else {
		t.host, t.labels = host, strings.Count(host, ".")+1
	}
	return t, nil
}

// A verdict says whether a pattern matches a target, or why it does not.
type verdict string

const (
	matched       verdict = "matches"
	otherHost     verdict = "the host is another one"
	otherPort     verdict = "the port is another one"
	otherPath     verdict = "the image is not below the key's path"
	emptyHost     verdict = "the key has no host"
	hubFallback   verdict = "matches because no other key does, and the image is Docker Hub's"
	repeated      verdict = "matches, but the same credential comes before it"
	superseded    verdict = "matches, but a Secret of the Pod's namespace holds the same credential"
	malformedName verdict = "the image's name is malformed"
)

func (p pattern) match(t target) verdict {
	switch {
	case p.empty:
		return emptyHost
	case p.port != t.port:
		return otherPort
	case !p.matchHost(t):
		return otherHost
	case !p.matchPath(t.path):
		return otherPath
	}
	return matched
}

func (p pattern) matchPath(s string) bool {
	rest, ok := strings.CutPrefix(s, p.path)
	return ok && (p.prefix || p.path == "" || rest == "" || rest[0] == '/' || strings.HasSuffix(p.path, "/"))
}

func (p pattern) matchHost(t target) bool {
	if p.labels == nil {
		return p.hostport == t.hostport
	}
	if len(p.labels) != t.labels {
		return false
	}
	rest := t.host
	for i, l := range p.labels {
		part := rest
		if i < len(p.labels)-1 { // the last one takes the rest: an IPv6 address is one label
			part, rest, _ = strings.Cut(rest, ".")
		}
		if !l.matches(part) {
			return false
		}
	}
	return true
}

func (l label) matches(s string) bool {
	switch l.kind {
	case labelAny:
		return true
	case labelNever:
		return false
	case labelGlob:
		return l.match.Match(s)
	case labelKubelet:
		ok, _ := path.Match(l.text, s)
		return ok
	}
	return l.text == s
}

var errNoURL = errors.New("cannot be read as a URL")

// A KeyError says that a key, or the name of an image, is malformed.
type KeyError struct {
	Key string // the key or name, without parts that may be a secret
	Err error  // what is malformed
}

// Error returns a text that says which key is malformed, and why.
func (e *KeyError) Error() string { return fmt.Sprintf("key %s: %v", quote(e.Key), e.Err) }

// Unwrap returns e.Err.
func (e *KeyError) Unwrap() error { return e.Err }

// normalize returns the text by which the entry of a key is ordered.
func (r Rules) normalize(key string) (string, error) {
	if r.Kubelet {
		return normalizeKubelet(key)
	}
	return normalize(key), nil
}

// normalize returns a key with the host in lower case, and without scheme, empty port, the
// /v1 or /v2 of an API's address, and a path that is only a slash.
func normalize(key string) string {
	hostport, rest := cutPath(cutScheme(key))
	return strings.TrimSuffix(fold(hostport), ":") + cutVersion(rest)
}

func cutScheme(key string) string {
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

const maxHost = 253

// cutPath cuts s before the first slash.
func cutPath(s string) (hostport, rest string) {
	if i := strings.IndexByte(s, '/'); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// splitHost returns the host and the port of s. It checks the characters of the host, which
// may have wildcards. port is "" if s has no port or an empty one.
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

// isIPv6 reports whether a host from splitHost is a bracketed IPv6 address.
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

// fold returns a host in lower case. A host with a character outside of ASCII is not changed,
// because the lower case of some of these is in ASCII: that of the Kelvin sign is k. Such a
// host is refused later.
func fold(s string) string {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return s
		}
	}
	return strings.ToLower(s)
}

// literalHost returns a host and its port in the form in which hosts without wildcards are
// compared: in lower case, without an empty port, and with docker.io in place of the other
// names of Docker Hub. These names with a port are not changed.
func literalHost(hostport string) string {
	hostport = strings.TrimSuffix(fold(hostport), ":")
	if hostport == "index.docker.io" || hostport == "registry-1.docker.io" {
		return hubName
	}
	return hostport
}

// maxLabel is the number of bytes that a label with wildcards may have, because the time to
// compile a label grows faster than its length. It is also the limit of DNS.
const maxLabel = 63

// A label is one dot-separated part of a key's host.
type label struct {
	text  string        // as written, folded
	kind  labelKind     //
	match *glob.Pattern // of kind labelGlob
}

type labelKind uint8

const (
	labelLiteral labelKind = iota // without a wildcard
	labelAny                      // only *: each text matches
	labelNever                    // a class without characters: no text matches
	labelGlob                     // any other wildcards
	labelKubelet                  // path.Match of the text, as in the kubelet
)

func hasMeta(s string) bool { return strings.ContainsAny(s, `*?[\`) }

// compileLabel reads one label in the syntax of path.Match.
func compileLabel(s string) (label, error) {
	switch {
	case !hasMeta(s):
		return label{text: s}, nil
	case len(s) > maxLabel:
		return label{}, errLongLabel
	case strings.Trim(s, "*") == "":
		return label{text: s, kind: labelAny}, nil
	}
	pattern, never, err := translate(s)
	if err != nil {
		return label{}, err
	}
	if never {
		return label{text: s, kind: labelNever}, nil
	}
	compiled, err := glob.Compile(pattern)
	if err != nil {
		return label{}, errBadPattern
	}
	return label{text: s, kind: labelGlob, match: compiled}, nil
}

var (
	errBadPattern = errors.New("malformed wildcard pattern")
	errLongLabel  = errors.New("part with a wildcard is longer than 63 bytes")
)

// translate returns a pattern of gobwas/glob with the meaning of the path.Match pattern s.
// The two syntaxes differ in the negation of a class, the content of a class, the special
// characters outside of a class, and the meaning of **. So translate reads s by the grammar
// of path.Match, and writes only syntax that has the same meaning in both. never says that
// no text can match.
func translate(s string) (pattern string, never bool, err error) {
	var b strings.Builder
	for len(s) > 0 {
		switch s[0] {
		case '*':
			s = strings.TrimLeft(s, "*")
			b.WriteByte('*')
		case '?':
			s = s[1:]
			b.WriteByte('?')
		case '[':
			var class []runeRange
			if class, s, err = readClass(s[1:]); err != nil {
				return "", false, err
			}
			if len(class) == 0 {
				never = true // the rest is read too, because it may be malformed
			}
			writeClass(&b, class)
		default:
			var r rune
			if r, s, err = readChar(s, false); err != nil {
				return "", false, err
			}
			writeLiteral(&b, r)
		}
	}
	return b.String(), never, nil
}

type runeRange struct{ lo, hi rune }

// readClass reads a class; s begins behind its [. It returns the ranges of the class that
// are not empty, and the text behind its ].
func readClass(s string) (class []runeRange, rest string, err error) {
	s, negated := strings.CutPrefix(s, "^")
	for first := true; ; first = false {
		if !first && strings.HasPrefix(s, "]") {
			break
		}
		var r runeRange
		if r.lo, s, err = readChar(s, true); err != nil {
			return nil, "", err
		}
		r.hi = r.lo
		if behind, ok := strings.CutPrefix(s, "-"); ok {
			if r.hi, s, err = readChar(behind, true); err != nil {
				return nil, "", err
			}
		}
		if r.lo <= r.hi {
			class = append(class, r)
		}
	}
	if negated {
		class = complement(class)
	}
	return class, s[1:], nil
}

// readChar reads one character, escaped or not. In a class - and ] must be escaped, and more
// text must follow.
func readChar(s string, inClass bool) (r rune, rest string, err error) {
	if s == "" || inClass && (s[0] == '-' || s[0] == ']') {
		return 0, "", errBadPattern
	}
	s = strings.TrimPrefix(s, `\`)
	if s == "" {
		return 0, "", errBadPattern
	}
	r, size := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError && size == 1 || inClass && len(s) == size {
		return 0, "", errBadPattern
	}
	return r, s[size:], nil
}

func complement(class []runeRange) []runeRange {
	slices.SortFunc(class, func(a, b runeRange) int { return int(a.lo - b.lo) })
	var out []runeRange
	next := rune(0)
	for _, r := range class {
		if r.lo > next {
			out = append(out, runeRange{next, r.lo - 1})
		}
		next = max(next, r.hi+1)
	}
	if next <= utf8.MaxRune {
		out = append(out, runeRange{next, utf8.MaxRune})
	}
	return out
}

// writeClass writes a class for gobwas/glob: one range, or alternatives of several, because
// a class of gobwas/glob cannot have several ranges.
func writeClass(b *strings.Builder, class []runeRange) {
	var parts []runeRange
	for _, r := range class {
		if r.lo == '!' && r.hi > '!' { // a leading ! would negate
			parts = append(parts, runeRange{'!', '!'}, runeRange{'"', r.hi})
			continue
		}
		parts = append(parts, r)
	}
	if len(parts) > 1 {
		b.WriteByte('{')
		defer b.WriteByte('}')
	}
	for i, r := range parts {
		if i > 0 {
			b.WriteByte(',')
		}
		if r.lo == r.hi {
			writeLiteral(b, r.lo)
			continue
		}
		b.WriteByte('[') // the ends are written as they are: an escape is not understood there
		b.WriteRune(r.lo)
		b.WriteByte('-')
		b.WriteRune(r.hi)
		b.WriteByte(']')
	}
}

func writeLiteral(b *strings.Builder, r rune) {
	if r < utf8.RuneSelf && !isAlnum(byte(r)) {
		b.WriteByte('\\')
	}
	b.WriteRune(r)
}

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
