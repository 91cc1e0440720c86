package credentials

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// maxObjects bounds the objects of one manifest, those in lists included.
const maxObjects = 100_000

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
	var m manifest
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

// addText reads the text between two markers: a document of YAML, or values of JSON
// that follow each other.
func (m *manifest) addText(text string) {
	values, err := readJSONs(text)
	if len(values) == 0 { // YAML; flow YAML begins like JSON
		m.document++
		doc, err := yaml.YAMLToJSONStrict([]byte(text))
		if err != nil {
			m.unreadable(text, yamlError(err, m.lines))
			return
		}
		m.add(doc, 0)
		if hasMoreThanOne(text) {
			m.document++
			m.problem(errors.New("is left out, because no line of --- separates it from the one before it"))
		}
		return
	}
	for i, value := range values {
		m.document++
		if err != nil && i == len(values)-1 {
			m.problem(err)
			return
		}
		m.add(value, 0)
	}
}

// hasMoreThanOne reports whether more follows a document that is written in braces.
// The YAML reader takes the first document and does not look further. In brackets,
// one document is a list of one.
func hasMoreThanOne(text string) bool {
	if !strings.HasPrefix(withoutComments(text), "{") {
		return false
	}
	var list []any
	err := yaml.Unmarshal([]byte("["+text+"\n]"), &list)
	return err != nil || len(list) > 1
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

// unreadable notes that a document is not YAML, unless it is plainly of a kind that
// is passed over.
func (m *manifest) unreadable(text string, err error) {
	var about struct {
		Kind     string
		Metadata struct{ Name, Namespace string }
	}
	if json, lenient := yaml.YAMLToJSON([]byte(text)); lenient == nil { // a field is there twice
		if readAbout(json, &about.Kind, &about.Metadata.Name, &about.Metadata.Namespace); !hasSecrets(about.Kind) {
			return
		}
	} else {
		about.Kind, about.Metadata.Name, about.Metadata.Namespace = guessAbout(text)
	}
	if kind := plainKind(about.Kind); about.Metadata.Name != "" {
		err = fmt.Errorf("%s %s %w", cmp.Or(kind, "object"), quote(joinName(about.Metadata.Namespace, about.Metadata.Name)), err)
	} else if kind != "" {
		err = fmt.Errorf("%s %w", kind, err)
	}
	m.problem(err)
}

// readJSONs reads JSON objects that follow each other, until one is malformed:
// that one is the last, and nil. There are none where the first is no JSON.
func readJSONs(s string) (values []json.RawMessage, err error) {
	if s = withoutComments(s); !strings.HasPrefix(s, "{") {
		return nil, nil
	}
	dec := json.NewDecoder(strings.NewReader(s))
	for {
		var value json.RawMessage
		err := dec.Decode(&value)
		switch {
		case err == io.EOF:
			return values, nil
		case err != nil && len(values) == 0:
			return nil, nil
		}
		values = append(values, value)
		if err != nil {
			return values, errors.New("is not JSON")
		}
	}
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
}

// problem notes that the document, or an object of it, is left out.
func (m *manifest) problem(err error) {
	m.problems = append(m.problems, fmt.Errorf("manifest, document %d: %w", m.document, err))
}

// hasSecrets reports whether an object of a kind is a Secret or may hold some.
func hasSecrets(kind string) bool { return kind == "Secret" || strings.HasSuffix(kind, "List") }

// add reads one object, which may be a list of objects. Where one object of a list
// cannot be read, the others are.
func (m *manifest) add(data []byte, depth int) {
	if m.objects++; m.objects > maxObjects || depth > 10 {
		if m.objects <= maxObjects+1 { // said once
			m.problem(errors.New("holds too many objects"))
		}
		return
	}
	members, err := readObject(data)
	if err != nil {
		m.problem(err)
		return
	}
	var kind string
	var items json.RawMessage
	for _, f := range members {
		switch f.name {
		case "kind":
			kind, _, _ = readString(f.value)
		case "items":
			items = f.value
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
	case strings.HasSuffix(kind, "List") && kindOf(items) == "array":
		var list []json.RawMessage
		if err := json.Unmarshal(items, &list); err != nil {
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

func withKind(item json.RawMessage) json.RawMessage {
	rest, ok := bytes.CutPrefix(bytes.TrimSpace(item), []byte("{"))
	if !ok {
		return item
	}
	if bytes.Equal(bytes.TrimSpace(rest), []byte("}")) {
		return json.RawMessage(`{"kind":"Secret"}`)
	}
	return append([]byte(`{"kind":"Secret",`), rest...)
}

// readSecret reads a Secret. On error, what is returned has its name and namespace,
// wherever they stand.
func readSecret(members []member) (Secret, error) {
	s := Secret{Data: map[string]Sensitive{}}
	for _, f := range members {
		if f.name == "metadata" {
			if err := s.readMetadata(f.value); err != nil {
				return s, of("metadata", err)
			}
		}
	}
	var text []member
	for _, f := range members {
		var err error
		switch f.name {
		case "type":
			s.Type, _, err = readString(f.value)
		case "data":
			err = s.readData(f.value)
		case "stringData":
			text, err = readObject(f.value)
		}
		var field *fieldError
		switch {
		case errors.As(err, &field):
			return s, field
		case err != nil:
			return s, &fieldError{f.name, err}
		}
	}
	for _, t := range text {
		value, _, err := readString(t.value)
		if err != nil {
			return s, fmt.Errorf("stringData[%s] %w", dataName(t.name), err)
		}
		s.Data[t.name] = Conceal(value)
	}
	s.notBase64 = slices.DeleteFunc(s.notBase64, func(name string) bool {
		_, ok := s.Data[name]
		return ok
	})
	return s, nil
}

// dataName is the name of a value of data, as it is if it is one that a Secret can
// have, and quoted otherwise.
func dataName(name string) string {
	if isPathPart(name) {
		return name
	}
	return quote(name)
}

// readAbout reads what an object says of itself, as far as it can be read.
func readAbout(data []byte, kind, name, namespace *string) {
	members, _ := readObject(data)
	for _, f := range members {
		switch f.name {
		case "kind":
			*kind, _, _ = readString(f.value)
		case "metadata":
			var s Secret
			_ = s.readMetadata(f.value)
			*name, *namespace = s.Name, s.Namespace
		}
	}
}

// guessAbout finds the same in the lines of a document that is not YAML, because a
// template is left in it for example.
func guessAbout(text string) (kind, name, namespace string) {
	inMetadata := false
	indent := 0 // of the members of metadata; 0 before the first
	for line := range strings.Lines(text) {
		field, value, ok := strings.Cut(strings.TrimRight(line, " \t\r\n"), ":")
		value = strings.Trim(value, ` "'`)
		if nested := strings.TrimLeft(field, " "); ok && nested != field {
			depth := len(field) - len(nested)
			if indent == 0 {
				indent = depth
			}
			switch {
			case depth != indent: // a member of labels, say
			case inMetadata && nested == "name" && name == "":
				name = value
			case inMetadata && nested == "namespace" && namespace == "":
				namespace = value
			}
			continue
		}
		inMetadata, indent = field == "metadata", 0
		if field == "kind" && kind == "" {
			kind = value
		}
	}
	return kind, name, namespace
}

// plainKind is an object's kind for an error; "" if it is not like a kind.
func plainKind(kind string) string {
	if plainName(kind) {
		return strings.ToLower(kind)
	}
	return ""
}

func (s *Secret) readMetadata(data []byte) error {
	members, err := readObject(data)
	if err != nil {
		return err
	}
	var bad error
	for _, f := range members {
		var err error
		switch f.name {
		case "name":
			s.Name, _, err = readString(f.value)
		case "namespace":
			s.Namespace, _, err = readString(f.value)
		case "uid":
			s.UID, _, err = readString(f.value)
		}
		if err != nil && bad == nil {
			bad = &fieldError{f.name, err}
		}
	}
	return bad
}

// readData decodes data. What is not base64 is left for Validate to tell, so that
// one such value does not cost the manifest's other Secrets.
func (s *Secret) readData(data []byte) error {
	members, err := readObject(data)
	if err != nil {
		return err
	}
	for _, f := range members {
		text, _, err := readString(f.value)
		if err != nil {
			return &fieldError{"data[" + dataName(f.name) + "]", err}
		}
		value, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			s.notBase64 = append(s.notBase64, f.name)
			delete(s.Data, f.name)
			continue
		}
		s.Data[f.name] = Conceal(string(value))
	}
	return nil
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
