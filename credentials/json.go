package credentials

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/pullkit/pullkit/internal/strictjson"
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
	if json.Valid(data) {
		return nil
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return errors.New("is empty")
	}
	text, offset := "is not JSON", 0
	var syntax *strictjson.Error
	if errors.As(strictjson.Decode(data, strictjson.Limits{Depth: maxJSONDepth}, (*strictjson.Reader).Skip), &syntax) {
		offset = syntax.Offset + 1
		text += fmt.Sprintf(": syntax error at byte %d", offset)
	}
	if hint := documentHint(data, offset); hint != "" {
		text += ": " + hint
	}
	return errors.New(text)
}

// maxJSONDepth is how deep encoding/json reads. The place of an error is not taken
// from there, because its two implementations count differently.
const maxJSONDepth = 10_000

// readObject returns the members of an object in their order, none for null.
// The data must have passed checkJSON: only the places where values begin and
// end are looked for. (A json.Decoder gives the order too, at ten times the cost.)
func readObject(data []byte) ([]member, error) {
	data = bytes.Trim(data, jsonSpace)
	switch kind := kindOf(data); kind {
	case "null":
		return nil, nil
	case "object":
	default:
		return nil, fmt.Errorf("is %s, not an object", article(kind))
	}
	var members []member
	rest := data[1:] // behind the brace
	for {
		rest = bytes.TrimLeft(rest, jsonSpace+",")
		if len(rest) == 0 || rest[0] == '}' {
			return members, nil
		}
		end := valueEnd(rest)
		name, _, err := readString(rest[:end])
		if err != nil {
			return nil, err
		}
		rest = bytes.TrimLeft(rest[end:], jsonSpace+":")
		end = valueEnd(rest)
		members = append(members, member{name, json.RawMessage(rest[:end])})
		rest = rest[end:]
	}
}

const jsonSpace = " \t\r\n"

// valueEnd returns where the value that begins data ends.
func valueEnd(data []byte) int {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
			if !quoted && depth == 0 {
				return i + 1
			}
		case quoted:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth == 0 {
				return i // a number or word, at the end of what holds it
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case depth == 0 && (c == ',' || c <= ' '):
			return i
		}
	}
	return len(data)
}

// readString returns a string, and "" for null.
func readString(data []byte) (s string, isNull bool, err error) {
	switch kind := kindOf(data); kind {
	case "null":
		return "", true, nil
	case "string":
		if text := bytes.Trim(data, jsonSpace); isPlain(text[1 : len(text)-1]) {
			return string(text[1 : len(text)-1]), false, nil
		}
		if err := json.Unmarshal(data, &s); err != nil {
			return "", false, errors.New("is not JSON")
		}
		return s, false, nil
	default:
		return "", false, fmt.Errorf("is %s, not a string", article(kind))
	}
}

// isPlain reports whether the inside of a JSON string stands for itself.
func isPlain(text []byte) bool {
	for _, c := range text {
		if c == '\\' || c >= 0x80 {
			return false
		}
	}
	return true
}

func kindOf(data []byte) string {
	data = bytes.TrimLeft(data, jsonSpace)
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
