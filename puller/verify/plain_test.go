package verify_test

import (
	"strings"

	"github.com/pullkit/pullkit/reference"
)

// plainMatch reports whether a pattern matches a name. It is a second implementation of
// the rules for patterns.
func plainMatch(pattern string, ref reference.Reference) bool {
	server := func(registry string) string {
		return strings.TrimSuffix(strings.ToLower(registry), ":443")
	}
	registry, path, _ := strings.Cut(pattern, "/")
	if server(registry) != server(ref.Registry()) {
		return false
	}
	parts, have := strings.Split(path, "/"), strings.Split(ref.Repository(), "/")
	for i, part := range parts {
		switch {
		case part == "*" && i == len(parts)-1:
			return len(have) > i
		case i >= len(have) || have[i] != part:
			return false
		}
	}
	return len(have) == len(parts)
}
