package reference

import "strings"

// The limits of OCI distribution and of distribution/reference, in bytes.
const (
	maxRepository = 255 // with library/, without the registry
	maxTag        = 128
)

// pieces are the parts of a name as they are written, "" where one is missing.
type pieces struct{ registry, repository, tag, digest string }

// A fault is the first byte of a name that cannot be right. Its why is "" if
// there is none.
type fault struct {
	at   int
	part Part
	why  Reason
}

// read takes a name apart in one pass from left to right.
func (p *pieces) read(s string) fault {
	start := registryEnd(s)
	if start >= 0 {
		if f := scanRegistry(s[:start]); f.why != "" {
			return f
		}
		p.registry = s[:start]
	}
	start++ // past the slash, or to 0
	i, why := scanRepository(s, start)
	if why != "" {
		return fault{i, PartRepository, why}
	}
	p.repository = s[start:i]
	if i == len(s) {
		if isID(s) {
			return fault{0, PartRepository, ErrImageID}
		}
		return fault{}
	}
	return p.readVersion(s, i)
}

// readVersion reads what follows the repository: it begins at s[i] with ':' or '@'.
func (p *pieces) readVersion(s string, i int) fault {
	if s[i] == ':' {
		start := i + 1
		var why Reason
		if i, why = scanTag(s, start); why != "" {
			return fault{i, PartTag, why}
		}
		p.tag = s[start:i]
	}
	if i == len(s) {
		return fault{}
	}
	p.digest = s[i+1:] // only '@' ends a tag before the end
	return fault{i + 1, PartDigest, checkDigest(p.digest)}
}

// registryEnd returns the index of the slash behind the registry, or -1 if s
// has none and all of it is read from Docker Hub. A slash in front of everything
// counts, so that what is missing there is a registry.
func registryEnd(s string) int {
	slash := strings.IndexByte(s, '/')
	if slash <= 0 || looksLikeRegistry(s[:slash]) {
		return slash
	}
	return -1
}

// looksLikeRegistry reports whether s, in front of a slash, is a registry and
// no part of a repository.
func looksLikeRegistry(s string) bool {
	for i := range len(s) {
		if c := s[i]; c == '.' || c == ':' || isUpper(c) {
			return true
		}
	}
	return s == "localhost"
}

// scanRegistry looks at the whole of s, without the slash behind it.
func scanRegistry(s string) fault {
	i, why := 0, Reason("")
	if strings.HasPrefix(s, "[") {
		i, why = scanAddress(s)
	} else {
		i, why = scanHost(s)
	}
	if why == "" && i < len(s) {
		i, why = scanPort(s, i)
	}
	return fault{i, PartRegistry, why}
}

// scanHost reads labels up to the end or a colon. A run of dashes joins letters
// and digits within a label, one dot joins labels.
func scanHost(s string) (int, Reason) {
	for i := 0; ; {
		start := i
		for i < len(s) && (isLowerOrDigit(s[i]) || isUpper(s[i])) {
			i++
		}
		switch {
		case i < len(s) && s[i] == '_':
			return i, ErrUnderscore
		case i == start:
			return i, whyNoRun(s, i)
		case i == len(s) || s[i] == ':':
			return i, ""
		case s[i] == '.':
			i++
		case s[i] == '-':
			i = skipDashes(s, i)
		default:
			return i, ErrCharacter
		}
	}
}

// scanAddress reads an IPv6 address in brackets. As in Kubernetes, hex digits
// and colons in any order will do.
func scanAddress(s string) (int, Reason) {
	i := 1
	for i < len(s) && (isHex(s[i]) || s[i] == ':' || 'A' <= s[i] && s[i] <= 'F') {
		i++
	}
	switch {
	case i == len(s):
		return i, ErrMissing // the closing bracket
	case s[i] != ']':
		return i, ErrCharacter
	case i == 1:
		return i, ErrMissing
	}
	return i + 1, ""
}

// scanPort reads a colon and digits up to the end.
func scanPort(s string, i int) (int, Reason) {
	if s[i] != ':' {
		return i, ErrCharacter
	}
	start := i + 1
	for i = start; i < len(s); i++ {
		if !isDigit(s[i]) {
			return i, ErrPort
		}
	}
	if i == start {
		return i, ErrPort
	}
	return i, ""
}

// scanRepository reads components from s[i] up to the end, a ':' or an '@',
// and returns where it stopped.
func scanRepository(s string, i int) (int, Reason) {
	for {
		start := i
		for i < len(s) && isLowerOrDigit(s[i]) {
			i++
		}
		if i == start {
			return i, whyNoRun(s, i)
		}
		if i == len(s) {
			return i, ""
		}
		switch s[i] {
		case ':', '@':
			return i, ""
		case '/', '.':
			i++
		case '_':
			i++
			if i < len(s) && s[i] == '_' {
				i++
			}
		case '-':
			i = skipDashes(s, i)
		default:
			return i, ErrCharacter
		}
	}
}

// whyNoRun says why no letter or digit stands at s[i] though one must.
func whyNoRun(s string, i int) Reason {
	separator := func(i int) bool { return 0 <= i && i < len(s) && strings.IndexByte("._-", s[i]) >= 0 }
	switch {
	case separator(i):
		return ErrSeparator
	case i < len(s) && strings.IndexByte("/:@", s[i]) < 0:
		return ErrCharacter
	case separator(i - 1):
		return ErrSeparator
	}
	return ErrMissing
}

// scanTag reads a tag from s[i] up to the end or an '@'.
func scanTag(s string, i int) (int, Reason) {
	start := i
	for i < len(s) && s[i] != '@' {
		c := s[i]
		switch {
		case isLowerOrDigit(c) || isUpper(c) || c == '_':
		case c != '.' && c != '-':
			return i, ErrCharacter
		case i == start:
			return i, ErrSeparator
		}
		if i == start+maxTag {
			return i, ErrTooLong
		}
		i++
	}
	if i == start {
		return i, ErrMissing
	}
	return i, ""
}

func skipDashes(s string, i int) int {
	for i < len(s) && s[i] == '-' {
		i++
	}
	return i
}

// isID reports whether s is what `docker images --no-trunc` calls an image.
func isID(s string) bool { return len(s) == 64 && allHex(s) }

func isDigit(c byte) bool        { return c-'0' < 10 }
func isUpper(c byte) bool        { return c-'A' < 26 }
func isLowerOrDigit(c byte) bool { return c-'a' < 26 || c-'0' < 10 }
func isHex(c byte) bool          { return c-'a' < 6 || c-'0' < 10 }
