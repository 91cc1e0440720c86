package credentials

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pullkit/pullkit/credentials/internal/diagnose"
	"github.com/pullkit/pullkit/credentials/internal/keys"
	"github.com/pullkit/pullkit/internal/strictjson"
	"github.com/pullkit/pullkit/internal/strictyaml"
)

// maxDocument is the number of bytes that a file, a config.json, a value of a Secret, a
// manifest or a provider config may have. The limit of Kubernetes for a Secret is 1 MiB. A
// merged file of 5,000 entries is smaller than that.
const maxDocument = 8 << 20

var errTooLarge = fmt.Errorf("is larger than %d MiB", maxDocument>>20)

// byteOrderMark is what editors on Windows write at the beginning of a file.
var byteOrderMark = []byte("\ufeff")

// A member is one name and value of a JSON object.
type member = strictjson.Member

// checkJSON returns an error that says why data is not one JSON value; nil if it is one. The
// errors of this file do not quote the data, because any part of it may be a secret.
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
	if hint := diagnose.Document(data, offset); hint != "" {
		text += ": " + hint
	}
	return errors.New(text)
}

var errNotJSON = errors.New("is not JSON")

// readObject returns the members of an object in their order; nil for null.
func readObject(data []byte) ([]member, error) {
	if kind := strictjson.KindOf(data); kind != strictjson.KindObject && kind != strictjson.KindNull {
		return nil, fmt.Errorf("is %s, not an object", strictjson.Describe(data))
	}
	members, err := strictjson.Members(data)
	if err != nil {
		return nil, errNotJSON
	}
	return members, nil
}

// readString returns the string that data is; "" for null.
func readString(data []byte) (s string, isNull bool, err error) {
	switch strictjson.KindOf(data) {
	case strictjson.KindNull:
		return "", true, nil
	case strictjson.KindString:
		if s, err = strictjson.String(data); err != nil {
			return "", false, errNotJSON
		}
		return s, false, nil
	default:
		return "", false, fmt.Errorf("is %s, not a string", strictjson.Describe(data))
	}
}

// hinted returns err with a hint of package diagnose in its text; err itself if the hint is "".
func hinted(err error, hint string) error {
	if hint == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, hint)
}

// readDocument returns one document of JSON or YAML as JSON. A document that begins with
// a brace must be JSON, as in the kubelet, because a reader of YAML ignores text after
// the last brace. It is an error if a mapping of YAML has a name twice. If an object of
// JSON does, readDocument returns it, and newFields refuses it.
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
	for _, doc := range strictyaml.Split(string(data)) {
		if !strictyaml.Blank(doc) {
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
	return strictyaml.ToJSON([]byte(docs[0]), 0)
}

// A fields reads an object strictly: a field that is not taken before done, or that the
// object has twice, is an error. It keeps the first error.
type fields struct {
	values    map[string][]byte
	showNames bool // errors quote all names of fields, because the object is not an answer; see keys.IsPlain
	err       error
}

// readConfig reads an object of a configuration. Errors quote the names of its fields.
func readConfig(data []byte) *fields { return newFields(data, true) }

// readAnswer reads an object of a program's answer. Errors quote only plain names of its
// fields, because in a malformed answer a name may be a secret.
func readAnswer(data []byte) *fields { return newFields(data, false) }

func newFields(data []byte, showNames bool) *fields {
	f := &fields{values: map[string][]byte{}, showNames: showNames}
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

// take returns the value of a field, and removes the field. It returns false if the field is
// absent or null.
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

// about returns an error that says what is wrong with a field.
func (f *fields) about(what, name string) error {
	if !f.showNames && !keys.IsPlain(name) {
		return errors.New("holds " + what)
	}
	return fmt.Errorf("holds %s: %s", what, quote(name))
}

// done returns the first error. A field that was not taken is an error.
func (f *fields) done() error {
	if len(f.values) > 0 {
		f.fail(f.about("a field that is not known", slices.Min(slices.Collect(maps.Keys(f.values)))))
	}
	return f.err
}
