// Package diagnose says what users did wrong where a credential document, a key or a login
// cannot be read, or can be read and was hardly meant so. It never changes what is read: a
// reader of package credentials who does not care for the texts of errors can skip it.
//
// Each function takes what package credentials could not use, and returns a hint: a text
// that says what it seems to be and what the user can do, or "" if that is not known.
//
//	err := errors.New("is not JSON")
//	if hint := diagnose.Document(data, offset); hint != "" {
//		err = fmt.Errorf("%w: %s", err, hint)
//	}
//
// [Manifest] does more, because the Secrets of a manifest are found only where mistakes in
// it are understood: it reads all Secrets of a text, however it is malformed, and returns an
// error for each part that it cannot read.
//
// No hint has a part of a secret. A hint quotes the names of keys and fields that package
// keys shows, and otherwise at most a single character that cannot be seen.
package diagnose

import (
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/internal/strictjson"
)

// A member is one name and value of a JSON object.
type member = strictjson.Member

const jsonSpace = " \t\r\n"

// maxListed is the number of things that one text lists.
const maxListed = 10

// maxQuoted is the number of bytes of outside input that a hint repeats.
const maxQuoted = 120

func quote(s string) string { return redact.Quote(s, maxQuoted) }

// The types of Secrets with credentials, and the names of their data.
const (
	typeConfigJSON = "kubernetes.io/dockerconfigjson"
	typeDockercfg  = "kubernetes.io/dockercfg"
	keyConfigJSON  = ".dockerconfigjson"
	keyDockercfg   = ".dockercfg"
)
