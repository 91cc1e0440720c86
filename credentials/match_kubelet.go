package credentials

import (
	"net"
	"net/url"
	"strings"
)

// compileKubelet reads a key as the kubelet does: as a URL without scheme. What
// net/url makes of a wildcard but * is part of its rules (?, which starts a
// query, cuts the host).
func compileKubelet(key string) (pattern, error) {
	host, port, rest, err := splitURL(key)
	if err != nil {
		return pattern{}, err
	}
	p := pattern{port: port, path: rest, prefix: true}
	if !hasMeta(host) {
		p.hostport = joinPort(host, port)
		return p, nil
	}
	for text := range strings.SplitSeq(host, ".") {
		p.labels = append(p.labels, label{text: text, kind: labelKubelet})
	}
	return p, nil
}

func targetKubelet(name string) (target, error) {
	host, port, rest, err := splitURL(name)
	if err != nil {
		return target{}, err
	}
	return target{
		hostport: joinPort(host, port), host: host, port: port, path: rest,
		labels: strings.Count(host, ".") + 1,
	}, nil
}

func joinPort(host, port string) string {
	if port == "" {
		return host
	}
	return host + ":" + port
}

// parseURL is url.Parse of Go 1.26, which the kubelet is built with: what it says
// of a second colon in the host depends on a setting of the program.
func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || !strings.HasPrefix(u.Host, "[") && strings.Count(u.Host, ":") > 1 {
		return nil, errNoURL // not the error itself: it quotes all of s
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

// normalizeKubelet makes the key of an entry what candidates are ordered by.
func normalizeKubelet(key string) (string, error) {
	if !strings.HasPrefix(key, "https://") && !strings.HasPrefix(key, "http://") {
		key = "https://" + key
	}
	u, err := parseURL(key)
	if err != nil {
		return "", err
	}
	return u.Host + cutVersion(u.Path), nil
}

// kubeletHub reports whether the kubelet takes an image's name for one of Docker
// Hub's when it looks for its login as a last resort: also localhost/x is.
func kubeletHub(name string) bool {
	first, _, more := strings.Cut(name, "/")
	switch {
	case first == "":
		return false
	case !more, first == "docker.io", first == "index.docker.io":
		return true
	}
	return !strings.ContainsAny(first, ".:")
}
