// Package diagnose says what users did wrong in a credential document, a key or a login that
// cannot be read, or that is probably a mistake. It does not decide which credentials are
// read, so you can understand package credentials without it.
//
// Each function takes something that package credentials could not use, and returns a
// hint: a text that says what that input seems to be and what the user can do, or "" if
// that is not known.
//
//	err := errors.New("is not JSON")
//	if hint := diagnose.Document(data, offset); hint != "" {
//		err = fmt.Errorf("%w: %s", err, hint)
//	}
//
// [Manifest] does more: it finds the Secrets of a manifest, even if the manifest is
// malformed, and returns an error for each part that it cannot read. It is here because
// finding the Secrets of a malformed manifest needs the same understanding of mistakes as
// the hints.
//
// A hint never shows a part of a secret. It quotes only those keys and names of fields that
// package keys lets an error show, and single invisible characters.
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
