// Package strictyaml reads YAML documents that may hold secrets. Its errors say where a
// document is malformed and do not quote it, and a field that a mapping has twice is an
// error.
package strictyaml

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// ToJSON returns one document of YAML as JSON. A mapping that has a field twice is an
// error that wraps ErrTwice. before is the number of lines before the document in the
// text. It is added to the line numbers in errors.
func ToJSON(document []byte, before int) ([]byte, error) {
	out, err := yaml.YAMLToJSONStrict(document)
	if err != nil {
		return nil, position(err, before)
	}
	return out, nil
}

// Split cuts a text into its documents, including the blank ones. It cuts at each line
// that begins with --- or ... followed by a space or the end of the line. A document
// cannot have such a line.
func Split(s string) []string {
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

// Blank reports whether a document has only space, comments and directives.
func Blank(doc string) bool {
	for line := range strings.Lines(doc) {
		// A line that begins with % is a directive.
		if text := strings.TrimSpace(line); text != "" && !strings.HasPrefix(text, "#") && !strings.HasPrefix(line, "%") {
			return false
		}
	}
	return true
}

// ErrTwice is the error of a document in which a mapping has a field twice.
var ErrTwice = errors.New("holds a field twice")

// position returns an error that has only the line number of err, because the text of err
// quotes the document.
func position(err error, before int) error {
	_, rest, ok := strings.Cut(err.Error(), "line ")
	if ok {
		number, _, _ := strings.Cut(rest, ":")
		if n, err := strconv.Atoi(number); err == nil {
			n += before
			if strings.Contains(rest, "already set in map") {
				return fmt.Errorf("%w: line %d", ErrTwice, n)
			}
			return fmt.Errorf("is not YAML: line %d", n)
		}
	}
	return errors.New("is not YAML")
}
