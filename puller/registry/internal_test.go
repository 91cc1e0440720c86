package registry

import (
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/reference"
)

var noCredential credentials.Credential

func mustRef(s string) reference.Reference { return reference.MustParse(s) }
