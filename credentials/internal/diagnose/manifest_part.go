package diagnose

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/pullkit/pullkit/internal/strictjson"
	"github.com/pullkit/pullkit/internal/strictyaml"
)

// A part is the text of a document of a manifest, or of an item of a list in it.
type part struct {
	text  string
	line  int    // the number of lines before it in the manifest
	kind  string // "Secret" for an item of a SecretList, which may be without a kind
	depth int    // the number of lists around it
}

// json returns the part as JSON. The error says what is wrong, and in which line.
func (p part) json() ([]byte, error) {
	data := []byte(p.text)
	if strictjson.Valid(data) {
		if i := strictjson.Repeated(data); i >= 0 {
			return nil, fmt.Errorf("%w: line %d", strictyaml.ErrTwice, p.line+1+bytes.Count(data[:i], []byte("\n")))
		}
		return p.typed(data), nil
	}
	if line := p.leftOver(); line > 0 {
		return nil, fmt.Errorf("is not YAML: line %d", p.line+line)
	}
	doc, err := strictyaml.ToJSON(data, p.line)
	switch {
	case err == nil:
		return p.typed(doc), nil
	case strings.HasPrefix(withoutComments(p.text[min(len(p.text), 1):]), `"`) && p.text[0] == '{':
		return nil, jsonError(data, p.line)
	}
	for _, mark := range templateMarks {
		if strings.Contains(p.text, mark) {
			err = fmt.Errorf("%w: a template was left in it (%s)", err, mark)
			break
		}
	}
	return nil, err
}

// leftOver returns the number of the first line that a reader of YAML ignores because the
// text before it is a whole document; 0 if there is no such line. It counts from 1. A
// document ends at a line that is indented less than its first line, and a list of dashes
// at a line without a dash.
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

// typed returns an item with its kind, if the item may be without one.
func (p part) typed(data []byte) []byte {
	if p.kind == "" {
		return data
	}
	return withKind(data)
}

// jsonError returns an error that says where JSON is malformed. line is the number of lines
// before data.
func jsonError(data []byte, line int) error {
	var syntax *strictjson.Error
	if !errors.As(strictjson.Decode(data, strictjson.Limits{Depth: strictjson.MaxDepth}, (*strictjson.Reader).Skip), &syntax) {
		return errors.New("is not JSON")
	}
	text := fmt.Sprintf("is not JSON: line %d", line+1+bytes.Count(data[:min(syntax.Offset, len(data))], []byte("\n")))
	if hint := Document(data, syntax.Offset+1); hint != "" {
		text += ": " + hint
	}
	return errors.New(text)
}

// items cuts a list of objects into its items. head is the list without them. ok is false
// if the part is not a list of objects.
func (p part) items() (head part, items []part, ok bool) {
	text := p.text
	start := -1 // the position of the opening bracket
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

// apart cuts an element into its elements. It has more than one if a comma is missing.
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

// withItems returns the results of items. head is the text of the list without them.
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

// itemsLine returns the position of the value of items in a block of YAML; -1 if there is
// none.
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

// blockItems is items for a list in block style, in which each item begins with a dash, all
// in the same column. start is the position of the value of items.
func (p part) blockItems(start int) (head part, items []part, ok bool) {
	var outside strings.Builder // the list, with an empty line in place of each line of its items
	outside.WriteString(p.text[:start])
	at, line := start, p.line+strings.Count(p.text[:start], "\n")
	column, dash := -1, -1 // the column of the dashes; the position of the item's dash in the text
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

// dedent moves a block to the left until its first line begins in the first column.
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

// oddLine names the first line that no YAML document has, and says what the line seems to
// be; "" if there is no such line.
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

// firstLine returns the number of the line of the manifest in which the text of a part
// begins.
func (p part) firstLine() int {
	return p.line + 1 + strings.Count(p.text[:len(p.text)-len(withoutComments(p.text))], "\n")
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
