package credentials

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// maxObjects bounds the objects of one manifest, those in lists included.
const maxObjects = 100_000

// ParseSecrets reads the Secrets of a manifest: YAML or JSON, one document or
// several, Lists of objects, data and stringData (which wins). Objects of other
// kinds are passed over. The error says which document cannot be read; data that
// is not base64 is for [Secret.Validate] to tell. A manifest larger than 8 MiB is
// refused.
func ParseSecrets(data []byte) ([]Secret, error) {
	if len(data) > maxDocument {
		return nil, fmt.Errorf("manifest %w", errTooLarge)
	}
	docs, err := splitDocuments(data)
	if err != nil {
		return nil, err
	}
	var m manifest
	for i, doc := range docs {
		if err := m.add(doc, 0); err != nil {
			return nil, fmt.Errorf("manifest, document %d: %w", i+1, err)
		}
	}
	return m.secrets, nil
}

// splitDocuments returns the documents of a manifest as JSON.
func splitDocuments(data []byte) ([]json.RawMessage, error) {
	var docs []json.RawMessage
	for _, part := range splitYAML(string(data)) {
		values, err := readJSONs(part)
		if len(values) == 0 { // YAML; flow YAML begins like JSON
			var doc []byte
			doc, err = yaml.YAMLToJSONStrict([]byte(part))
			values = []json.RawMessage{doc}
			if err != nil {
				err = yamlError(err)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("manifest, document %d: %w", len(docs)+len(values), err)
		}
		docs = append(docs, values...)
	}
	return docs, nil
}

// readJSONs reads JSON objects that follow each other, until one is malformed:
// that one is the last, and nil. There are none where the first is no JSON.
func readJSONs(s string) (values []json.RawMessage, err error) {
	if !strings.HasPrefix(strings.TrimSpace(s), "{") {
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

// splitYAML cuts at the markers of YAML: --- at the beginning of a line and a
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
		doc.WriteString(line)
	}
	return append(docs, doc.String())
}

// yamlError says where, and not what: the reader's own texts quote the document.
func yamlError(err error) error {
	_, rest, ok := strings.Cut(err.Error(), "line ")
	if ok {
		if number, _, _ := strings.Cut(rest, ":"); number != "" && isDigits(number) {
			if strings.Contains(rest, "already set in map") {
				return fmt.Errorf("holds a field twice: line %s", number)
			}
			return fmt.Errorf("is not YAML: line %s", number)
		}
	}
	return errors.New("is not YAML")
}

type manifest struct {
	secrets []Secret
	objects int
}

// add reads one object, which may be a list of objects.
func (m *manifest) add(data []byte, depth int) error {
	if m.objects++; m.objects > maxObjects || depth > 10 {
		return errors.New("holds too many objects")
	}
	members, err := readObject(data)
	if err != nil {
		return err
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
			return err
		}
		m.secrets = append(m.secrets, s)
	case strings.HasSuffix(kind, "List") && kindOf(items) == "array":
		var list []json.RawMessage
		if err := json.Unmarshal(items, &list); err != nil {
			return errors.New("items is not a list")
		}
		for _, item := range list {
			if kind == "SecretList" { // its items need not say what they are
				item = withKind(item)
			}
			if err := m.add(item, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
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

func readSecret(members []member) (Secret, error) {
	s := Secret{Data: map[string]Sensitive{}}
	var text []member
	for _, f := range members {
		var err error
		switch f.name {
		case "metadata":
			err = s.readMetadata(f.value)
		case "type":
			s.Type, _, err = readString(f.value)
		case "data":
			err = s.readData(f.value)
		case "stringData":
			text, err = readObject(f.value)
		}
		if err != nil {
			return Secret{}, fmt.Errorf("secret %s: %s %w", quote(s.Name), f.name, err)
		}
	}
	for _, t := range text {
		value, _, err := readString(t.value)
		if err != nil {
			return Secret{}, fmt.Errorf("secret %s: stringData[%s] %w", quote(s.Name), quote(t.name), err)
		}
		s.Data[t.name] = Conceal(value)
	}
	s.notBase64 = slices.DeleteFunc(s.notBase64, func(name string) bool {
		_, ok := s.Data[name]
		return ok
	})
	return s, nil
}

func (s *Secret) readMetadata(data []byte) error {
	members, err := readObject(data)
	if err != nil {
		return err
	}
	for _, f := range members {
		switch f.name {
		case "name":
			s.Name, _, err = readString(f.value)
		case "namespace":
			s.Namespace, _, err = readString(f.value)
		case "uid":
			s.UID, _, err = readString(f.value)
		}
		if err != nil {
			return fmt.Errorf("%s %w", f.name, err)
		}
	}
	return nil
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
			return fmt.Errorf("%s %w", quote(f.name), err)
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
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return false
		}
	}
	return true
}
