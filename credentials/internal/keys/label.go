package keys

import (
	"errors"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gobwas/glob"
)

// MaxLabel is the number of bytes that a label with wildcards may have, because the time to
// compile a label grows faster than its length. It is also the limit of DNS.
const MaxLabel = 63

// A label is one dot-separated part of a key's host.
type label struct {
	text  string // as written, folded
	kind  labelKind
	match *glob.Pattern // of kind labelGlob
}

type labelKind uint8

const (
	labelLiteral labelKind = iota // without a wildcard
	labelAny                      // only *: each text matches
	labelNever                    // a class without characters: no text matches
	labelGlob                     // any other wildcards
	labelKubelet                  // path.Match of the text, as in the kubelet
)

// compileLabel reads one label in the syntax of path.Match.
func compileLabel(s string) (label, error) {
	switch {
	case !HasMeta(s):
		return label{text: s}, nil
	case len(s) > MaxLabel:
		return label{}, errLongLabel
	case strings.Trim(s, "*") == "":
		return label{text: s, kind: labelAny}, nil
	}
	pattern, never, err := translate(s)
	if err != nil {
		return label{}, err
	}
	if never {
		return label{text: s, kind: labelNever}, nil
	}
	compiled, err := glob.Compile(pattern)
	if err != nil {
		return label{}, errBadPattern
	}
	return label{text: s, kind: labelGlob, match: compiled}, nil
}

var (
	errBadPattern = errors.New("malformed wildcard pattern")
	errLongLabel  = errors.New("part with a wildcard is longer than 63 bytes")
)

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

// translate returns a pattern of gobwas/glob with the meaning of the path.Match pattern s.
// The two syntaxes differ in the negation of a class, the content of a class, the special
// characters outside of a class, and the meaning of **. So translate reads s by the grammar
// of path.Match, and writes only syntax that has the same meaning in both. never says that
// no text can match.
func translate(s string) (pattern string, never bool, err error) {
	var b strings.Builder
	for len(s) > 0 {
		switch s[0] {
		case '*':
			s = strings.TrimLeft(s, "*")
			b.WriteByte('*')
		case '?':
			s = s[1:]
			b.WriteByte('?')
		case '[':
			var class []runeRange
			if class, s, err = readClass(s[1:]); err != nil {
				return "", false, err
			}
			if len(class) == 0 {
				never = true // the rest is read nevertheless, because it may be malformed
			}
			writeClass(&b, class)
		default:
			var r rune
			if r, s, err = readChar(s, false); err != nil {
				return "", false, err
			}
			writeLiteral(&b, r)
		}
	}
	return b.String(), never, nil
}

type runeRange struct{ lo, hi rune }

// readClass reads a class; s begins after its [. It returns the ranges of the class that
// are not empty, and the text after its ].
func readClass(s string) (class []runeRange, rest string, err error) {
	s, negated := strings.CutPrefix(s, "^")
	for first := true; ; first = false {
		if !first && strings.HasPrefix(s, "]") {
			break
		}
		var r runeRange
		if r.lo, s, err = readChar(s, true); err != nil {
			return nil, "", err
		}
		r.hi = r.lo
		if after, ok := strings.CutPrefix(s, "-"); ok {
			if r.hi, s, err = readChar(after, true); err != nil {
				return nil, "", err
			}
		}
		if r.lo <= r.hi {
			class = append(class, r)
		}
	}
	if negated {
		class = complement(class)
	}
	return class, s[1:], nil
}

// readChar reads one character, escaped or not. In a class - and ] must be escaped, and more
// text must follow.
func readChar(s string, inClass bool) (r rune, rest string, err error) {
	if s == "" || inClass && (s[0] == '-' || s[0] == ']') {
		return 0, "", errBadPattern
	}
	s = strings.TrimPrefix(s, `\`)
	if s == "" {
		return 0, "", errBadPattern
	}
	r, size := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError && size == 1 || inClass && len(s) == size {
		return 0, "", errBadPattern
	}
	return r, s[size:], nil
}

func complement(class []runeRange) []runeRange {
	slices.SortFunc(class, func(a, b runeRange) int { return int(a.lo - b.lo) })
	var out []runeRange
	next := rune(0)
	for _, r := range class {
		if r.lo > next {
			out = append(out, runeRange{next, r.lo - 1})
		}
		next = max(next, r.hi+1)
	}
	if next <= utf8.MaxRune {
		out = append(out, runeRange{next, utf8.MaxRune})
	}
	return out
}

// writeClass writes a class for gobwas/glob: one range, or alternatives of several, because
// a class of gobwas/glob cannot have several ranges.
func writeClass(b *strings.Builder, class []runeRange) {
	var parts []runeRange
	for _, r := range class {
		if r.lo == '!' && r.hi > '!' { // a leading ! would negate
			parts = append(parts, runeRange{'!', '!'}, runeRange{'"', r.hi})
			continue
		}
		parts = append(parts, r)
	}
	if len(parts) > 1 {
		b.WriteByte('{')
		defer b.WriteByte('}')
	}
	for i, r := range parts {
		if i > 0 {
			b.WriteByte(',')
		}
		if r.lo == r.hi {
			writeLiteral(b, r.lo)
			continue
		}
		b.WriteByte('[') // the two ends are not escaped, because gobwas/glob has no escapes there
		b.WriteRune(r.lo)
		b.WriteByte('-')
		b.WriteRune(r.hi)
		b.WriteByte(']')
	}
}

func writeLiteral(b *strings.Builder, r rune) {
	if r < utf8.RuneSelf && !IsAlnum(byte(r)) {
		b.WriteByte('\\')
	}
	b.WriteRune(r)
}
