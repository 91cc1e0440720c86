package credentials

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxDocument bounds a config.json, a Secret's value, a manifest, a provider
// config and what is read of a file, in bytes. Kubernetes bounds a Secret to
// 1 MiB; a merged file of 5,000 entries has less than that.
const maxDocument = 8 << 20

var errTooLarge = fmt.Errorf("is larger than %d MiB", maxDocument>>20)

// A member is one name and value of a JSON object, in the order of the text and
// with names written twice.
type member struct {
	name  string
	value json.RawMessage
}

// checkJSON tells whether data is one JSON value. No error of this file quotes
// the data: any part of it may be a secret.
func checkJSON(data []byte) error {
	if len(data) > maxDocument {
		return errTooLarge
	}
	var syntax *json.SyntaxError
	var raw json.RawMessage
	switch err := json.Unmarshal(data, &raw); {
	case err == nil:
		return nil
	case len(bytes.TrimSpace(data)) == 0:
		return errors.New("is empty")
	case errors.As(err, &syntax):
		return fmt.Errorf("is not JSON: syntax error at byte %d", syntax.Offset)
	}
	return errors.New("is not JSON")
}

// readObject returns the members of an object, none for null. The data has
// passed checkJSON.
func readObject(data []byte) ([]member, error) {
	if kindOf(data) == "null" {
		return nil, nil
	}
	if kind := kindOf(data); kind != "object" {
		return nil, fmt.Errorf("is %s, not an object", article(kind))
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if _, err := dec.Token(); err != nil { // the brace
		return nil, errors.New("is not JSON")
	}
	var members []member
	for dec.More() {
		var m member
		token, err := dec.Token()
		if err != nil {
			return nil, errors.New("is not JSON")
		}
		m.name, _ = token.(string)
		if err := dec.Decode(&m.value); err != nil && err != io.EOF {
			return nil, errors.New("is not JSON")
		}
		members = append(members, m)
	}
	return members, nil
}

// readString returns a string, and "" for null.
func readString(data []byte) (s string, isNull bool, err error) {
	switch kind := kindOf(data); kind {
	case "null":
		return "", true, nil
	case "string":
		if err := json.Unmarshal(data, &s); err != nil {
			return "", false, errors.New("is not JSON")
		}
		return s, false, nil
	default:
		return "", false, fmt.Errorf("is %s, not a string", article(kind))
	}
}

func kindOf(data []byte) string {
	data = bytes.TrimLeft(data, " \t\r\n")
	if len(data) == 0 {
		return "null"
	}
	switch data[0] {
	case '{':
		return "object"
	case '[':
		return "array"
	case '"':
		return "string"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	}
	return "number"
}

func article(kind string) string {
	if strings.HasPrefix(kind, "a") || strings.HasPrefix(kind, "o") {
		return "an " + kind
	}
	return "a " + kind
}
