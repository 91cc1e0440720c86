package credentials

import (
	"path"
	"strings"
)

// A pattern is a key, read once: a host with wildcards or without, a port, and a
// path that is a prefix.
type pattern struct {
	hostport string  // the host without wildcards, folded, with its port: what literal hosts are found by
	port     string  // "" if none
	labels   []label // of a host with wildcards; nil for one without
	path     string  // "" or from the first / on
	empty    bool    // the host is empty: nothing matches
	prefix   bool    // the path matches by byte prefix
}

// A target is the name of an image, read once.
type target struct {
	hostport string // folded, and Docker Hub's names made one
	host     string // as a pattern with wildcards sees it: without port and brackets
	labels   int
	port     string
	path     string
}

// Match reports whether key, as a config.json file or a matchImages list writes
// it but without scheme, matches the image's name, which is registry and
// repository as in [reference.Reference.Name].
//
//   - In the host *, ?, [a-z], [^x] and \c have the meaning of [path.Match]
//     within one label: none of them matches a dot, so both must have the same
//     number of labels. Hosts are compared without case.
//   - Ports must be equal, also in that there is none, and have no wildcards.
//   - An IPv6 address in brackets is compared as text.
//   - The path matches the same path and all below it: registry.io/team matches
//     registry.io/team/app, not registry.io/team-b. It has no wildcards. With a
//     slash at its end it matches only what is below.
//   - docker.io, index.docker.io and registry-1.docker.io are one host, where the
//     key has no wildcard in its host.
//
// The error, a [*KeyError], says why key or name is malformed; there is no match
// then.
func Match(key, name string) (bool, error) { return Rules{}.Match(key, name) }

// Match is [Match] under the rules r.
func (r Rules) Match(key, name string) (bool, error) {
	p, err := r.compile(key)
	if err != nil {
		return false, &KeyError{Key: redactKey(key), Err: err}
	}
	t, err := r.target(name)
	if err != nil {
		return false, &KeyError{Key: redactKey(name), Err: err}
	}
	return p.match(t) == matched, nil
}

// compile reads a key from which the scheme has been taken.
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

// A verdict says whether a pattern matches a target, or what keeps it from it.
type verdict string

const (
	matched       verdict = "matches"
	otherHost     verdict = "the host is another one"
	otherPort     verdict = "the port is another one"
	otherPath     verdict = "the image is not below the key's path"
	emptyHost     verdict = "the key has no host"
	hubFallback   verdict = "matches since no other key does, and the image is Docker Hub's"
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
