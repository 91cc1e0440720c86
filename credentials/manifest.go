package credentials

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pullkit/pullkit/credentials/internal/keys"
	"github.com/pullkit/pullkit/internal/strictjson"
	"sigs.k8s.io/yaml"
)

// maxObjects bounds the objects of one manifest, those in lists included.
const maxObjects = 100_000

const (
	// maxListDepth bounds the lists within lists.
	maxListDepth = 10
	// maxEffort bounds the bytes that are looked through for the ends of documents:
	// of those that are malformed, each may take all of the manifest.
	maxEffort = 64 << 20
)

// ParseSecrets reads the Secrets of a manifest: YAML or JSON, one document or
// several, Lists of objects, data and stringData (which wins). Objects of other
// kinds are passed over. Data that is not base64 is for [Secret.Validate] to report,
// and for [Secrets.Problems]. A field that an object has twice makes it malformed, in
// JSON as in YAML.
//
// A text that holds Secrets and is not a manifest in the right form is read as far as
// it can be understood, and reported: documents without --- between them, or a list without
// kind. An object that seems to be a Secret and is of
// another kind, or of none, is reported and not read.
//
// Documents and Secrets that cannot be read are left out, and the rest is returned
// together with an error: a program that is content with what could be read reports
// the error and goes on. The error wraps one error for each of them, in their order,
// which says which document it is and, as far as that can be read, its name; it
// wraps an [*EntryError] if it is a Secret. A manifest larger than 8 MiB is refused
// as a whole.
func ParseSecrets(data []byte) ([]Secret, error) {
	if len(data) > maxDocument {
		return nil, fmt.Errorf("manifest %w", errTooLarge)
	}
	m := manifest{effort: maxEffort}
	for _, text := range splitYAML(plainLines(string(inUTF8(data)))) {
		if !blankYAML(text) {
			m.addText(text)
		}
		m.lines += strings.Count(text, "\n")
	}
	if len(m.problems) > 0 {
		return m.secrets, &leftOutError{m.problems}
	}
	return m.secrets, nil
}

// plainLines is a text in which each line ends as YAML's lines may, with a line feed in
// place of the other ends, and begins without a byte order mark: there is one where
// files were joined. A line of JSON keeps what its strings may hold.
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

// addText reads the text between two markers. What begins with a bracket is JSON or YAML
// in flow style, and may be several documents that follow each other; all else is one
// document in block style, unless it is unreadable and such documents follow it.
func (m *manifest) addText(text string) {
	for first, line := true, m.lines; ; first = false {
		rest := withoutComments(text)
		if rest == "" || m.objects > maxObjects {
			return
		}
		isBlock := !isFlow(rest)
		if !isBlock {
			line += strings.Count(text[:len(text)-len(rest)], "\n")
			text = rest
		}
		m.document++
		end, effort := documentEnd(text, first)
		if m.effort -= effort; m.effort < 0 {
			m.problem(errors.New("is left out with all that follows it, because too much of the manifest is malformed"))
			return
		}
		document := part{text: text[:end], line: line}
		line += strings.Count(document.text, "\n")
		text = text[end:]
		if !isBlock {
			m.addPart(document)
			continue
		}
		if first && text != "" && document.kindOf() != "" {
			if endsWithBlock(document.text) {
				m.problem(withNames(fmt.Errorf("has a text at line %d that belongs to the field before it and is not indented: indent each of its lines by spaces", line+1), secretNames(document.text)))
			} else {
				m.problem(runTogether(line+1, secretNames(document.text)))
			}
		}
		m.addBlock(document)
	}
}

// endsWithBlock reports whether a text ends with a field whose value is to follow on lines of
// its own: a bar or a bracket that opens a block is the last of it.
func endsWithBlock(text string) bool {
	text = strings.TrimRight(text, " \t\n")
	line := text[strings.LastIndexByte(text, '\n')+1:]
	_, value, ok := strings.Cut(line, ":")
	value = strings.TrimSpace(value)
	return ok && value != "" && strings.Trim(value, "|>+-") == "" && strings.ContainsAny(value[:1], "|>")
}

// addBlock reads a document of YAML in block style. If it cannot be read because it is
// several documents, each of them is read.
func (m *manifest) addBlock(p part) {
	documents := p.documents()
	if len(documents) < 2 {
		m.addPart(p)
		return
	}
	if _, err := p.json(); err == nil {
		m.addPart(p)
		return
	}
	m.problem(runTogether(documents[1].line+1, secretNames(p.text)))
	for i, document := range documents {
		if i > 0 {
			m.document++
		}
		m.addPart(document)
	}
}

// runTogether is the error that a document begins without a marker before it. names are
// what the documents are called.
func runTogether(line int, names []string) error {
	text := fmt.Sprintf("runs together with another one at line %d: write --- alone on a line between them", line)
	if len(names) > 0 {
		text += " (" + listed(names) + ")"
	}
	return errors.New(text)
}

// documents cuts a text in block style where another document seems to begin: at a line
// that was meant to be a marker, and where an object that has a kind and metadata is
// followed by another one.
func (p part) documents() []part {
	var documents []part
	seen := map[string]bool{}        // fields of the document
	start, at, lines := 0, 0, p.line // where the document begins, and how many lines are before it
	cut := func(next int, marked bool) {
		isObject := seen["kind"] && seen["metadata"]
		document := part{text: p.text[start:at], line: lines, kind: p.kind, depth: p.depth}
		switch last := len(documents) - 1; {
		case !marked && !isObject && last >= 0: // not an object by itself
			documents[last].text += document.text
		case !blankYAML(document.text):
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

// cutMarker reports whether a line was meant to be a marker between documents and is
// none: it has another number of dashes, dashes of another kind, a space before them or
// something behind them. rest is what the next document begins with on that line.
func cutMarker(line string) (rest string, ok bool) {
	content := strings.TrimLeftFunc(line, isStray)
	if utf8.RuneCountInString(line[:len(line)-len(content)]) > 1 { // within a block, perhaps
		return "", false
	}
	rest = strings.TrimLeft(content, "-‐‑‒–—―−")
	if len(content)-len(rest) < len("---") {
		return "", false
	}
	rest = strings.TrimLeftFunc(rest, isStray)
	return rest, rest == "" || rest[0] == '#' || isFlow(rest) || strings.HasPrefix(rest, "kind:") || strings.HasPrefix(rest, "apiVersion:")
}

// isFlow reports whether a text is JSON or YAML in flow style, by its beginning. Two
// braces are a template's.
func isFlow(text string) bool {
	return strings.HasPrefix(text, "{") && !strings.HasPrefix(text, "{{") || strings.HasPrefix(text, "[")
}

// documentEnd returns where the first document of a text ends. What is in brackets ends
// with them. If they are not closed, or are closed so late that what is between them
// cannot be read, and for all else, the next line that begins with a brace is another
// document. first says that no document was cut off the text before. effort is how many
// bytes were looked through.
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
		return next, max(end, maxEffort/64) // to parse them takes longer
	}
	return end, end
}

// nextFlow returns where a line after the first one begins with a brace; the length of the
// text if none does.
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

// isReadable reports whether a text is one document, which is more than a word.
func isReadable(text string) bool {
	data := []byte(text)
	if strictjson.Valid(data) {
		return true
	}
	document, err := yaml.YAMLToJSON(data)
	return err == nil && strictjson.KindOf(document) != strictjson.KindString
}

// isOneFlow reports whether a text in braces is one document of YAML, although
// flowParts does not find its end.
func isOneFlow(text string) bool {
	var list []any
	err := yaml.Unmarshal([]byte("["+text+"\n]"), &list)
	return err == nil && len(list) == 1
}

// A part is the text of a document of a manifest, or of an item of a list in it.
type part struct {
	text  string
	line  int    // how many lines of the manifest are before it
	kind  string // "Secret" for an item that need not say what it is
	depth int    // of the lists around it
}

// addPart reads a part of a manifest. Of a list that cannot be read as a whole, each
// item is read by itself, so that one costs the others nothing.
func (m *manifest) addPart(p part) {
	data, err := p.json()
	if err == nil {
		m.add(data, p.depth)
		return
	}
	if m.tooMany(p.text, p.depth) {
		return
	}
	before := len(m.problems)
	head, items, ok := p.items()
	if !ok {
		m.unreadable(p, err)
		return
	}
	const most = 10 // of the fields items that are read
	for n := 0; ok && n < most; n++ {
		for _, item := range items {
			if m.objects > maxObjects {
				return
			}
			m.addPart(item)
		}
		p = head
		head, items, ok = p.items()
	}
	if _, bad := p.json(); bad != nil {
		m.unreadable(p, bad)
	} else if len(m.problems) == before && !errors.Is(err, errTwice) {
		m.unreadable(p, err)
	}
}

// json is the part in JSON. The error says what is wrong, and where.
func (p part) json() ([]byte, error) {
	data := []byte(p.text)
	if strictjson.Valid(data) {
		if i := strictjson.Repeated(data); i >= 0 {
			return nil, fmt.Errorf("%w: line %d", errTwice, p.line+1+bytes.Count(data[:i], []byte("\n")))
		}
		return p.typed(data), nil
	}
	if line := p.leftOver(); line > 0 {
		return nil, fmt.Errorf("is not YAML: line %d", p.line+line)
	}
	doc, err := yaml.YAMLToJSONStrict(data)
	switch {
	case err == nil:
		return p.typed(doc), nil
	case strings.HasPrefix(withoutComments(p.text[min(len(p.text), 1):]), `"`) && p.text[0] == '{':
		return nil, jsonError(data, p.line)
	}
	err = yamlError(err, p.line)
	for _, mark := range templateMarks {
		if strings.Contains(p.text, mark) {
			err = fmt.Errorf("%w: a template was left in it (%s)", err, mark)
			break
		}
	}
	return nil, err
}

// errTwice is what an object is called that is malformed for this alone.
var errTwice = errors.New("holds a field twice")

// leftOver returns the first line, from 1, that a reader of YAML passes over, because what
// comes before it is a whole document; 0 if there is none. A document ends where a line is
// indented less than its first one, and a list of dashes at a line without one.
func (p part) leftOver() int {
	column, isList, number := -1, false, 0
	for line := range strings.Lines(p.text) {
		number++
		content := strings.TrimLeft(line, " ")
		if content = strings.TrimRight(content, "\n"); content == "" || content[0] == '#' || content[0] == '%' && column < 0 || content[0] == '\t' {
			continue
		}
		indent := len(line) - len(strings.TrimLeft(line, " "))
		isItem := content == "-" || strings.HasPrefix(content, "- ")
		switch {
		case column < 0:
			column, isList = indent, isItem
			if isFlow(content) || content[0] == '"' || content[0] == '\'' {
				return 0
			}
		case indent < column, isList && indent == column && !isItem:
			return number
		}
	}
	return 0
}

// typed is an item with the kind that it need not say.
func (p part) typed(data []byte) []byte {
	if p.kind == "" {
		return data
	}
	return withKind(data)
}

// jsonError says where JSON is malformed. line is how many lines are before data.
func jsonError(data []byte, line int) error {
	var syntax *strictjson.Error
	if !errors.As(strictjson.Decode(data, strictjson.Limits{Depth: strictjson.MaxDepth}, (*strictjson.Reader).Skip), &syntax) {
		return errors.New("is not JSON")
	}
	text := fmt.Sprintf("is not JSON: line %d", line+1+bytes.Count(data[:min(syntax.Offset, len(data))], []byte("\n")))
	if hint := documentHint(data, syntax.Offset+1); hint != "" {
		text += ": " + hint
	}
	return errors.New(text)
}

// items cuts a list of objects into its items. head is the list without them.
func (p part) items() (head part, items []part, ok bool) {
	text := p.text
	start := -1 // of what is in brackets
	switch i := itemsLine(text); {
	case isFlow(text):
		members, _ := flowParts(text)
		for _, f := range members {
			if f.name == "items" && strings.HasPrefix(f.value, "[") && strings.Trim(f.value, "[] \t\n") != "" {
				start = f.start
				break
			}
		}
	case i >= 0:
		value := strings.TrimLeft(text[i:], " ")
		if !strings.HasPrefix(value, "[") {
			return p.blockItems(i)
		}
		start = len(text) - len(value)
	}
	if start < 0 {
		return p, nil, false
	}
	elements, end := flowParts(text[start:])
	if end < 0 {
		end = len(text) - start
	}
	line, at := p.line, 0
	for _, e := range elements {
		for _, value := range apart(e) {
			line += strings.Count(text[at:start+value.start], "\n")
			at = start + value.start
			items = append(items, part{text: value.value, line: line})
		}
	}
	return p.withItems(text[:start]+"[]"+text[start+end:], items)
}

// apart cuts an element that is several, because there is no comma between them.
func apart(e flowPart) (elements []flowPart) {
	for isFlow(e.value) {
		_, end := flowParts(e.value)
		rest := withoutComments(e.value[max(end, 0):])
		if end < 0 || rest == "" {
			break
		}
		elements = append(elements, flowPart{value: e.value[:end], start: e.start})
		e = flowPart{value: rest, start: e.start + len(e.value) - len(rest)}
	}
	return append(elements, e)
}

// withItems completes what items returns. head is the text of the list without them.
func (p part) withItems(head string, items []part) (part, []part, bool) {
	list := p
	list.text = head
	kind := ""
	if list.kindOf() == "SecretList" {
		kind = "Secret"
	}
	for i := range items {
		items[i].kind, items[i].depth = kind, p.depth+1
	}
	return list, items, len(items) > 0 && hasItemsByKind(list.kindOf())
}

func (p part) kindOf() string {
	kind, _, _ := guessAbout(p.text)
	return kind
}

// itemsLine returns where the value of items is in a block of YAML; -1 if it has none.
func itemsLine(text string) int {
	at := 0
	for line := range strings.Lines(text) {
		if name, _, ok := strings.Cut(line, ":"); ok && strings.Trim(name, `"'`) == "items" {
			return at + len(name) + 1
		}
		at += len(line)
	}
	return -1
}

// blockItems is items for a block: each item begins with a dash, in one column. start
// is where the value of items begins.
func (p part) blockItems(start int) (head part, items []part, ok bool) {
	var outside strings.Builder // the list without its items, but with their lines
	outside.WriteString(p.text[:start])
	at, line := start, p.line+strings.Count(p.text[:start], "\n")
	column, dash := -1, -1 // where dashes are in a line; where the item's is in the text
	finish := func() {
		if dash >= 0 {
			items[len(items)-1].text = dedent(p.text[dash-column:dash] + " " + p.text[dash+1:at])
		}
	}
	for text := range strings.Lines(p.text[start:]) {
		content := strings.TrimLeft(text, " ")
		indent := len(text) - len(content)
		isItem := strings.HasPrefix(content, "-") && (len(content) == 1 || strings.IndexByte(" \t\n", content[1]) >= 0)
		if column < 0 && isItem {
			column = indent
		}
		switch {
		case column < 0:
			outside.WriteString(text)
		case isItem && indent == column:
			finish()
			dash = at + indent
			items = append(items, part{line: line})
			outside.WriteString("\n")
		case indent > column, strings.TrimSpace(content) == "", content[0] == '#', content[0] == '\t': // a block is not indented by tabs
			outside.WriteString("\n")
		default:
			finish()
			outside.WriteString(p.text[at:])
			return p.withItems(outside.String(), items)
		}
		at += len(text)
		line++
	}
	finish()
	return p.withItems(outside.String(), items)
}

// dedent moves a block to the left, so that its first line begins in the first column.
func dedent(text string) string {
	var out strings.Builder
	column := -1
	for line := range strings.Lines(text) {
		content := strings.TrimLeft(line, " ")
		if column < 0 && strings.TrimSpace(content) != "" && content[0] != '#' {
			column = len(line) - len(content)
		}
		out.WriteString(line[min(len(line)-len(content), max(column, 0)):])
	}
	return out.String()
}

// withoutComments is a text without the empty lines and comments that it begins with.
func withoutComments(text string) string {
	for {
		text = strings.TrimLeft(text, " \t\n\ufeff\u0085\u2028\u2029")
		if !strings.HasPrefix(text, "#") {
			return text
		}
		_, text, _ = strings.Cut(text, "\n")
	}
}

// unreadable notes that a part cannot be read, unless it is plainly of a kind that is
// passed over.
func (m *manifest) unreadable(p part, err error) {
	kind, name, namespace := guessAbout(p.text)
	if json, lenient := yaml.YAMLToJSON([]byte(p.text)); lenient == nil && errors.Is(err, errTwice) {
		if !mayHoldSecrets(cmp.Or(kind, p.kind)) && !strings.Contains(p.text, "dockerc") {
			return
		}
		var other string
		readAbout(json, &other, &name, &namespace)
	}
	if hint := p.oddLine(); hint != "" {
		err = fmt.Errorf("%w: %s", err, hint)
	}
	self := ""
	switch kind = plainKind(cmp.Or(kind, p.kind)); {
	case isObjectName(name):
		if !isObjectName(namespace) {
			namespace = ""
		}
		self = fmt.Sprintf("%s %s", cmp.Or(kind, "object"), quote(joinName(namespace, name)))
		err = fmt.Errorf("%s %w", self, err)
	case name != "":
		err = fmt.Errorf("%s at line %d %w", cmp.Or(kind, "object"), p.firstLine(), err)
	case kind != "":
		err = fmt.Errorf("%s %w", kind, err)
	}
	m.problem(withNames(err, slices.DeleteFunc(secretNames(p.text), func(name string) bool { return name == self })))
}

// oddLine says which line of a text no YAML has, and what it seems to be; "" if there is none.
func (p part) oddLine() string {
	number := p.line
	for line := range strings.Lines(p.text) {
		number++
		content := strings.TrimRight(line, " \t\n")
		what := ""
		switch {
		case strings.HasPrefix(content, "```"):
			what = "the mark of a code block in Markdown"
		case strings.HasPrefix(content, "$ "):
			what = "a command"
		case strings.HasPrefix(content, "<<<<<<<"), strings.HasPrefix(content, ">>>>>>>"), content == "=======":
			what = "the mark of a conflict of versions"
		case len(content) > 1 && (strings.Trim(content, "=") == "" || strings.Trim(content, "*") == "" || content == "--"):
			return fmt.Sprintf("write --- between documents in place of line %d", number)
		}
		if what != "" {
			return fmt.Sprintf("line %d is %s: leave it out", number, what)
		}
	}
	return ""
}

// firstLine is the line of the manifest with which the text of a part begins.
func (p part) firstLine() int {
	return p.line + 1 + strings.Count(p.text[:len(p.text)-len(withoutComments(p.text))], "\n")
}

// isObjectName reports whether a text is a name that an object can have: a DNS-1123
// name. Of a text that is malformed, the name that was found may be all that follows it,
// with a password, and an error shows no other than such a name.
func isObjectName(text string) bool {
	const longest = 253
	if len(text) > longest {
		return false
	}
	for label := range strings.SplitSeq(text, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}

// withNames is an error that also says which Secrets are not read because of it.
func withNames(err error, names []string) error {
	if len(names) == 0 {
		return err
	}
	return fmt.Errorf("%w; not read with it: %s", err, listed(names))
}

// listed lists names for an error, the first few of them.
func listed(names []string) string {
	if more := len(names) - maxListed; more > 0 {
		names = append(names[:maxListed:maxListed], fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}

// fieldsOfObjects yields the fields that say what an object is, in any text.
func fieldsOfObjects(text string) iter.Seq2[string, string] {
	const (
		longest      = len("namespace") + len(`""`) + 8
		longestValue = 300 // no name is longer
	)
	return func(yield func(string, string) bool) {
		for at := 0; ; at++ {
			i := strings.IndexByte(text[at:], ':')
			if i < 0 {
				return
			}
			at += i
			name := strings.TrimRight(text[max(0, at-longest):at], " \t\"'")
			name = name[strings.LastIndexFunc(name, func(r rune) bool { return !isAlnumRune(r) })+1:]
			if name != "kind" && name != "name" && name != "namespace" {
				continue
			}
			value := strings.TrimLeft(text[at+1:min(len(text), at+1+longestValue)], " \t\"'")
			if end := strings.IndexAny(value, " \t\r\n\"',{}[]#"); end >= 0 {
				value = value[:end]
			}
			if value != "" && !yield(name, value) {
				return
			}
		}
	}
}

// secretNames returns what the Secrets are called that a text seems to hold, however
// malformed it is: secret "namespace/name".
func secretNames(text string) (names []string) {
	var name, namespace string
	inSecret := false
	finish := func() {
		if inSecret && name != "" {
			full := "a secret whose name is not a DNS name"
			if !isObjectName(namespace) {
				namespace = ""
			}
			if isObjectName(name) {
				full = "secret " + quote(joinName(namespace, name))
			}
			if !slices.Contains(names[max(0, len(names)-maxListed):], full) {
				names = append(names, full)
			}
		}
		name, namespace = "", ""
	}
	for field, value := range fieldsOfObjects(text) {
		switch {
		case field == "kind":
			finish()
			inSecret = resembles(value, "Secret")
		case field == "name" && name == "":
			name = value
		case field == "namespace" && namespace == "":
			namespace = value
		}
	}
	finish()
	return names
}

// resembles reports whether a word is a kind, or was meant to be: it is written with
// other letters, in the plural, or with one letter wrong.
func resembles(word, kind string) bool {
	letters := strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, word)
	kind = strings.ToLower(kind)
	return letters == kind || letters == kind+"s" || len(kind) > len("list") && nearly(letters, kind)
}

// nearly reports whether two words differ in one letter: another one, one more, one less,
// or two in the wrong order.
func nearly(a, b string) bool {
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return len(a) <= 1 && len(b) <= 1 || len(a) == 2 && len(b) == 2 && a[0] == b[1] && a[1] == b[0]
}

// A flowPart is a member of an object, or an element of a list, of JSON or of YAML in
// flow style.
type flowPart struct {
	name  string // of a member, without quotes
	value string // as it is written
	start int    // of value, in the text that was cut
}

func hasItems(parts []flowPart) bool {
	return slices.ContainsFunc(parts, func(p flowPart) bool { return p.name == "items" && strings.HasPrefix(p.value, "[") })
}

// flowParts cuts what text has in the bracket that it begins with into its parts, as far
// as that can be done although it may be malformed. end is where the bracket is closed;
// -1 if it is not.
func flowParts(text string) (parts []flowPart, end int) {
	depth := 0
	start, colon := 1, -1       // of the part, and behind its name
	word, quoted := true, false // a word may begin here; a quoted one has just ended
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
		behindQuoted := quoted
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
			if behindQuoted || i+1 == len(text) || strings.IndexByte(" \t\n\"'{[", text[i+1]) >= 0 {
				if depth == 1 && colon < 0 {
					colon = i + 1
				}
				word = true
			}
		case ' ', '\t', '\n':
			quoted = behindQuoted
		case '#':
			if text[i-1] == ' ' || text[i-1] == '\n' {
				i += strings.IndexByte(text[i:]+"\n", '\n') - 1
			}
		case '"', '\'':
			if behindQuoted && depth == 1 { // a comma is missing
				cut(i)
				start = i
			}
			if word || behindQuoted {
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

// quotedEnd returns where the quotes are closed that are opened at start: on the same
// line, or not at all.
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

// unquoted is a word of YAML without its quotes and without a comment behind it.
func unquoted(word string) string {
	word, _, _ = strings.Cut(word, " #")
	return strings.Trim(strings.TrimSpace(word), `"'`)
}

// splitYAML cuts at the markers of YAML: --- or ... at the beginning of a line and a
// space or line end behind it. Inside of a document such a line cannot stand.
func splitYAML(s string) []string {
	var docs []string
	var doc strings.Builder
	for line := range strings.Lines(s) {
		rest, marker := strings.CutPrefix(line, "---")
		if marker && (rest == "" || strings.ContainsAny(rest[:1], " \t\r\n")) {
			docs = append(docs, doc.String())
			doc.Reset()
			line = "   " + rest // the columns of what follows on the line stay
			if strings.TrimSpace(rest) == "" {
				line = "\n"
			}
		}
		if rest, end := strings.CutPrefix(line, "..."); end && (rest == "" || strings.ContainsAny(rest[:1], " \t\n")) {
			docs = append(docs, doc.String())
			doc.Reset()
			line = "\n"
		}
		doc.WriteString(line)
	}
	return append(docs, doc.String())
}

// yamlError says where, and not what: the reader's own texts quote the document.
// before is how many lines stand before what was read.
func yamlError(err error, before int) error {
	_, rest, ok := strings.Cut(err.Error(), "line ")
	if ok {
		number, _, _ := strings.Cut(rest, ":")
		if n, err := strconv.Atoi(number); err == nil {
			n += before
			if strings.Contains(rest, "already set in map") {
				return fmt.Errorf("%w: line %d", errTwice, n)
			}
			return fmt.Errorf("is not YAML: line %d", n)
		}
	}
	return errors.New("is not YAML")
}

// A manifest is one that is being read.
type manifest struct {
	secrets  []Secret
	problems []error
	document int // the one that is being read, from 1
	lines    int // before the text that is being read
	objects  int
	effort   int // how many bytes may still be looked through for where documents end
}

// problem notes that the document, or an object of it, is left out.
func (m *manifest) problem(err error) {
	m.problems = append(m.problems, fmt.Errorf("manifest, document %d: %w", m.document, err))
}

// hasItemsByKind reports whether an object of a kind is a list of objects, or was meant to be.
func hasItemsByKind(kind string) bool {
	return strings.HasSuffix(kind, "List") || resembles(kind, "List") || resembles(kind, "SecretList")
}

// mayHoldSecrets reports whether an object of a kind is a Secret or may hold some, or was
// meant to.
func mayHoldSecrets(kind string) bool { return resembles(kind, "Secret") || hasItemsByKind(kind) }

// tooMany counts an object that is at a depth of lists, and reports whether there are
// too many, or the lists too deep.
func (m *manifest) tooMany(text string, depth int) bool {
	m.objects++
	switch {
	case m.objects > maxObjects:
		if m.objects == maxObjects+1 { // said once
			m.problem(errors.New("holds too many objects"))
		}
		return true
	case depth > maxListDepth:
		m.problem(withNames(fmt.Errorf("has lists within lists, more than %d deep", maxListDepth), secretNames(text)))
		return true
	}
	return false
}

// add reads one object, which may be a list of objects. Where one object of a list
// cannot be read, the others are.
func (m *manifest) add(data []byte, depth int) {
	if m.tooMany(string(data), depth) {
		return
	}
	switch kind := strictjson.KindOf(data); {
	case kind == strictjson.KindNull && depth == 0: // an empty document
		return
	case kind == strictjson.KindArray:
		m.problem(withNames(errors.New("is an array, not an object: write its items under items of kind: List, or each as a document of its own"), secretNames(string(data))))
		return
	case kind != strictjson.KindObject:
		err := fmt.Errorf("is %s, not an object", article(kind))
		text, _, _ := readString(data)
		if decoded, ok := keys.DecodeBase64(text); ok && len(secretNames(string(decoded))) > 0 {
			err, text = fmt.Errorf("%w: it is base64 of a manifest", err), string(decoded)
		}
		m.problem(withNames(err, secretNames(text)))
		return
	}
	members, err := readObject(data)
	if err != nil {
		m.problem(err)
		return
	}
	object := readAsObject(members)
	switch kind := object.kind; {
	case kind == "Secret":
		s, err := readSecret(members)
		if err != nil {
			m.problem(&EntryError{s.origin(), err})
			return
		}
		m.secrets = append(m.secrets, s)
	case hasItemsByKind(kind), kind == "" && object.items != nil:
		if fault := object.listFault(); fault != nil {
			m.problem(fault)
		}
		m.addItems(kind, object.items, depth)
	case object.kindField == "" && isCredentialFile(members):
		m.problem(errors.New("is a credential file, not an object: ParseFile reads it"))
	case object.kindField == "" && len(members) == 1 && strings.HasPrefix(members[0].Key, "Error from server"):
		m.problem(errors.New("is an error message of kubectl, not an object"))
	default:
		if fault := object.secretFault(members); fault != nil {
			s, _ := readSecret(members)
			m.problem(&EntryError{s.origin(), fault})
		}
	}
}

// addItems reads the items of a list of objects.
func (m *manifest) addItems(kind string, items []byte, depth int) {
	if found := strictjson.KindOf(items); found == strictjson.KindNull {
		return
	} else if found != strictjson.KindArray {
		m.problem(withNames(fmt.Errorf("items is %s, not a list", article(found)), secretNames(string(items))))
		return
	}
	list, err := strictjson.Elements(items)
	if err != nil {
		m.problem(errors.New("items is not a list"))
		return
	}
	for _, item := range list {
		if kind == "SecretList" { // its items need not say what they are
			item = withKind(item)
		}
		m.add(item, depth+1)
	}
}

// An object is what a document says of itself. Fields that are nearly called so are among
// them.
type object struct {
	kind            string // "" if it has none that is a string
	kindField       string // "" if there is none
	kindValue       []byte
	items           []byte
	itemsField      string
	isPullSecret    bool // it has the type or the data of one
	hasSecretFields bool
}

func readAsObject(members []member) object {
	var o object
	for _, f := range members {
		switch name := strings.TrimSpace(f.Key); {
		case f.Key == "kind", strings.EqualFold(name, "kind") && o.kindField == "":
			o.kindField, o.kindValue = f.Key, f.Value
		case f.Key == "items", strings.EqualFold(name, "items") && o.items == nil:
			o.itemsField, o.items = f.Key, f.Value
		case strings.EqualFold(name, "type"), strings.EqualFold(name, "data"), strings.EqualFold(name, "stringData"):
			o.hasSecretFields = true
			o.isPullSecret = o.isPullSecret || bytes.Contains(f.Value, []byte("dockerc"))
		}
	}
	if o.kindField == "kind" {
		o.kind, _, _ = readString(o.kindValue)
	}
	return o
}

// listFault says what is wrong with the fields of a list of objects; nil if nothing is.
func (o object) listFault() error {
	switch {
	case o.kind == "" && o.kindField == "":
		return errors.New("has items and no kind: write kind: List")
	case o.kind == "":
		return fmt.Errorf("has items and %s: write kind: List", o.kindFault())
	case !strings.HasSuffix(o.kind, "List"):
		return fmt.Errorf("is of kind %s: write kind: List", quote(o.kind))
	case o.items != nil && o.itemsField != "items":
		return fmt.Errorf("has a field %s, which is written items", quote(o.itemsField))
	}
	return nil
}

// secretFault says why an object that seems to be a Secret is not one; nil if it does not
// seem so.
func (o object) secretFault(members []member) error {
	isObject := slices.ContainsFunc(members, func(f member) bool { return f.Key == "metadata" })
	switch {
	case o.kind == "" && slices.ContainsFunc(members, func(f member) bool {
		return strings.HasPrefix(f.Key, "//") && (mentionsSecret([]byte(f.Key)) || mentionsSecret(f.Value))
	}):
		return errors.New("has a comment with //, which is taken for a part of the field behind it: leave it out")
	case o.kind != "" && resembles(o.kind, "Secret"):
		return fmt.Errorf("is of kind %s: write kind: Secret", quote(o.kind))
	case o.kind != "":
		return nil
	case o.isPullSecret, o.hasSecretFields && isObject, mentionsSecret(o.kindValue):
		return fmt.Errorf("has %s: write kind: Secret", o.kindFault())
	}
	return nil
}

// isCredentialFile reports whether the fields of an object are those of a credential file.
func isCredentialFile(members []member) bool {
	return slices.ContainsFunc(members, func(f member) bool {
		return isLegacyAuths(f) || isRegistryKey(f.Key) && isEntry(f.Value)
	})
}

// mentionsSecret reports whether a value that is in place of a kind names a Secret.
func mentionsSecret(value []byte) bool {
	return bytes.Contains(bytes.ToLower(value), []byte("secret"))
}

// kindFault says what is in place of a kind.
func (o object) kindFault() string {
	switch found := strictjson.KindOf(o.kindValue); {
	case o.kindField != "" && o.kindField != "kind":
		return fmt.Sprintf("a field %s and no kind", quote(o.kindField))
	case found == strictjson.KindNull, found == strictjson.KindString:
		return "no kind"
	default:
		return fmt.Sprintf("a kind that is %s", article(found))
	}
}

func withKind(item []byte) []byte {
	rest, ok := bytes.CutPrefix(bytes.TrimSpace(item), []byte("{"))
	if !ok {
		return item
	}
	if bytes.Equal(bytes.TrimSpace(rest), []byte("}")) {
		return []byte(`{"kind":"Secret"}`)
	}
	return append([]byte(`{"kind":"Secret",`), rest...)
}

// readAbout reads what an object says of itself, as far as it can be read.
func readAbout(data []byte, kind, name, namespace *string) {
	members, _ := readObject(data)
	for _, f := range members {
		switch f.Key {
		case "kind":
			*kind, _, _ = readString(f.Value)
		case "metadata":
			var s Secret
			_ = s.readMetadata(f.Value)
			*name, *namespace = s.Name, s.Namespace
		}
	}
}

// guessAbout finds the same in the text of an object that cannot be read, because a
// template is left in it for example.
func guessAbout(text string) (kind, name, namespace string) {
	if isFlow(text) {
		members, _ := flowParts(text)
		for _, f := range members {
			switch f.name {
			case "kind":
				kind = likelier(kind, unquoted(f.value))
			case "metadata":
				name, namespace = flowNames(f.value)
			}
		}
		return kind, name, namespace
	}
	inMetadata := false
	indent := 0 // of the members of metadata; 0 before the first
	at := 0
	for line := range strings.Lines(text) {
		at += len(line)
		field, value, ok := strings.Cut(strings.TrimRight(line, " \t\r\n"), ":")
		nested := strings.TrimLeft(field, " ")
		depth := len(field) - len(nested)
		field = unquoted(field)
		if ok && depth > 0 {
			if indent == 0 {
				indent = depth
			}
			switch {
			case depth != indent: // a member of labels, say
			case inMetadata && field == "name" && name == "":
				name = unquoted(value)
			case inMetadata && field == "namespace" && namespace == "":
				namespace = unquoted(value)
			}
			continue
		}
		if depth == 0 {
			inMetadata, indent = field == "metadata", 0
		}
		switch value = strings.TrimSpace(value); {
		case field == "kind":
			kind = likelier(kind, unquoted(value))
		case field == "metadata" && strings.HasPrefix(value, "{"):
			name, namespace = flowNames(text[at-len(line)+strings.IndexByte(line, '{'):])
		}
	}
	return kind, name, namespace
}

// likelier returns which of two kinds that an object has it is rather reported as: one
// that may hold Secrets.
func likelier(first, second string) string {
	if first == "" || !mayHoldSecrets(first) && mayHoldSecrets(second) {
		return second
	}
	return first
}

// flowNames are the names in metadata that is written in braces.
func flowNames(text string) (name, namespace string) {
	if !strings.HasPrefix(text, "{") {
		return "", ""
	}
	members, _ := flowParts(text)
	for _, f := range members {
		switch f.name {
		case "name":
			name = unquoted(f.value)
		case "namespace":
			namespace = unquoted(f.value)
		}
	}
	return name, namespace
}

// plainKind is an object's kind for an error; "" if it is not like a kind.
func plainKind(kind string) string {
	if plainName(kind) {
		return strings.ToLower(kind)
	}
	return ""
}

// blankYAML reports whether a document has nothing but space and comments.
func blankYAML(doc string) bool {
	for line := range strings.Lines(doc) {
		// A line of % is a directive, which stands before a document.
		if text := strings.TrimSpace(line); text != "" && !strings.HasPrefix(text, "#") && !strings.HasPrefix(line, "%") {
			return false
		}
	}
	return true
}
