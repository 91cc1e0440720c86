package reference

import (
	"errors"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/internal/verify"
)

// The limits of OCI distribution and of distribution/reference, in bytes.
const (
	maxRepository = 255 // with library/, without the registry
	maxTag        = 128
)

// ends are the indexes in a name at which its parts end.
type ends struct {
	registry   int // the index of the slash after the registry; -1 if the name has no registry
	repository int
	tag        int // the same as repository if no tag is written; otherwise the index of the @ or the name's length
}

// scan splits a name from left to right, by the grammar of the package comment. It does not
// check the length of the repository.
func scan(s string) (ends, *ParseError) {
	var e ends
	var why Reason
	if e.registry, why = scanFirst(s); why != "" {
		return e, newParseError(s, e.registry, PartRegistry, why)
	}
	if e.repository, why = scanRepository(s, e.registry+1); why != "" {
		return e, newParseError(s, e.repository, PartRepository, why)
	}
	if e.repository == len(s) && isID(s) {
		return e, newParseError(s, 0, PartRepository, ErrImageID)
	}
	var err *ParseError
	e.tag, err = scanVersion(s, e.repository)
	return e, err
}

// scanVersion reads what follows the repository, which ends at s[i], and
// returns where the tag ends.
func scanVersion(s string, i int) (int, *ParseError) {
	if i < len(s) && s[i] == ':' {
		var why Reason
		if i, why = scanTag(s, i+1); why != "" {
			return i, newParseError(s, i, PartTag, why)
		}
	}
	if i == len(s) {
		return i, nil
	}
	if why := checkDigest(s[i+1:]); why != "" { // s[i] is an @
		return i, newParseError(s, i+1, PartDigest, why)
	}
	return i, nil
}

// scanFirst returns the index of the slash after the registry, or -1 if s has no registry.
// If the registry is refused, scanFirst returns the index of its first wrong byte, and the
// reason. For most names it does the work of registryEnd and scanRegistry in one pass; it
// calls them for refused and rare names.
func scanFirst(s string) (int, Reason) {
	i, dotted, why := scanHost(s)
	switch {
	case why != "":
	case i == len(s):
		return -1, ""
	case s[i] == '/':
		if dotted || looksLikeRegistry(s[:i]) {
			return i, ""
		}
		return -1, ""
	default: // a colon
		slash := strings.IndexByte(s[i:], '/')
		if slash < 0 {
			return -1, ""
		}
		if at, why := scanPort(s[:i+slash], i); why != "" {
			return at, why
		}
		return i + slash, ""
	}
	end := registryEnd(s)
	if end >= 0 {
		if at, why := scanRegistry(s[:end]); why != "" {
			return at, why
		}
	}
	return end, ""
}

// registryEnd returns the index of the slash after the registry, or -1 if s has no registry
// and so means Docker Hub. A slash at the beginning of s counts, so that the error for such
// a name is a missing registry.
func registryEnd(s string) int {
	slash := strings.IndexByte(s, '/')
	if slash <= 0 || looksLikeRegistry(s[:slash]) {
		return slash
	}
	return -1
}

// looksLikeRegistry reports whether s, the text before a slash, is a registry and not a
// part of a repository.
func looksLikeRegistry(s string) bool {
	for i := range len(s) {
		if c := s[i]; c == '.' || c == ':' || isUpper(c) {
			return true
		}
	}
	return s == "localhost"
}

// scanRegistry reads s, the text before the slash.
func scanRegistry(s string) (i int, why Reason) {
	if strings.HasPrefix(s, "[") {
		i, why = scanAddress(s)
	} else {
		i, _, why = scanHost(s)
	}
	if why != "" || i == len(s) {
		return i, why
	}
	return scanPort(s, i)
}

// scanHost reads labels up to a colon, a slash or the end. A run of dashes joins letters
// and digits within a label, and one dot joins labels. dotted says whether s has a dot.
func scanHost(s string) (i int, dotted bool, why Reason) {
	for {
		start := i
		for i < len(s) && class[s[i]]&(lower|upper) != 0 {
			i++
		}
		if i == start {
			return i, dotted, whyNoRun(s, i)
		}
		if i == len(s) {
			return i, dotted, ""
		}
		switch s[i] {
		case '.':
			dotted = true
			i++
		case ':', '/':
			return i, dotted, ""
		case '-':
			i = skipDashes(s, i)
		case '_':
			return i, dotted, ErrUnderscore
		default:
			return i, dotted, ErrCharacter
		}
	}
}

// scanAddress reads an IPv6 address in brackets. As in Kubernetes, hex digits and colons
// in any order are accepted.
func scanAddress(s string) (int, Reason) {
	i := 1
	for i < len(s) && (class[s[i]]&hex != 0 || s[i] == ':' || 'A' <= s[i] && s[i] <= 'F') {
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
		if s[i]-'0' > 9 {
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
		for i < len(s) && class[s[i]]&lower != 0 {
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

// whyNoRun says why s[i] is not a letter or digit although it must be one.
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
	for i < len(s) && class[s[i]]&inTag != 0 {
		i++
	}
	switch {
	case i > start && (s[start] == '.' || s[start] == '-'):
		return start, ErrSeparator
	case i-start > maxTag:
		return start + maxTag, ErrTooLong
	case i < len(s) && s[i] != '@':
		return i, ErrCharacter
	case i == start:
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

// isID reports whether s is an image ID, as `docker images --no-trunc` prints it.
func isID(s string) bool { return len(s) == 64 && allHex(s) }

func allHex(s string) bool {
	all := byte(hex)
	for i := range len(s) {
		all &= class[s[i]]
	}
	return all != 0
}

// checkDigest returns why a digest is refused, "" if it is valid.
func checkDigest(s string) Reason {
	if s == "" {
		return ErrMissing
	}
	err := verify.Digest(digest.Digest(s))
	if err == nil {
		return ""
	}
	if algorithm, _, _ := strings.Cut(s, ":"); errors.Is(err, verify.ErrAlgorithm) && isAlgorithm(algorithm) {
		return ErrAlgorithm
	}
	return ErrDigest
}

// isAlgorithm reports whether s has the form of an algorithm's name: letters
// and digits, joined by one of "+._-" (OCI image specification, digests). Upper
// case is included, so that the error for SHA256 says that the algorithm is unknown.
func isAlgorithm(s string) bool {
	run := 0
	for i := range len(s) {
		switch c := s[i]; {
		case class[c]&(lower|upper) != 0:
			run++
		case run > 0 && strings.IndexByte("+._-", c) >= 0:
			run = 0
		default:
			return false
		}
	}
	return run > 0
}

func isUpper(c byte) bool { return c-'A' < 26 }

// The bits of class. Each is a place where a byte is allowed.
const (
	lower = 1 << iota // a run of lower-case letters and digits
	upper             // upper-case letters
	hex               // lower-case hex digits
	inTag             // a tag
)

// class has the bits of each byte. A table is the fastest way to test a byte.
var class = [256]byte{
	'0': lower | hex | inTag, '1': lower | hex | inTag, '2': lower | hex | inTag, '3': lower | hex | inTag, '4': lower | hex | inTag,
	'5': lower | hex | inTag, '6': lower | hex | inTag, '7': lower | hex | inTag, '8': lower | hex | inTag, '9': lower | hex | inTag,
	'a': lower | hex | inTag, 'b': lower | hex | inTag, 'c': lower | hex | inTag, 'd': lower | hex | inTag, 'e': lower | hex | inTag,
	'f': lower | hex | inTag, 'g': lower | inTag, 'h': lower | inTag, 'i': lower | inTag, 'j': lower | inTag, 'k': lower | inTag,
	'l': lower | inTag, 'm': lower | inTag, 'n': lower | inTag, 'o': lower | inTag, 'p': lower | inTag, 'q': lower | inTag,
	'r': lower | inTag, 's': lower | inTag, 't': lower | inTag, 'u': lower | inTag, 'v': lower | inTag, 'w': lower | inTag,
	'x': lower | inTag, 'y': lower | inTag, 'z': lower | inTag,
	'A': upper | inTag, 'B': upper | inTag, 'C': upper | inTag, 'D': upper | inTag, 'E': upper | inTag, 'F': upper | inTag,
	'G': upper | inTag, 'H': upper | inTag, 'I': upper | inTag, 'J': upper | inTag, 'K': upper | inTag, 'L': upper | inTag,
	'M': upper | inTag, 'N': upper | inTag, 'O': upper | inTag, 'P': upper | inTag, 'Q': upper | inTag, 'R': upper | inTag,
	'S': upper | inTag, 'T': upper | inTag, 'U': upper | inTag, 'V': upper | inTag, 'W': upper | inTag, 'X': upper | inTag,
	'Y': upper | inTag, 'Z': upper | inTag,
	'_': inTag, '.': inTag, '-': inTag,
}
