package credentials

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

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
// and for [Secrets.Problems].
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
	// YAML counts each of these as the end of a line.
	text := strings.ReplaceAll(strings.ReplaceAll(string(data), "\r\n", "\n"), "\r", "\n")
	for _, text := range splitYAML(text) {
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

// addText reads the text between two markers. What begins with a brace is JSON or YAML
// in flow style, and may be several documents that follow each other; all else is one
// document.
func (m *manifest) addText(text string) {
	if !isFlow(withoutComments(text)) {
		m.document++
		m.addPart(part{text: text, line: m.lines})
		return
	}
	first := true
	for line := m.lines; ; first = false {
		rest := withoutComments(text)
		line += strings.Count(text[:len(text)-len(rest)], "\n")
		if text = rest; text == "" {
			return
		}
		m.document++
		end, effort := documentEnd(text, first)
		if m.effort -= effort; m.effort < 0 {
			m.problem(errors.New("is left out with all that follows it, because too much of the manifest is malformed"))
			return
		}
		document := text[:end]
		m.addPart(part{text: document, line: line})
		line += strings.Count(document, "\n")
		text = text[len(document):]
	}
}

// isFlow reports whether a text is JSON or YAML in flow style, by its beginning. Two
// braces are a template's.
func isFlow(text string) bool {
	return strings.HasPrefix(text, "{") && !strings.HasPrefix(text, "{{")
}

// documentEnd returns where the first document of a text ends. What is in braces ends
// with them. If they are not closed, or are closed so late that what is between them
// cannot be read, and for all else, the next line that begins with a brace is another
// document. first says that no document was cut off the text before. effort is how many
// bytes were looked through.
func documentEnd(text string, first bool) (end, effort int) {
	if strings.HasPrefix(text, "{{") {
		return len(text), 0
	}
	next := 0
	for {
		i := strings.Index(text[next:], "\n{")
		if i < 0 {
			next = len(text)
			break
		}
		if next += i + 1; isFlow(text[next:]) {
			break
		}
	}
	if !isFlow(text) {
		return next, next
	}
	parts, end := flowParts(text)
	switch {
	case end < 0 && first && isOneFlow(text):
		return len(text), len(text)
	case end < 0:
		return next, len(text)
	case end > next && !hasItems(parts) && !isReadable(text[:end]):
		return next, max(end, maxEffort/64) // to parse them takes longer
	}
	return end, end
}

func isReadable(text string) bool {
	if strictjson.Valid([]byte(text)) {
		return true
	}
	_, err := yaml.YAMLToJSON([]byte(text))
	return err == nil
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
	if m.tooMany(p.depth) {
		return
	}
	head, items, ok := p.items()
	if !ok {
		m.unreadable(p, err)
		return
	}
	for _, item := range items {
		if m.objects > maxObjects {
			return
		}
		m.addPart(item)
	}
	if _, err := head.json(); err != nil {
		m.unreadable(head, err)
	}
}

// json is the part in JSON. The error says what is wrong, and where.
func (p part) json() ([]byte, error) {
	data := []byte(p.text)
	if strictjson.Valid(data) {
		return p.typed(data), nil
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
	start, end := -1, -1 // of what is in brackets
	if isFlow(text) {
		members, _ := flowParts(text)
		for _, f := range members {
			if f.name == "items" && strings.HasPrefix(f.value, "[") {
				start = f.start
			}
		}
	} else if i := itemsLine(text); i >= 0 {
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
	for _, e := range elements {
		items = append(items, part{text: e.value, line: p.line + strings.Count(text[:start+e.start], "\n")})
	}
	return p.withItems(text[:start]+"[]"+text[start+end:], items)
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
	return list, items, len(items) > 0 && strings.HasSuffix(list.kindOf(), "List")
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
		isItem := strings.HasPrefix(content, "-") && strings.TrimLeft(content[1:2], " \t\r\n") == ""
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
		text = strings.TrimLeft(text, " \t\n\ufeff")
		if !strings.HasPrefix(text, "#") {
			return text
		}
		_, text, _ = strings.Cut(text, "\n")
	}
}

// unreadable notes that a part cannot be read, unless it is plainly of a kind that is
// passed over.
func (m *manifest) unreadable(p part, err error) {
	var kind, name, namespace string
	if json, lenient := yaml.YAMLToJSON([]byte(p.text)); lenient == nil { // a field is there twice
		if readAbout(json, &kind, &name, &namespace); !hasSecrets(cmp.Or(kind, p.kind)) {
			return
		}
	} else {
		kind, name, namespace = guessAbout(p.text)
	}
	if kind = plainKind(cmp.Or(kind, p.kind)); name != "" {
		err = fmt.Errorf("%s %s %w", cmp.Or(kind, "object"), quote(joinName(namespace, name)), err)
	} else if kind != "" {
		err = fmt.Errorf("%s %w", kind, err)
	}
	m.problem(err)
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
				return fmt.Errorf("holds a field twice: line %d", n)
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

// hasSecrets reports whether an object of a kind is a Secret or may hold some.
func hasSecrets(kind string) bool { return kind == "Secret" || strings.HasSuffix(kind, "List") }

// tooMany counts an object that is at a depth of lists, and reports whether there are
// too many.
func (m *manifest) tooMany(depth int) bool {
	m.objects++
	if m.objects <= maxObjects && depth <= maxListDepth {
		return false
	}
	if m.objects <= maxObjects+1 { // said once
		m.problem(errors.New("holds too many objects"))
	}
	return true
}

// add reads one object, which may be a list of objects. Where one object of a list
// cannot be read, the others are.
func (m *manifest) add(data []byte, depth int) {
	if m.tooMany(depth) {
		return
	}
	members, err := readObject(data)
	if err != nil {
		m.problem(err)
		return
	}
	var kind string
	var items []byte
	for _, f := range members {
		switch f.Key {
		case "kind":
			kind, _, _ = readString(f.Value)
		case "items":
			items = f.Value
		}
	}
	switch {
	case kind == "Secret":
		s, err := readSecret(members)
		if err != nil {
			m.problem(&EntryError{s.origin(), err})
			return
		}
		m.secrets = append(m.secrets, s)
	case strings.HasSuffix(kind, "List") && strictjson.KindOf(items) == strictjson.KindArray:
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
				kind = unquoted(f.value)
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
		case field == "kind" && kind == "":
			kind = unquoted(value)
		case field == "metadata" && strings.HasPrefix(value, "{"):
			name, namespace = flowNames(text[at-len(line)+strings.IndexByte(line, '{'):])
		}
	}
	return kind, name, namespace
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
