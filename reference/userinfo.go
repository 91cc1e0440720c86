package reference

import "strings"

// mask stands in an error's text for what may be user:password.
const mask = "[redacted]"

// hidden is the part of a text that may be user:password, s[from:to].
type hidden struct {
	from, to int
	certain  bool // that it is
}

// hide returns what may be shown of s.
func (h hidden) hide(s string) string {
	if h.from == h.to {
		return s
	}
	return s[:h.from] + mask + s[h.to:]
}

// place returns where in hide(s) the byte s[at] is, or the mask that covers it.
func (h hidden) place(at int) int {
	switch {
	case h.from == h.to || at <= h.from:
		return at
	case at < h.to:
		return h.from
	}
	return at - h.to + h.from + len(mask)
}

// findUserinfo finds all that may be user:password in s, before an @ that is no
// digest's. It certainly is if a slash stands behind the @, as in no name. A scheme
// before it is kept, and so is what looks more like a name.
func findUserinfo(s string) hidden {
	name, _ := cutDigest(s)
	at := strings.LastIndexByte(name, '@')
	if at < 0 {
		return hidden{}
	}
	certain := strings.IndexByte(name[at:], '/') >= 0
	if !certain && (strings.IndexByte(name[:at], ':') < 0 || isNameWithPort(name[:at])) {
		return hidden{} // name@latest
	}
	from := 0
	if i := strings.Index(name[:at], "://"); i >= 0 && isAlgorithm(name[:i]) {
		from = i + len("://")
	}
	return hidden{from, at, certain}
}

// isNameWithPort reports whether s is the name of an image at a registry with a
// port, "reg.example:5000/app", and no user's, whose password would have to begin
// with a port and a slash.
func isNameWithPort(s string) bool {
	slash := strings.IndexByte(s, '/')
	if slash < 0 {
		return false
	}
	if _, why := scanRegistry(s[:slash]); why != "" {
		return false
	}
	colon := strings.LastIndexByte(s[:slash], ':')
	if colon < 0 || slash-colon > len(":65535") {
		return false
	}
	if host := s[:colon]; host != "localhost" && !strings.Contains(host, ".") && !strings.HasSuffix(host, "]") {
		return false
	}
	end, why := scanRepository(s, slash+1)
	if why == "" && end < len(s) && s[end] == ':' {
		end, why = scanTag(s, end+1)
	}
	return why == "" && end == len(s)
}
