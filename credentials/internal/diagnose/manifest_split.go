package diagnose

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pullkit/pullkit/internal/strictjson"
	"github.com/pullkit/pullkit/internal/strictyaml"
	"sigs.k8s.io/yaml"
)

// plainLines returns a text with a line feed in place of all other line ends of YAML, and
// without a byte order mark at the beginning of a line. Such a mark is there if files were
// joined. A line of JSON keeps the characters that its strings may have.
func plainLines(text string) string {
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
	if !strings.ContainsAny(text, "\u0085\u2028\u2029\ufeff") {
		return text
	}
	ends := strings.NewReplacer("\u0085", "\n", "\u2028", "\n", "\u2029", "\n")
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimLeft(line, "\ufeff")
		if content := strings.TrimLeft(line, " \t"); content == "" || !strings.ContainsAny(content[:1], `{["`) {
			line = strings.ReplaceAll(ends.Replace(line), "\n\ufeff", "\n")
		}
		b.WriteString(line)
	}
	return b.String()
}

// endsWithBlock reports whether a text ends with a field whose value is on the next
// lines, because the field ends with a mark such as | or >.
func endsWithBlock(text string) bool {
	text = strings.TrimRight(text, " \t\n")
	line := text[strings.LastIndexByte(text, '\n')+1:]
	_, value, ok := strings.Cut(line, ":")
	value = strings.TrimSpace(value)
	return ok && value != "" && strings.Trim(value, "|>+-") == "" && strings.ContainsAny(value[:1], "|>")
}

// documents cuts a text in block style where another document seems to begin: at a line
// that was meant to be a marker, and at a second kind or apiVersion after those of an
// object that has metadata.
func (p part) documents() []part {
	var documents []part
	seen := map[string]bool{}        // fields of the document
	start, at, lines := 0, 0, p.line // where the document and the line begin, and the number of lines before the document
	cut := func(next int, marked bool) {
		isObject := seen["kind"] && seen["metadata"]
		document := part{text: p.text[start:at], line: lines, kind: p.kind, depth: p.depth}
		switch last := len(documents) - 1; {
		case !marked && !isObject && last >= 0: // not an object by itself
			documents[last].text += document.text
		case !strictyaml.Blank(document.text):
			documents = append(documents, document)
		}
		lines += strings.Count(p.text[start:next], "\n")
		start = next
		clear(seen)
	}
	markedStart := true
	for line := range strings.Lines(p.text) {
		field, _, _ := strings.Cut(line, ":")
		if field = unquoted(field); len(field) == len(line) {
			field = ""
		}
		if rest, ok := cutMarker(line); ok {
			cut(at+len(line)-len(rest), markedStart)
			markedStart = true
		} else if (field == "kind" || field == "apiVersion") && line[0] != ' ' && seen[field] && seen["kind"] && seen["metadata"] {
			cut(at, markedStart)
			markedStart = false
		}
		if line[0] != ' ' {
			seen[field] = true
		}
		at += len(line)
	}
	cut(at, markedStart)
	return documents
}

// cutMarker reports whether a line is not a marker between documents, but was meant to be
// one: it has another number of dashes, dashes of another kind, a space before them or
// something after them. rest is the part of the line with which the next document begins.
func cutMarker(line string) (rest string, ok bool) {
	content := strings.TrimLeftFunc(line, isStray)
	if utf8.RuneCountInString(line[:len(line)-len(content)]) > 1 { // the line may be within a block
		return "", false
	}
	rest = strings.TrimLeft(content, "-‐‑‒–—―−")
	if len(content)-len(rest) < len("---") {
		return "", false
	}
	rest = strings.TrimLeftFunc(rest, isStray)
	return rest, rest == "" || rest[0] == '#' || isFlow(rest) || strings.HasPrefix(rest, "kind:") || strings.HasPrefix(rest, "apiVersion:")
}

// isFlow reports whether a text begins like JSON, or like YAML in flow style. Two braces
// begin an expression of a template.
func isFlow(text string) bool {
	return strings.HasPrefix(text, "{") && !strings.HasPrefix(text, "{{") || strings.HasPrefix(text, "[")
}

// documentEnd returns the length of the first document of a text. A document in brackets
// ends with them. Any other document ends before the next line that begins with a brace,
// unless the whole text can be read as one document. A document whose brackets are not
// closed, or are closed so late that the text between them cannot be read, ends at such a
// line, too. first says that the text has not been cut yet. effort is the number of bytes
// that were searched.
func documentEnd(text string, first bool) (end, effort int) {
	if !isFlow(text) {
		next := nextFlow(text)
		if first && next < len(text) && isReadable(text) {
			return len(text), len(text)
		}
		return next, next
	}
	parts, end := flowParts(text)
	switch {
	case end < 0 && first && isOneFlow(text):
		return len(text), len(text)
	case end < 0:
		return nextFlow(text), len(text)
	}
	if next := nextFlow(text[:end]); next < end && text[0] == '{' && !hasItems(parts) && !isReadable(text[:end]) {
		return next, max(end, maxEffort/64) // parsing takes longer than searching
	}
	return end, end
}

// nextFlow returns the position of the first line, except the first line of the text, that
// begins with a brace; the length of the text if there is none.
func nextFlow(text string) int {
	for next := 0; ; {
		i := strings.Index(text[next:], "\n{")
		if i < 0 {
			return len(text)
		}
		if next += i + 1; isFlow(text[next:]) {
			return next
		}
	}
}

// isReadable reports whether a text is one document that is more than a string.
func isReadable(text string) bool {
	data := []byte(text)
	if strictjson.Valid(data) {
		return true
	}
	document, err := yaml.YAMLToJSON(data)
	return err == nil && strictjson.KindOf(document) != strictjson.KindString
}

// isOneFlow reports whether a text in brackets is one document of YAML. It is for a text
// whose end flowParts does not find.
func isOneFlow(text string) bool {
	var list []any
	err := yaml.Unmarshal([]byte("["+text+"\n]"), &list)
	return err == nil && len(list) == 1
}

// withoutComments returns a text without the empty lines and comments at its beginning.
func withoutComments(text string) string {
	for {
		text = strings.TrimLeft(text, " \t\n\ufeff\u0085\u2028\u2029")
		if !strings.HasPrefix(text, "#") {
			return text
		}
		_, text, _ = strings.Cut(text, "\n")
	}
}

// A flowPart is a member of an object, or an element of a list, of JSON or of YAML in flow
// style.
type flowPart struct {
	name  string // of a member, without quotes; "" for an element
	value string // as the text has it
	start int    // the position of value in the text
}

func hasItems(parts []flowPart) bool {
	return slices.ContainsFunc(parts, func(p flowPart) bool { return p.name == "items" && strings.HasPrefix(p.value, "[") })
}

// flowParts returns the parts in the bracket at the beginning of a text, even if some of
// them are malformed. end is the position after the closing bracket; -1 if there is no
// closing bracket.
func flowParts(text string) (parts []flowPart, end int) {
	depth := 0
	start, colon := 1, -1       // where the part begins, and where its name ends
	word, quoted := true, false // a word may begin here; a word in quotes has just ended
	cut := func(to int) {
		var p flowPart
		if colon >= 0 {
			p.name, start = unquoted(text[start:colon-1]), colon
		}
		p.value = strings.TrimLeft(text[start:to], " \t\n")
		p.start = to - len(p.value)
		if p.value = strings.TrimRight(p.value, " \t\n"); p.value != "" || p.name != "" {
			parts = append(parts, p)
		}
		start, colon = to+1, -1
	}
	for i := 0; i < len(text); i++ {
		afterQuoted := quoted
		quoted = false
		switch c := text[i]; c {
		case '{', '[':
			depth++
			word = true
		case '}', ']':
			if depth--; depth == 0 {
				cut(i)
				return parts, i + 1
			}
			word = false
		case ',':
			if depth == 1 {
				cut(i)
			}
			word = true
		case ':':
			if afterQuoted || i+1 == len(text) || strings.IndexByte(" \t\n\"'{[", text[i+1]) >= 0 {
				if depth == 1 && colon < 0 {
					colon = i + 1
				}
				word = true
			}
		case ' ', '\t', '\n':
			quoted = afterQuoted
		case '#':
			if text[i-1] == ' ' || text[i-1] == '\n' {
				i += strings.IndexByte(text[i:]+"\n", '\n') - 1
			}
		case '"', '\'':
			if afterQuoted && depth == 1 { // a comma is missing
				cut(i)
				start = i
			}
			if word || afterQuoted {
				i = quotedEnd(text, i)
				quoted = true
			}
			word = false
		default:
			word = false
		}
	}
	cut(len(text))
	return parts, -1
}

// quotedEnd returns the position of the quote that ends the quoted text at start; the end
// of the line if there is no such quote.
func quotedEnd(text string, start int) int {
	for i := start + 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\n':
			return i - 1
		case c == '\\' && text[start] == '"':
			i++
		case c == text[start]:
			return i
		}
	}
	return len(text) - 1
}

// unquoted returns a word of YAML without its quotes, and without a comment after it.
func unquoted(word string) string {
	word, _, _ = strings.Cut(word, " #")
	return strings.Trim(strings.TrimSpace(word), `"'`)
}
