package credentials

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pullkit/pullkit/internal/strictjson"
	"sigs.k8s.io/yaml"
)

// maxDocument bounds a config.json, a Secret's value, a manifest, a provider
// config and what is read of a file, in bytes. Kubernetes bounds a Secret to
// 1 MiB; a merged file of 5,000 entries has less than that.
const maxDocument = 8 << 20

var errTooLarge = fmt.Errorf("is larger than %d MiB", maxDocument>>20)

// A member is one name and value of a JSON object.
type member = strictjson.Member

// checkJSON returns why data is not one JSON value; nil if it is. No error of this
// file quotes the data, because any part of it may be a secret.
func checkJSON(data []byte) error {
	if len(data) > maxDocument {
		return errTooLarge
	}
	err := strictjson.Check(data)
	if err == nil {
		return nil
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return errors.New("is empty")
	}
	text, offset := "is not JSON", 0
	var syntax *strictjson.Error
	if errors.As(err, &syntax) {
		offset = syntax.Offset + 1
		text += fmt.Sprintf(": syntax error at byte %d", offset)
	}
	if hint := documentHint(data, offset); hint != "" {
		text += ": " + hint
	}
	return errors.New(text)
}

var errNotJSON = errors.New("is not JSON")

// readObject returns the members of an object in their order, none for null.
func readObject(data []byte) ([]member, error) {
	if kind := strictjson.KindOf(data); kind != strictjson.KindObject && kind != strictjson.KindNull {
		return nil, fmt.Errorf("is %s, not an object", article(kind))
	}
	members, err := strictjson.Members(data)
	if err != nil {
		return nil, errNotJSON
	}
	return members, nil
}

// readString returns a string, and "" for null.
func readString(data []byte) (s string, isNull bool, err error) {
	switch kind := strictjson.KindOf(data); kind {
	case strictjson.KindNull:
		return "", true, nil
	case strictjson.KindString:
		if s, err = strictjson.String(data); err != nil {
			return "", false, errNotJSON
		}
		return s, false, nil
	default:
		return "", false, fmt.Errorf("is %s, not a string", article(kind))
	}
}

const jsonSpace = " \t\r\n"

func article(kind string) string {
	if strings.HasPrefix(kind, "a") || strings.HasPrefix(kind, "o") {
		return "an " + kind
	}
	return "a " + kind
}

// readDocument makes JSON of one document of JSON or YAML: what begins with a
// brace is JSON, as for the kubelet, because a reader of YAML would overlook what
// follows the last brace. A name written twice in a YAML mapping is an
// error; in JSON, newFields finds it.
func readDocument(data []byte) ([]byte, error) {
	if len(data) > maxDocument {
		return nil, errTooLarge
	}
	if strictjson.Valid(data) {
		return data, nil
	}
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		return nil, checkJSON(data)
	}
	var docs []string
	for _, doc := range splitYAML(string(data)) {
		if !blankYAML(doc) {
			docs = append(docs, doc)
		}
	}
	switch len(docs) {
	case 0:
		return nil, errors.New("is empty")
	case 1:
	default:
		return nil, errors.New("holds more than one document")
	}
	out, err := yaml.YAMLToJSONStrict([]byte(docs[0]))
	if err != nil {
		return nil, yamlError(err, 0)
	}
	return out, nil
}

// A fields reads an object strictly: a field that was not asked for, or that is there
// twice, is an error. The first error is kept.
type fields struct {
	values map[string][]byte
	tell   bool // names are a configuration's; those of an answer may be secrets, see plainName
	err    error
}

// readConfig reads an object of a configuration: errors name its fields.
func readConfig(data []byte) *fields { return newFields(data, true) }

// readAnswer reads an object of a program's answer.
func readAnswer(data []byte) *fields { return newFields(data, false) }

func newFields(data []byte, tell bool) *fields {
	f := &fields{values: map[string][]byte{}, tell: tell}
	members, err := readObject(data)
	f.err = err
	for _, m := range members {
		if _, ok := f.values[m.Key]; ok {
			f.fail(f.about("a field twice", m.Key))
		}
		f.values[m.Key] = m.Value
	}
	return f
}

func (f *fields) fail(err error) {
	if f.err == nil {
		f.err = err
	}
}

// take returns a field once; null counts as absent.
func (f *fields) take(name string) ([]byte, bool) {
	value, ok := f.values[name]
	delete(f.values, name)
	return value, ok && strictjson.KindOf(value) != strictjson.KindNull
}

func (f *fields) string(name string) string {
	value, ok := f.take(name)
	if !ok {
		return ""
	}
	s, _, err := readString(value)
	if err != nil {
		f.fail(fmt.Errorf("%s %w", name, err))
	}
	return s
}

func (f *fields) bool(name string) *bool {
	value, ok := f.take(name)
	if !ok {
		return nil
	}
	var b bool
	if err := json.Unmarshal(value, &b); err != nil {
		f.fail(fmt.Errorf("%s is not true or false", name))
	}
	return &b
}

func (f *fields) duration(name string) *time.Duration {
	value, ok := f.take(name)
	if !ok {
		return nil
	}
	s, _, err := readString(value)
	if err != nil {
		f.fail(fmt.Errorf("%s %w", name, err))
		return nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		f.fail(fmt.Errorf("%s is not a duration such as 10m or 12h", name))
		return nil
	}
	return &d
}

func (f *fields) list(name string) [][]byte {
	value, ok := f.take(name)
	if !ok {
		return nil
	}
	list, err := strictjson.Elements(value)
	if err != nil {
		f.fail(fmt.Errorf("%s is not a list", name))
	}
	return list
}

func (f *fields) strings(name string) []string {
	var out []string
	for _, value := range f.list(name) {
		s, _, err := readString(value)
		if err != nil {
			f.fail(fmt.Errorf("%s: an item %w", name, err))
		}
		out = append(out, s)
	}
	return out
}

// about says what is wrong with a field.
func (f *fields) about(what, name string) error {
	if !f.tell && !plainName(name) {
		return errors.New("holds " + what)
	}
	return fmt.Errorf("holds %s: %s", what, quote(name))
}

// plainName reports whether a name is so plain that an error may repeat it, although
// it is next to secrets, or in place of one: a few letters.
func plainName(name string) bool {
	const longest = 32
	for i := range len(name) {
		if c := name[i]; !isAlnum(c) || isDigits(name[i:i+1]) {
			return false
		}
	}
	return name != "" && len(name) <= longest
}

// done returns the first error; a field that was not taken is one.
func (f *fields) done() error {
	if len(f.values) > 0 {
		f.fail(f.about("a field that is not known", slices.Min(slices.Collect(maps.Keys(f.values)))))
	}
	return f.err
}
