#!/usr/bin/env bash
# docker/cli 29.1.2 reads the document in the variable DOCKER_AUTH_CONFIG by other rules than
# config.json, and reports no error when it loads the document.
#
# Each row below is a document that works as config.json. In the variable, each of these makes
# the CLI drop all entries of the document, also the good ones:
#
# 1. an entry with "username" and "password" instead of "auth",
# 2. an entry without "auth", as docker writes it if there is a credsStore,
# 3. a field such as "credsStore" next to "auths".
#
# The CLI then writes a line to standard error each time it looks for a credential, and goes on
# with config.json. There is a fourth difference:
#
# 4. a key with a scheme matches its host in a file, and does not match it in the variable.
#
# In all four cases a push or a pull uses another login, or none.
#
# The script needs Go and its module proxy. It exits with 0 as long as docker/cli behaves
# like this.
set -euo pipefail
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
cat >go.mod <<'END'
module finding

go 1.25.0

require github.com/docker/cli v29.1.2+incompatible
END
cat >main.go <<'END'
package main

import (
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
)

// The login is user:pass.
const auth = `{"auth":"dXNlcjpwYXNz"}`

func main() {
	for _, document := range []string{
		`{"auths":{"a.example":` + auth + `}}`,
		`{"auths":{"a.example":` + auth + `,"b.example":{"username":"user","password":"pass"}}}`,
		`{"auths":{"a.example":` + auth + `,"b.example":{}}}`,
		`{"auths":{"a.example":` + auth + `},"credHelpers":{"b.example":"none"}}`,
		`{"auths":{"https://a.example":` + auth + `}}`,
	} {
		file, err := config.LoadFromReader(strings.NewReader(document))
		check(err)
		check(os.Unsetenv("DOCKER_AUTH_CONFIG"))
		inFile := user(file)
		empty, err := config.LoadFromReader(strings.NewReader(`{}`))
		check(err)
		check(os.Setenv("DOCKER_AUTH_CONFIG", document))
		fmt.Printf("file %q variable %q %s\n", inFile, user(empty), document)
	}
}

// user returns the user name with which the CLI logs in at a.example.
func user(f *configfile.ConfigFile) string {
	found, err := f.GetAuthConfig("a.example")
	check(err)
	return found.Username
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
END
go mod tidy >log 2>&1 || { cat log; exit 1; }
go run . >got 2>messages
cat >want <<'END'
file "user" variable "user" {"auths":{"a.example":{"auth":"dXNlcjpwYXNz"}}}
file "user" variable "" {"auths":{"a.example":{"auth":"dXNlcjpwYXNz"},"b.example":{"username":"user","password":"pass"}}}
file "user" variable "" {"auths":{"a.example":{"auth":"dXNlcjpwYXNz"},"b.example":{}}}
file "user" variable "" {"auths":{"a.example":{"auth":"dXNlcjpwYXNz"}},"credHelpers":{"b.example":"none"}}
file "user" variable "" {"auths":{"https://a.example":{"auth":"dXNlcjpwYXNz"}}}
END
diff -u want got
cat got messages
