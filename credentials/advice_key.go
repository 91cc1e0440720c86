package credentials

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pullkit/pullkit/credentials/internal/keys"
)

// keyAdvice says why a key that can be read is hardly the key that was meant, and
// what to write. p is the key as it was read; meant are keys for the images that are
// concerned, which may be all if there are none. found is "" where the key may be right.
func keyAdvice(key string, p keys.Pattern) (found string, meant []string) {
	if found, meant = keyTextAdvice(key); found != "" {
		return found, meant
	}
	key = keys.Redact(key)
	hostport, path := keys.CutPath(keys.CutScheme(key))
	hostport = strings.TrimSuffix(keys.Fold(hostport), ":")
	switch {
	case hostport == "" || p.Empty:
		host, _ := keys.CutPath(strings.TrimLeft(key, "/"))
		return "the key has no host: write the registry's name first", []string{host}
	case isHubSite(hostport):
		return "the key's host is another name of Docker Hub's: its images' registry is called docker.io", []string{keys.HubName}
	}
	if found, meant = hostAdvice(hostport); found != "" {
		if i := strings.IndexByte(hostport, '\\'); i >= 0 && path != "" { // what is behind it belongs to the path
			found, _, _ = strings.Cut(found, ":")
		}
		return found, meant
	}
	switch {
	case !isRegistry(hostport):
		return "the key's host has no dot and no port, so no image's registry is called so", []string{keys.HubName}
	case p.Labels() == 1 && p.Port == "" && hostport != "localhost":
		return "a * stands for one part of a host's name, so the key matches only hosts without a dot", []string{hostport}
	}
	whole := "; for the whole host write it as " + quote(hostport)
	switch {
	case isAPIPath(path):
		return "the key's path is one of the registry's API, not a repository's" + whole, []string{hostport}
	case (hasScheme(key) || keys.LiteralHost(hostport) == keys.HubName) && (path == "/v1" || path == "/v2"):
		return "the key matches only repositories below " + path[1:] + whole, []string{hostport}
	}
	if what := oddPath(hostport, p.Path, p.Prefix); what != "" {
		return what, []string{hostport}
	}
	return "", nil
}

// keyTextAdvice is the part of keyAdvice that needs only the text of the key, so that
// it also serves for keys that cannot be read.
func keyTextAdvice(key string) (found string, meant []string) {
	key = keys.Redact(key)
	first, _ := utf8.DecodeRuneInString(key)
	last, _ := utf8.DecodeLastRuneInString(key)
	switch {
	case key == "":
		return "the key is empty: write the registry's host", nil
	case isTemplate(key):
		return "a template was left in the key", nil
	case strings.Contains(key, keys.Hidden) && !strings.Contains(key, "@") && !hasHiddenPort(key):
		return secretAdvice(key)
	case keys.IsDigest(key):
		name, _, _ := strings.Cut(keys.CutScheme(key), "@")
		return "a key has no tag and no digest" + writeAs(name), meantBy(name)
	case strings.ContainsAny(key, "{}"):
		return "the key has braces, which are no wildcard: write a key for each host", nil
	case len(key) > 1 && isQuotes(first, last):
		inside := strings.Trim(key, "\"'`“”„‘’‚«»")
		return "the key is in quotes, which are part of it" + writeAs(inside), []string{keys.Normalize(inside)}
	}
	if address := bareIPv6(key); address != "" {
		return "the key is an IPv6 address without brackets" + writeAs(address), meantBy(address)
	}
	if found, meant = listAdvice(key); found != "" {
		return found, meant
	}
	switch {
	case isStray(last):
		return "the key ends with " + runeName(last), []string{keys.Normalize(strings.TrimFunc(key, isStray))}
	case isStray(first):
		return "the key begins with " + runeName(first), []string{keys.Normalize(strings.TrimFunc(key, isStray))}
	}
	if scheme, rest := wrongScheme(key); scheme != "" {
		host, _ := keys.CutPath(rest)
		return "the key begins with " + quote(scheme) + ", which is " + notAScheme(scheme) + ": write it without, as " + quote(host), []string{host}
	}
	if strings.Contains(keys.CutScheme(key), "://") {
		host, _ := keys.CutPath(key[strings.LastIndex(key, "://")+len("://"):])
		return "the key has a scheme that is not understood: write it without, as " + quote(host), []string{host}
	}
	return "", nil
}

// writeAs is the advice to write a key in another way, where that key is right.
func writeAs(key string) string {
	if !isGoodKey(key) {
		return ""
	}
	return ": write it as " + quote(key)
}

// isGoodKey reports whether a key is that of a registry, or of a part of one, and nothing
// is to be said of it.
func isGoodKey(key string) bool {
	p, err := keys.Compile(keys.Normalize(key))
	if err != nil || keys.Redact(key) != key {
		return false
	}
	found, _ := keyAdvice(key, p)
	return found == ""
}

// meantBy is the key that a problem is about, if it can be read.
func meantBy(key string) []string { return []string{keys.Normalize(key)} }

// bareIPv6 returns an IPv6 address that is written without brackets, with them and
// without the name of a network interface; "" if a key is none.
func bareIPv6(key string) string {
	host, path := keys.CutPath(keys.CutScheme(key))
	address, err := netip.ParseAddr(host)
	if err != nil || !address.Is6() {
		return ""
	}
	return "[" + address.WithZone("").String() + "]" + path
}

// hasHiddenPort reports whether what is hidden of a key is in place of a registry's port.
func hasHiddenPort(key string) bool {
	hostport, path := keys.CutPath(keys.CutScheme(key))
	host, _, _ := strings.Cut(hostport, ":")
	return hostport == host+":"+keys.Hidden && isRegistry(host) && !strings.Contains(path, keys.Hidden)
}

// secretAdvice says that a part of a key may be a secret. key is without that part.
func secretAdvice(key string) (found string, meant []string) {
	host, _ := keys.CutPath(keys.CutScheme(key))
	if i := strings.IndexAny(host, "?#:= "); i >= 0 {
		host = host[:i]
	}
	found = "the key holds what looks like a secret, and it must be a registry's name alone"
	if strings.Contains(host, ".") && !strings.Contains(host, keys.Hidden) {
		return found + ": write it as " + quote(host), []string{host}
	}
	return found, nil
}

// isTemplate reports whether a key holds what a template or a shell left of it.
func isTemplate(key string) bool {
	if strings.Trim(key, "*") == "" { // a wildcard, not a masked secret
		return false
	}
	return isPlaceholder(key) && !(strings.HasPrefix(key, "<") && strings.Contains(key, "."))
}

// wrongScheme cuts off what a key begins with if that was meant as a scheme and is not
// written as one: https:/ or oci: for example. It returns "" for other keys.
func wrongScheme(key string) (scheme, rest string) {
	word := key
	if i := strings.IndexFunc(key, func(r rune) bool { return !isWord(string(r), "+-") }); i >= 0 {
		word = key[:i]
	}
	rest = strings.TrimLeft(key[len(word):], `:;/\`)
	separator := key[len(word) : len(key)-len(rest)]
	scheme = key[:len(word)+len(separator)]
	switch {
	case word == "" || separator == "" || rest == "" || separator == "://":
	case separator == ":" && keys.IsDigits(rest[:1]): // a port
	case strings.EqualFold(word, "http") || strings.EqualFold(word, "https"):
		return scheme, rest
	case strings.HasPrefix(separator, ":") && !strings.EqualFold(word, "localhost"):
		return scheme, rest
	}
	return "", ""
}

// notAScheme says what is wrong with what wrongScheme returned.
func notAScheme(scheme string) string {
	if strings.HasPrefix(strings.ToLower(scheme), "http") {
		return "not a scheme"
	}
	return "a scheme that is not understood"
}

// listAdvice says that a key holds several hosts, or what separates them.
func listAdvice(key string) (found string, meant []string) {
	inClass := false
	separator := rune(-1)
	parts := strings.FieldsFunc(key, func(r rune) bool {
		switch r {
		case '[':
			inClass = true
		case ']':
			inClass = false
		}
		if inClass || !strings.ContainsRune(",;| \t\r\n", r) {
			return false
		}
		if separator < 0 || isStray(separator) { // a comma says more than the space behind it
			separator = r
		}
		return true
	})
	_, atScheme := wrongScheme(key)
	switch {
	case separator < 0, atScheme != "" && len(parts) < 2, len(parts) < 2 && isStray(separator):
		return "", nil
	case atScheme != "" && separator == ';': // https;//host
		return "", nil
	}
	for _, part := range parts {
		host, path := keys.CutPath(keys.Normalize(part))
		meant = append(meant, host+path)
	}
	what := "the key holds " + charName(separator) + ", which no registry's name has"
	switch len(parts) {
	case 0:
		return what, nil
	case 1:
		return what + writeAs(parts[0]), meant
	}
	if whole := strings.Join(parts, ""); isStray(separator) && (strings.HasSuffix(parts[0], "/") || strings.HasPrefix(parts[1], "/")) {
		return what + writeAs(whole), append(meant, keys.Normalize(whole))
	}
	if !isGoodKey(parts[0]) {
		return what + ": write each host as a key of its own", meant
	}
	return what + ": write each host as a key of its own, as " + quote(parts[0]), meant
}

// charName names a character of a key for an error.
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

// isHubSite reports whether a host is one of Docker's, under which people know Docker Hub,
// but which no image's name has.
func isHubSite(host string) bool {
	if keys.HasMeta(host) || keys.LiteralHost(host) == keys.HubName {
		return false
	}
	return host == "docker.com" || strings.HasSuffix(host, ".docker.com") || strings.HasSuffix(host, ".docker.io")
}

// isRegistry reports whether an image's name can begin with the host: what has no
// dot and no port is the first part of a repository on Docker Hub.
func isRegistry(host string) bool {
	return strings.ContainsAny(host, `.:[*?\`) || host == "localhost"
}

// hostAdvice says why no image's registry is called as the host of a key says, and
// what to write. It is "" for a host that a registry can have.
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
		return !isAlnumRune(r) && !strings.ContainsRune(`.-_*?\`, r)
	}); i >= 0 {
		c, _ := utf8.DecodeRuneInString(outsideClasses(host)[i:])
		found = "the key holds " + charName(c) + ", which no registry's name has"
		good := strings.TrimFunc(host, func(r rune) bool { return !isAlnumRune(r) })
		if strings.Contains(good, ".") && !strings.ContainsFunc(good, func(r rune) bool { return !isAlnumRune(r) && r != '.' && r != '-' }) {
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
		return "the key's host has dots alone", nil
	case strings.Contains(outsideClasses(host), "_"):
		return "the key's host has an underscore, which no registry's name has", []string{hostport}
	case slices.ContainsFunc(labels, func(l string) bool { return strings.HasPrefix(l, "-") || strings.HasSuffix(l, "-") }):
		return "the key's host has a part that begins or ends with a dash, which no registry's name has", nil
	}
	switch {
	case isNumeric(host) && !keys.IsAddress(host):
		return "the key's host has numbers alone and is not an IP address", []string{hostport}
	case slices.ContainsFunc(labels, func(l string) bool { return len(l) > keys.MaxLabel }):
		return fmt.Sprintf("the key's host has a part of more than %d letters, which no registry's name has", keys.MaxLabel), nil
	case len(port) > 1 && port[0] == '0' && strings.Trim(port, "0") != "":
		good := host + ":" + strings.TrimLeft(port, "0")
		return "the key's port begins with a zero, and no image's does" + writeAs(good), []string{good}
	}
	if port != "" {
		if n, err := strconv.Atoi(port); err != nil || n == 0 || n > 65535 {
			return "the key's port is not one that a server can have", nil
		}
	}
	return "", nil
}

// slashes is a host with slashes in place of backslashes, if those hardly take the meaning
// from a wildcard: a letter needs none.
func slashes(host string) string {
	i := strings.IndexByte(host, '\\')
	if i < 0 || i+1 == len(host) || !keys.IsAlnum(host[i+1]) && host[i+1] != '\\' {
		return host
	}
	return strings.ReplaceAll(strings.ReplaceAll(host, `\\`, "/"), `\`, "/")
}

func isNumeric(host string) bool { return host != "" && strings.Trim(host, "0123456789.") == "" }

// usableKeyAdvice says what looks wrong with a key that matches images, though fewer than
// were hardly meant, or others. meant are keys for the images that are concerned.
func usableKeyAdvice(key string, p keys.Pattern) (found string, meant []string) {
	key = keys.Redact(key)
	hostport, path := keys.CutPath(keys.CutScheme(key))
	host, port, err := keys.SplitHost(keys.Fold(hostport))
	if err != nil {
		return "", nil
	}
	scheme := strings.ToLower(key[:len(key)-len(keys.CutScheme(key))])
	if scheme == "https://" && port == "443" || scheme == "http://" && port == "80" {
		return "the key matches only images whose name has the port " + port + " too; for those without it" + strings.TrimPrefix(writeAs(host), ":"), []string{host + p.Path}
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	i := strings.IndexAny(last, "*?")
	if letters := len(strings.TrimRight(last[:max(i, 0)], "*?")); i < 0 || letters < 2 || letters == len(host) || last[i] == '?' && i+1 == len(last) {
		return "", nil
	}
	good := host[:len(host)-len(last)+i]
	return "a " + last[i:i+1] + " at the end of a host stands for more letters of its last part" + writeAs(good+path), []string{good + path}
}

// outsideClasses is a host with its classes, such as [a-z], taken out.
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

func isAlnumRune(r rune) bool { return r < utf8.RuneSelf && keys.IsAlnum(byte(r)) }

// isAPIPath reports whether a key's path, as it is written, is that of a request to a
// registry or to its token server, and hardly that of a repository.
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

// oddPath says why a key's path is below no repository; "" if it may be one. With
// prefix, the last part may be the beginning of a repository's part.
func oddPath(host, path string, prefix bool) string {
	if path == "" {
		return ""
	}
	good := host // what the key may be cut to
	parts := strings.Split(strings.TrimSuffix(path[1:], "/"), "/")
	for i, part := range parts {
		write := "; write " + quote(good) + ", which matches all below it"
		begun := prefix && i == len(parts)-1 && !strings.HasSuffix(path, "/")
		switch {
		case keys.HasMeta(part):
			return "a " + part[strings.IndexAny(part, `*?[\`):][:1] + " in a key's path is a letter like others" + write
		case part == "":
			return "the key has an empty part between slashes" + write
		case strings.ContainsAny(part, ":@"):
			name := part[:strings.IndexAny(part, ":@")]
			if whole := good + "/" + name; i == len(parts)-1 && isGoodKey(whole) {
				good = whole
			}
			return "a key has no tag and no digest; write " + quote(good) + ", which matches all below it"
		case !isRepositoryPart(strings.ToLower(part), begun):
			return "the key's path has a part that no repository has" + write
		case strings.ToLower(part) != part:
			return "the key's path has a capital letter, which no repository has"
		}
		good += "/" + part
	}
	return ""
}

// isRepositoryPart reports whether s can be between the slashes of a repository's
// name: letters and digits, with one dot, one or two underscores, or dashes between
// them. With begun, s may be the beginning of such a part.
func isRepositoryPart(s string, begun bool) bool {
	rest := s
	for rest != "" {
		word := strings.TrimLeftFunc(rest, isAlnumRune)
		if len(word) == len(rest) {
			return false
		}
		rest = strings.TrimLeft(word, "._-")
		switch separator := word[:len(word)-len(rest)]; {
		case separator == "" && rest != "": // another character
			return false
		case separator != "" && rest == "" && !begun:
			return false
		case separator != "." && separator != "_" && separator != "__" && strings.Trim(separator, "-") != "":
			return false
		}
	}
	return s != ""
}

// isDataName reports whether a Secret's data can have a value of this name.
func isDataName(s string) bool {
	return strings.Trim(s, ".") != "" && !strings.ContainsFunc(s, func(r rune) bool { return !isAlnumRune(r) && !strings.ContainsRune("._-", r) })
}

// keyError is why a key cannot be read: what its text says of it, or else err.
func keyError(key string, err error) error {
	if found, _ := keyTextAdvice(key); found != "" {
		return &explainedError{found, err}
	}
	return err
}

// An explainedError is an error with a better text.
type explainedError struct {
	text string
	err  error
}

func (e *explainedError) Error() string { return e.text }
func (e *explainedError) Unwrap() error { return e.err }
