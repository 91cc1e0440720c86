package diagnose

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pullkit/pullkit/credentials/internal/keys"
)

// bareIPv6 returns a key whose host is an IPv6 address without brackets, with brackets and
// without the name of a network interface; "" for other keys.
func bareIPv6(key string) string {
	host, path := keys.CutPath(keys.CutScheme(key))
	address, err := netip.ParseAddr(host)
	if err != nil || !address.Is6() {
		return ""
	}
	return "[" + address.WithZone("").String() + "]" + path
}

// hasHiddenPort reports whether the hidden part of a key is in the place of a port.
func hasHiddenPort(key string) bool {
	hostport, path := keys.CutPath(keys.CutScheme(key))
	host, _, _ := strings.Cut(hostport, ":")
	return hostport == host+":"+keys.Hidden && isRegistry(host) && !strings.Contains(path, keys.Hidden)
}

// charName returns the name of a character of a key for an error.
func charName(r rune) string {
	switch {
	case r == ',':
		return "a comma"
	case r == ';':
		return "a semicolon"
	case isStray(r):
		return runeName(r)
	}
	return quote(string(r))
}

// hasScheme reports whether a key begins with http:// or https://.
func hasScheme(key string) bool { return len(keys.CutScheme(key)) < len(key) }

// isHubSite reports whether a host belongs to Docker and is not a registry. Users take
// such a host for the registry of Docker Hub.
func isHubSite(host string) bool {
	if keys.HasMeta(host) || keys.LiteralHost(host) == keys.HubName {
		return false
	}
	return host == "docker.com" || strings.HasSuffix(host, ".docker.com") || strings.HasSuffix(host, ".docker.io")
}

// isRegistry reports whether an image's name can begin with a host. In a name, a part
// without a dot and without a port is the first part of a repository of Docker Hub.
func isRegistry(host string) bool {
	return strings.ContainsAny(host, `.:[*?\`) || host == "localhost"
}

// hostAdvice says why no registry can have the host of a key, and what the user can
// write. found is "" if a registry can have the host.
func hostAdvice(hostport string) (found string, meant []string) {
	host, port, err := keys.SplitHost(hostport)
	if err != nil || keys.IsIPv6(host) {
		return "", nil
	}
	behind := hostport[len(host):]
	write := func(good string) (string, []string) {
		return writeAs(good + behind), []string{good + behind}
	}
	if path := slashes(host); path != host {
		return "the key has a backslash where a path has a slash" + writeAs(path), []string{path}
	}
	if i := strings.IndexFunc(outsideClasses(host), func(r rune) bool {
		return !keys.IsAlnumRune(r) && !strings.ContainsRune(`.-_*?\`, r)
	}); i >= 0 {
		c, _ := utf8.DecodeRuneInString(outsideClasses(host)[i:])
		found = "the key holds " + charName(c) + ", which no registry's name has"
		good := strings.TrimFunc(host, func(r rune) bool { return !keys.IsAlnumRune(r) })
		if strings.Contains(good, ".") && !strings.ContainsFunc(good, func(r rune) bool { return !keys.IsAlnumRune(r) && r != '.' && r != '-' }) {
			what, meant := write(good)
			return found + what, meant
		}
		return found, []string{host[:strings.IndexRune(host, c)]}
	}
	labels := strings.Split(host, ".")
	switch {
	case strings.HasPrefix(host, ".") && strings.Trim(host, ".") != "":
		good := strings.TrimLeft(host, ".") + behind
		return "the key's host begins with a dot: write " + quote("*."+good) + " for the hosts one part below it", []string{"*." + good, good}
	case strings.HasSuffix(host, ".") && len(labels) > 1 && strings.Trim(host, ".") != "":
		what, meant := write(strings.TrimRight(host, "."))
		return "the key's host ends with a dot, which no registry's name does" + what, meant
	case slices.Contains(labels, "") && strings.Trim(host, ".") != "":
		what, meant := write(strings.Join(slices.DeleteFunc(labels, func(l string) bool { return l == "" }), "."))
		return "the key's host has an empty part between dots" + what, meant
	case strings.Trim(host, ".") == "":
		return "the key's host has only dots", nil
	case strings.Contains(outsideClasses(host), "_"):
		return "the key's host has an underscore, which no registry's name has", []string{hostport}
	case slices.ContainsFunc(labels, func(l string) bool { return strings.HasPrefix(l, "-") || strings.HasSuffix(l, "-") }):
		return "the key's host has a part that begins or ends with a dash, which no registry's name has", nil
	}
	switch {
	case isNumeric(host) && !keys.IsAddress(host):
		return "the key's host has only numbers and is not an IP address", []string{hostport}
	case slices.ContainsFunc(labels, func(l string) bool { return len(l) > keys.MaxLabel }):
		return fmt.Sprintf("the key's host has a part of more than %d letters, which no registry's name has", keys.MaxLabel), nil
	case len(port) > 1 && port[0] == '0' && strings.Trim(port, "0") != "":
		good := host + ":" + strings.TrimLeft(port, "0")
		return "the key's port begins with a zero, which no image's port does" + writeAs(good), []string{good}
	}
	if port != "" {
		if n, err := strconv.Atoi(port); err != nil || n == 0 || n > 65535 {
			return "the key's port is not one that a server can have", nil
		}
	}
	return "", nil
}

// slashes returns a host with slashes in place of its backslashes, if these are probably
// not escapes: a letter needs no escape.
func slashes(host string) string {
	i := strings.IndexByte(host, '\\')
	if i < 0 || i+1 == len(host) || !keys.IsAlnum(host[i+1]) && host[i+1] != '\\' {
		return host
	}
	return strings.ReplaceAll(strings.ReplaceAll(host, `\\`, "/"), `\`, "/")
}

func isNumeric(host string) bool { return host != "" && strings.Trim(host, "0123456789.") == "" }

// outsideClasses returns a host without its classes, such as [a-z].
func outsideClasses(host string) string {
	for {
		start := strings.IndexByte(host, '[')
		if start < 0 {
			return host
		}
		end := strings.IndexByte(host[start:], ']')
		if end < 0 {
			return host[:start]
		}
		host = host[:start] + host[start+end+1:]
	}
}

// isAPIPath reports whether the path of a key is that of a request to a registry or to its
// token server, and probably not that of a repository.
func isAPIPath(path string) bool {
	path = strings.TrimSuffix(path, "/")
	switch path {
	case "/token", "/service/token", "/oauth2/token", "/jwt/auth":
		return true
	}
	if strings.HasPrefix(path, "/api/docker/") {
		return true
	}
	if rest, ok := strings.CutPrefix(path, "/api/v"); ok && rest != "" && keys.IsDigits(rest[:1]) {
		return true
	}
	rest, v1 := strings.CutPrefix(path, "/v1/")
	if !v1 {
		var v2 bool
		if rest, v2 = strings.CutPrefix(path, "/v2/"); !v2 {
			return false
		}
	}
	first, _, _ := strings.Cut(rest, "/")
	switch first {
	case "_catalog", "_ping", "users", "repositories", "search", "images", "token", "auth":
		return true
	}
	for _, part := range []string{"/manifests/", "/blobs/", "/tags/list/", "/referrers/"} {
		if strings.Contains(rest+"/", part) {
			return true
		}
	}
	return false
}

// oddPath says why no repository is at or below the path of a key; "" if a repository may
// be there. prefix says that the path matches by byte prefix, so that its last part may
// be the beginning of a part of a repository's name.
func oddPath(host, path string, prefix bool) string {
	if path == "" {
		return ""
	}
	good := host // the part of the key that is right
	parts := strings.Split(strings.TrimSuffix(path[1:], "/"), "/")
	for i, part := range parts {
		write := "; write " + quote(good) + ", which matches all below it"
		partial := prefix && i == len(parts)-1 && !strings.HasSuffix(path, "/")
		switch {
		case keys.HasMeta(part):
			return "a " + part[strings.IndexAny(part, `*?[\`):][:1] + " in a key's path is not a wildcard" + write
		case part == "":
			return "the key has an empty part between slashes" + write
		case strings.ContainsAny(part, ":@"):
			name := part[:strings.IndexAny(part, ":@")]
			if whole := good + "/" + name; i == len(parts)-1 && isGoodKey(whole) {
				good = whole
			}
			return "a key has no tag and no digest; write " + quote(good) + ", which matches all below it"
		case !isRepositoryPart(strings.ToLower(part), partial):
			return "the key's path has a part that no repository has" + write
		case strings.ToLower(part) != part:
			return "the key's path has a capital letter, which no repository has"
		}
		good += "/" + part
	}
	return ""
}

// isRepositoryPart reports whether s can be between the slashes of a repository's name:
// letters and digits, with one dot, one or two underscores, or dashes between them. If
// partial is true, s may be the beginning of such a part.
func isRepositoryPart(s string, partial bool) bool {
	rest := s
	for rest != "" {
		word := strings.TrimLeftFunc(rest, keys.IsAlnumRune)
		if len(word) == len(rest) {
			return false
		}
		rest = strings.TrimLeft(word, "._-")
		switch separator := word[:len(word)-len(rest)]; {
		case separator == "" && rest != "": // another character
			return false
		case separator != "" && rest == "" && !partial:
			return false
		case separator != "." && separator != "_" && separator != "__" && strings.Trim(separator, "-") != "":
			return false
		}
	}
	return s != ""
}
