package keys

import "strings"

// A Pattern is a key that was read: a host with or without wildcards, a port, and a path.
type Pattern struct {
	HostPort string // for a host without wildcards: the folded host with its port; else ""
	Port     string // "" if the key has none
	Path     string // "", or from the first / on
	Empty    bool   // the host is empty, so that the key matches nothing
	Prefix   bool   // the path matches by byte prefix

	labels []label // the parts of a host with wildcards; nil for a host without
}

// Labels returns the number of the parts of a host with wildcards; 0 for a host without.
func (p Pattern) Labels() int { return len(p.labels) }

// A Name is the name of an image that was read.
type Name struct {
	HostPort string // folded, with one name for all names of Docker Hub
	Port     string
	Path     string
	Labels   int // the number of the host's parts

	host string // for patterns with wildcards: without port and brackets
}

// Compile reads a key without a scheme. The error says what is malformed, and does not
// quote the key.
func Compile(key string) (Pattern, error) {
	switch {
	case strings.ContainsFunc(key, IsControl):
		return Pattern{}, errKeyControl
	case strings.Contains(key, "@"):
		return Pattern{}, errKeyUserinfo
	case strings.Contains(key, "#"):
		return Pattern{}, errKeyFragment
	}
	hostport, rest := CutPath(key)
	host, port, err := SplitHost(hostport)
	if err != nil {
		return Pattern{}, err
	}
	p := Pattern{Port: port, Path: rest, Empty: host == ""}
	host = Fold(host)
	if !HasMeta(host) || IsIPv6(host) {
		p.HostPort = LiteralHost(hostport)
		return p, nil
	}
	for text := range strings.SplitSeq(host, ".") {
		l, err := compileLabel(text)
		if err != nil {
			return Pattern{}, err
		}
		p.labels = append(p.labels, l)
	}
	return p, nil
}

// ParseName reads the name of an image: registry and repository.
func ParseName(name string) (Name, error) {
	hostport, rest := CutPath(name)
	host, port, err := SplitHost(hostport)
	if err != nil {
		return Name{}, err
	}
	if strings.ContainsFunc(host, IsControl) || strings.ContainsAny(host, "@#") {
		return Name{}, errHostChar
	}
	host = Fold(host)
	n := Name{HostPort: LiteralHost(hostport), Port: port, Path: rest}
	if IsIPv6(host) {
		n.host, n.Labels = host[1:len(host)-1], 1
	} else {
		n.host, n.Labels = host, strings.Count(host, ".")+1
	}
	return n, nil
}

// A Result says whether a pattern matches a name, or why it does not.
type Result string

// The results.
const (
	Matched   Result = "matches"
	OtherHost Result = "the host is another one"
	OtherPort Result = "the port is another one"
	OtherPath Result = "the image is not below the key's path"
	EmptyHost Result = "the key has no host"
)

// Match reports whether p matches an image's name.
func (p Pattern) Match(n Name) Result {
	switch {
	case p.Empty:
		return EmptyHost
	case p.Port != n.Port:
		if !p.matchHostWithoutPort(n) {
			return OtherHost
		}
		return OtherPort
	case !p.matchHost(n):
		return OtherHost
	case !p.matchPath(n.Path):
		return OtherPath
	}
	return Matched
}

func (p Pattern) matchPath(s string) bool {
	rest, ok := strings.CutPrefix(s, p.Path)
	return ok && (p.Prefix || p.Path == "" || rest == "" || rest[0] == '/' || strings.HasSuffix(p.Path, "/"))
}

// matchHostWithoutPort is matchHost for a name with another port. It only decides which
// reason is given.
func (p Pattern) matchHostWithoutPort(n Name) bool {
	p.HostPort = LiteralHost(strings.TrimSuffix(p.HostPort, ":"+p.Port))
	n.HostPort = LiteralHost(strings.TrimSuffix(n.HostPort, ":"+n.Port))
	return p.matchHost(n)
}

func (p Pattern) matchHost(n Name) bool {
	if p.labels == nil {
		return p.HostPort == n.HostPort
	}
	if len(p.labels) != n.Labels {
		return false
	}
	rest := n.host
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
