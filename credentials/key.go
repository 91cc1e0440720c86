package credentials

import (
	"errors"
	"fmt"
	"strings"
)

var errNoURL = errors.New("cannot be read as a URL")

// A KeyError says that a key, or the name of an image, is malformed.
type KeyError struct {
	Key string // without the user name and password that it may have held
	Err error
}

// Error says which key, and what is malformed in it.
func (e *KeyError) Error() string { return fmt.Sprintf("key %s: %v", quote(e.Key), e.Err) }

// Unwrap returns the reason.
func (e *KeyError) Unwrap() error { return e.Err }

// normalize makes the key of an entry what candidates are ordered by.
func (r Rules) normalize(key string) (string, error) {
	if r.Kubelet {
		return normalizeKubelet(key)
	}
	return normalize(key), nil
}

// normalize takes off scheme, empty port, the /v1 or /v2 of an API's address and
// a lone slash, and makes the host's letters small.
func normalize(key string) string {
	hostport, rest := cutPath(cutScheme(key))
	return strings.TrimSuffix(fold(hostport), ":") + cutVersion(rest)
}

func cutScheme(key string) string {
	for _, scheme := range []string{"https://", "http://"} {
		if len(key) >= len(scheme) && strings.EqualFold(key[:len(scheme)], scheme) {
			return key[len(scheme):]
		}
	}
	return key
}

func cutVersion(path string) string {
	if strings.HasPrefix(path, "/v1/") || strings.HasPrefix(path, "/v2/") {
		path = path[len("/v1"):]
	}
	if path == "/" {
		return ""
	}
	return path
}

// redactKey takes out what stands before the last @, which may be a password.
func redactKey(key string) string {
	if i := strings.LastIndexByte(key, '@'); i >= 0 {
		return "***" + key[i:]
	}
	return key
}
