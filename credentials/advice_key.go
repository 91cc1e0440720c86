package credentials

import (
	"strings"
	"unicode/utf8"
)

// keyAdvice says why a key that can be read is hardly the key that was meant, and
// what to write. p is the key as it was read; meant is a key for the images that
// are concerned. found is "" where the key may be right.
func keyAdvice(key string, p pattern) (found, meant string) {
	key = redactKey(key)
	host, path := cutPath(cutScheme(key))
	host = strings.TrimSuffix(fold(host), ":")
	first, _ := utf8.DecodeRuneInString(key)
	last, _ := utf8.DecodeLastRuneInString(key)
	switch {
	case key == "":
		return "the key is empty: write the registry's host", ""
	case isStray(last):
		return "the key ends with " + runeName(last), host
	case isStray(first):
		return "the key begins with " + runeName(first), normalize(strings.TrimFunc(key, isStray))
	case strings.Contains(cutScheme(key), "://"):
		rest := key[strings.LastIndex(key, "://")+len("://"):]
		host, _ := cutPath(rest)
		return "the key has a scheme that is not understood: write it without, as " + quote(host), host
	case host == "" || p.empty:
		host, _ := cutPath(strings.TrimLeft(key, "/"))
		return "the key has no host: write the registry's name first", host
	case isHubSite(host):
		return "the key's host is another name of Docker Hub's: its images' registry is called docker.io", hubName
	case !isRegistry(host):
		return "the key's host has no dot and no port, so no image's registry is called so", hubName
	case len(p.labels) == 1 && p.port == "" && host != "localhost":
		return "a * stands for one part of a host's name, so the key matches only hosts without a dot", host
	}
	if what := oddPath(host, p.path); what != "" {
		return what, host
	}
	if hasScheme(key) && (path == "/v1" || path == "/v2") {
		return "the key matches only repositories below " + path[1:] + "; for the whole host write it as " + quote(host), host
	}
	return "", ""
}

// hasScheme reports whether a key begins with http:// or https://.
func hasScheme(key string) bool { return len(cutScheme(key)) < len(key) }

// isHubSite reports whether a host is one under which people know Docker Hub, but
// which no image's name has.
func isHubSite(host string) bool {
	switch host {
	case "hub.docker.com", "registry.hub.docker.com", "www.docker.com", "docker.com", "index.docker.com":
		return true
	}
	return false
}

// isRegistry reports whether an image's name can begin with the host: what has no
// dot and no port is the first part of a repository on Docker Hub.
func isRegistry(host string) bool {
	return strings.ContainsAny(host, `.:[*?\`) || host == "localhost"
}

// oddPath says why a key's path is below no repository; "" if it may be one.
func oddPath(host, path string) string {
	if path == "" {
		return ""
	}
	good := host // what the key may be cut to
	parts := strings.Split(strings.TrimSuffix(path[1:], "/"), "/")
	for _, part := range parts {
		write := "; write " + quote(good) + ", which matches all below it"
		switch {
		case hasMeta(part):
			return "a " + part[strings.IndexAny(part, `*?[\`):][:1] + " in a key's path is a letter like others" + write
		case part == "":
			return "the key has an empty part between slashes" + write
		case strings.ContainsAny(part, ":@"):
			return "a key has no tag and no digest" + write
		case !isPathPart(part):
			return "the key's path has a part that no repository has" + write
		case strings.ToLower(part) != part:
			return "the key's path has a capital letter, which no repository has"
		}
		good += "/" + part
	}
	return ""
}

// isPathPart reports whether a part of a path holds only what a repository's may.
func isPathPart(s string) bool {
	if strings.Trim(s, ".") == "" {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}
