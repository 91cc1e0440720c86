package credentials

import (
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gobwas/glob"
)

// maxLabel bounds a label with wildcards before it is compiled, since compiling
// takes more than linear time. It is also the longest label DNS has.
const maxLabel = 63

// A label is one dot-separated part of a key's host.
type label struct {
	text  string        // as written, folded; compared as it is if it has no wildcard
	kind  labelKind     //
	match *glob.Pattern // of kind labelGlob
}

type labelKind uint8

const (
	labelLiteral labelKind = iota
	labelAny               // a lone *: everything
	labelNever             // a class that holds nothing: no text matches
	labelGlob
	labelKubelet // path.Match of the text, as the kubelet does
)

func hasMeta(s string) bool { return strings.ContainsAny(s, `*?[\`) }

// compileLabel reads one label in the syntax of path.Match.
func compileLabel(s string) (label, error) {
	switch {
	case !hasMeta(s):
		return label{text: s}, nil
	case len(s) > maxLabel:
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

// translate rewrites a pattern of path.Match for gobwas/glob. The two differ in
// what negates a class, what a class may hold, which characters are special
// outside of one, and what ** means; so the pattern is read here by the grammar
// of path.Match, and only what means the same in both is written. never is set
// if no text can match.
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
				never = true // but the rest may still be malformed
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

// readClass reads a class behind its [ and returns what it holds as ranges, none
// of them empty, and the text behind its ].
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
		if behind, ok := strings.CutPrefix(s, "-"); ok {
			if r.hi, s, err = readChar(behind, true); err != nil {
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

// readChar reads one character, escaped or not. Inside a class - and ] must be
// escaped, and something must follow.
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

// writeClass writes one range, or alternatives of ranges, since a class of
// gobwas/glob is either a range or a list.
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
		b.WriteByte('[') // the ends stand raw: an escape is not understood there
		b.WriteRune(r.lo)
		b.WriteByte('-')
		b.WriteRune(r.hi)
		b.WriteByte(']')
	}
}

func writeLiteral(b *strings.Builder, r rune) {
	if r < utf8.RuneSelf && !isAlnum(byte(r)) {
		b.WriteByte('\\')
	}
	b.WriteRune(r)
}

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
