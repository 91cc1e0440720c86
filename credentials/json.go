package credentials

import (
	"bytes"
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
