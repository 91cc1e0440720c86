package diagnose

import (
	"strings"
	"unicode/utf8"

	"github.com/pullkit/pullkit/credentials/internal/keys"
)

// A KeyHint says why a key that can be read is probably not the key that the user meant,
// and what to write.
type KeyHint struct {
	Text string
	// About are patterns for the images that the user probably meant. If About is empty,
	// the user may have meant any image.
	About []keys.Pattern
	// Matches means that the key matches images, but probably not those that the user
	// meant.
	Matches bool
}

// Key returns a hint about a key that can be read; the zero KeyHint if the key may be
// right. p is the pattern of the key.
func Key(key string, p keys.Pattern) KeyHint {
	h := KeyHint{}
	found, meant := unusableKey(key, p)
	if found == "" {
		if found, meant = usableKey(key, p); found == "" {
			return KeyHint{}
		}
		h = KeyHint{Matches: true, About: []keys.Pattern{p}}
	}
	h.Text = found
	for _, key := range meant {
		if k, err := keys.Compile(key); err == nil {
			h.About = append(h.About, k)
		}
	}
	return h
}

// unusableKey says why a key that can be read matches no image, or few. p is the pattern
// of the key. meant are keys for the images that the user probably meant. If meant is
// empty, the user may have meant any image. found is "" if the key may be right.
func unusableKey(key string, p keys.Pattern) (found string, meant []string) {
	if found, meant = keyText(key); found != "" {
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
		return "the key's host is another name of Docker Hub: in the names of images its registry is docker.io", []string{keys.HubName}
	}
	if found, meant = hostAdvice(hostport); found != "" {
		if i := strings.IndexByte(hostport, '\\'); i >= 0 && path != "" { // what follows it belongs to the path
			found, _, _ = strings.Cut(found, ":")
		}
		return found, meant
	}
	switch {
	case !isRegistry(hostport):
		return "the key's host has no dot and no port, so it is not the registry of any image", []string{keys.HubName}
	case p.Labels() == 1 && p.Port == "" && hostport != "localhost":
		return "a * matches one part of a host's name, so the key matches only hosts without a dot", []string{hostport}
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

// keyText is the part of unusableKey that needs only the text of a key, and not its
// pattern. It therefore also works for keys that cannot be read.
func keyText(key string) (found string, meant []string) {
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
		return "the key has braces, which are not a wildcard: write a key for each host", nil
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
		return "the key begins with " + quote(scheme) + ", which is " + notAScheme(scheme) + ": write the key without it, as " + quote(host), []string{host}
	}
	if strings.Contains(keys.CutScheme(key), "://") {
		host, _ := keys.CutPath(key[strings.LastIndex(key, "://")+len("://"):])
		return "the key has a scheme that is not understood: write the key without it, as " + quote(host), []string{host}
	}
	return "", nil
}

// writeAs returns the advice to write a key as given; "" if that key would not be right
// either.
func writeAs(key string) string {
	if !isGoodKey(key) {
		return ""
	}
	return ": write it as " + quote(key)
}

// isGoodKey reports whether there is no hint about a key.
func isGoodKey(key string) bool {
	p, err := keys.Compile(keys.Normalize(key))
	if err != nil || keys.Redact(key) != key {
		return false
	}
	found, _ := unusableKey(key, p)
	return found == ""
}

// meantBy returns the key for the images that the user meant.
func meantBy(key string) []string { return []string{keys.Normalize(key)} }

// secretAdvice returns the hint that a part of a key may be a secret. key is without that
// part.
func secretAdvice(key string) (found string, meant []string) {
	host, _ := keys.CutPath(keys.CutScheme(key))
	if i := strings.IndexAny(host, "?#:= "); i >= 0 {
		host = host[:i]
	}
	found = "the key holds what looks like a secret, but a key must be only the name of a registry"
	if strings.Contains(host, ".") && !strings.Contains(host, keys.Hidden) {
		return found + ": write it as " + quote(host), []string{host}
	}
	return found, nil
}

// isTemplate reports whether a key has an expression of a template or of a shell that was
// not replaced.
func isTemplate(key string) bool {
	if strings.Trim(key, "*") == "" { // a wildcard, not a masked secret
		return false
	}
	return isPlaceholder(key) && !(strings.HasPrefix(key, "<") && strings.Contains(key, "."))
}

// wrongScheme cuts a key after a beginning that was meant as a scheme and is not written
// like a scheme, such as https:/ or oci:. It returns "" for other keys.
func wrongScheme(key string) (scheme, rest string) {
	word := key
	if i := strings.IndexFunc(key, func(r rune) bool { return !keys.IsAlnumRune(r) }); i >= 0 {
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

// notAScheme says what is wrong with a scheme from wrongScheme.
func notAScheme(scheme string) string {
	if strings.HasPrefix(strings.ToLower(scheme), "http") {
		return "not a scheme"
	}
	return "a scheme that is not understood"
}

// listAdvice returns a hint about a key that has several hosts, or a character that
// separates hosts. found is "" for other keys.
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
		if separator < 0 || isStray(separator) { // a comma is named, and not the space after it
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

// usableKey says what looks wrong with a key that matches images, but probably not those
// that the user meant. meant are keys for the images that the user probably meant.
func usableKey(key string, p keys.Pattern) (found string, meant []string) {
	key = keys.Redact(key)
	hostport, path := keys.CutPath(keys.CutScheme(key))
	host, port, err := keys.SplitHost(keys.Fold(hostport))
	if err != nil {
		return "", nil
	}
	scheme := strings.ToLower(key[:len(key)-len(keys.CutScheme(key))])
	if scheme == "https://" && port == "443" || scheme == "http://" && port == "80" {
		return "the key matches only images whose name has the port " + port + " too; for images without it" + strings.TrimPrefix(writeAs(host), ":"), []string{host + p.Path}
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	i := strings.IndexAny(last, "*?")
	if letters := len(strings.TrimRight(last[:max(i, 0)], "*?")); i < 0 || letters < 2 || letters == len(host) || last[i] == '?' && i+1 == len(last) {
		return "", nil
	}
	good := host[:len(host)-len(last)+i]
	return "a " + last[i:i+1] + " at the end of a host also matches hosts whose last part is longer" + writeAs(good+path), []string{good + path}
}

// BadKey returns the error of a key that cannot be read. The text of the error is a hint
// about the key, and the error wraps err. If there is no hint, BadKey returns err itself.
func BadKey(key string, err error) error {
	if found, _ := keyText(key); found != "" {
		return &explainedError{found, err}
	}
	return err
}

// An explainedError is an error with another text.
type explainedError struct {
	text string
	err  error
}

func (e *explainedError) Error() string { return e.text }

func (e *explainedError) Unwrap() error { return e.err }
