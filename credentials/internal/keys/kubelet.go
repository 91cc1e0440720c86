package keys

import (
	"errors"
	"net"
	"net/url"
	"strings"
)

// ErrNoURL is the error of a key or name that net/url cannot read.
var ErrNoURL = errors.New("cannot be read as a URL")

// CompileKubelet reads a key as the kubelet does: as a URL without scheme. The kubelet's
// rules include how net/url reads the wildcards other than *. For example, a ? starts a
// query, and so ends the host.
func CompileKubelet(key string) (Pattern, error) {
	host, port, rest, err := splitURL(key)
	if err != nil {
		return Pattern{}, err
	}
	p := Pattern{Port: port, Path: rest, Prefix: true}
	if !HasMeta(host) {
		p.HostPort = joinPort(host, port)
		return p, nil
	}
	for text := range strings.SplitSeq(host, ".") {
		p.labels = append(p.labels, label{text: text, kind: labelKubelet})
	}
	return p, nil
}

// ParseNameKubelet reads the name of an image as the kubelet does.
func ParseNameKubelet(name string) (Name, error) {
	host, port, rest, err := splitURL(name)
	if err != nil {
		return Name{}, err
	}
	return Name{
		HostPort: joinPort(host, port), host: host, Port: port, Path: rest,
		Labels: strings.Count(host, ".") + 1,
	}, nil
}

func joinPort(host, port string) string {
	if port == "" {
		return host
	}
	return host + ":" + port
}

// parseURL parses a URL as url.Parse of Go 1.26, with which the kubelet is built. It
// always refuses a second colon in the host; url.Parse does so depending on a setting of
// the program.
func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || !strings.HasPrefix(u.Host, "[") && strings.Count(u.Host, ":") > 1 {
		return nil, ErrNoURL // not the error itself: it quotes all of s
	}
	return u, nil
}

func splitURL(s string) (host, port, path string, err error) {
	u, err := parseURL("https://" + s)
	if err != nil {
		return "", "", "", err
	}
	host, port, err = net.SplitHostPort(u.Host)
	if err != nil {
		host, port = u.Host, ""
	}
	return host, port, u.Path, nil
}

// NormalizeKubelet returns the text by which the kubelet orders the entry of a key.
func NormalizeKubelet(key string) (string, error) {
	if !strings.HasPrefix(key, "https://") && !strings.HasPrefix(key, "http://") {
		key = "https://" + key
	}
	u, err := parseURL(key)
	if err != nil {
		return "", err
	}
	return u.Host + cutVersion(u.Path), nil
}

// HubFallbackKubelet reports whether the kubelet falls back to the login of Docker Hub
// for an image. The kubelet also does so for localhost/x.
func HubFallbackKubelet(name string) bool {
	first, _, more := strings.Cut(name, "/")
	switch {
	case first == "":
		return false
	case !more, first == "docker.io", first == "index.docker.io":
		return true
	}
	return !strings.ContainsAny(first, ".:")
}
