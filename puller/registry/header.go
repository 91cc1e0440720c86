package registry

import (
	"fmt"
	"net/http"
)

// fieldValue reports whether a header can carry v (RFC 9110, section 5.5). The Client
// checks this itself, because net/http reports it with an error that looks like an
// error of the network.
func fieldValue(v string) bool {
	for i := range len(v) {
		if c := v[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// fieldName reports whether a header can have the name (RFC 9110, section 5.1).
func fieldName(name string) bool {
	for i := range len(name) {
		if !isToken(name[i]) {
			return false
		}
	}
	return name != ""
}

// checkHeader checks headers that a configuration sets. The error does not show the
// values, because they may be secrets. Headers about the connection itself (RFC 9110,
// section 7.6.1) and the host are refused, because net/http sets them itself: it does not
// send a configured value, or sends it only to some servers.
func checkHeader(h http.Header) error {
	for name, values := range h {
		switch http.CanonicalHeaderKey(name) {
		case "Connection", "Content-Length", "Host", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
			return fmt.Errorf("header %.80q cannot be configured, because it is about the connection or the host", name)
		}
		if !fieldName(name) {
			return fmt.Errorf("header %.80q has a name that no header can have", name)
		}
		for _, v := range values {
			if !fieldValue(v) {
				return fmt.Errorf("header %.80q has characters that no header can carry", name)
			}
		}
	}
	return nil
}
