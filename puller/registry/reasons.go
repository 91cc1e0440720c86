package registry

import (
	"encoding/json"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/pullkit/pullkit/internal/redact"
)

const (
	// maxCodes is how many reasons of one answer are kept.
	maxCodes = 8
	// maxReason is how many characters of a text/plain body are kept.
	maxReason = 200
	// maxReasonDepth is how deep reasons are looked for in a JSON document.
	maxReasonDepth = 6
)

// serverReasons returns the reasons for a refusal that the body of the answer gives.
// The body may be an error document of the OCI distribution specification, an error
// document of OAuth 2.0 (RFC 6749, section 5.2), problem details (RFC 9457), another
// JSON document with a human-readable member, or short plain text. A web page gives no
// reasons.
func serverReasons(contentType string, body []byte, secrets []string) []serverReason {
	r := reasonReader{secrets: secrets}
	text := strings.TrimSpace(strings.TrimPrefix(string(body), "\ufeff"))
	var document any
	if strings.HasPrefix(text, "{") || strings.HasPrefix(text, "[") || strings.HasPrefix(text, `"`) {
		if json.NewDecoder(strings.NewReader(text)).Decode(&document) == nil {
			r.value(document, 0)
			return r.found
		}
	}
	if isPlainText(contentType, text) {
		r.add("", text)
	}
	return r.found
}

// isPlainText reports whether a body is plain text that says more than the status. Its
// character encoding does not matter. A body without a Content-Type is plain text if it
// does not begin like a web page.
func isPlainText(contentType, text string) bool {
	mediaType, _, _ := mime.ParseMediaType(contentType) // mediaType is set even if a parameter is malformed
	if contentType != "" && mediaType != "text/plain" {
		return false
	}
	return text != "" && !isStatusText(text) && !isPage(text) && strings.IndexByte(text, 0) < 0
}

// isPage reports whether text is the beginning of an HTML or XML document.
func isPage(text string) bool {
	text = strings.ToLower(text[:min(len(text), 16)])
	for _, begin := range []string{"<!doctype", "<!--", "<html", "<head", "<body", "<title", "<?xml", "<h1", "<p>"} {
		if strings.HasPrefix(text, begin) {
			return true
		}
	}
	return false
}

// isStatusText reports whether a text only repeats the status of the answer, as "404
// page not found" and "Forbidden" do.
func isStatusText(text string) bool {
	number, rest, _ := strings.Cut(text, " ")
	if n, err := strconv.Atoi(number); err == nil {
		return strings.EqualFold(rest, http.StatusText(n)) || text == "404 page not found"
	}
	for status := 400; status < 600; status++ {
		if name := http.StatusText(status); name != "" && strings.EqualFold(text, name) {
			return true
		}
	}
	return false
}

// A reasonReader collects the reasons of one body.
type reasonReader struct {
	found   []serverReason
	secrets []string
}

func (r *reasonReader) add(code, message string) {
	code, message = strings.TrimSpace(code), strings.TrimSpace(message)
	if code == message {
		message = ""
	}
	if code == "" && message == "" || len(r.found) == maxCodes {
		return
	}
	if code == "" {
		message = redact.CutCharacters(redact.Secrets(message, r.secrets...), maxReason)
	}
	c := serverReason{redact.Text(code, r.secrets...), redact.Text(message, r.secrets...)}
	if !slices.Contains(r.found, c) {
		r.found = append(r.found, c)
	}
}

// value adds the reasons in a JSON value.
func (r *reasonReader) value(v any, depth int) {
	if depth > maxReasonDepth {
		return
	}
	switch v := v.(type) {
	case string:
		r.add("", v)
	case []any:
		for _, e := range v {
			r.value(e, depth+1)
		}
	case map[string]any:
		r.object(v, depth)
	}
}

// object adds the reasons in a JSON object: those in its list of errors, then its own
// code and message.
func (r *reasonReader) object(members map[string]any, depth int) {
	before := len(r.found)
	lower := make(map[string]any, len(members))
	for _, name := range slices.Sorted(maps.Keys(members)) {
		lower[strings.ToLower(name)] = members[name]
	}
	text := func(names ...string) string {
		for _, name := range names {
			if s, ok := lower[name].(string); ok && strings.TrimSpace(s) != "" {
				return s
			}
		}
		return ""
	}
	r.value(lower["errors"], depth+1)
	code := text("code")
	var parts []string
	add := func(part string) {
		if part != "" && part != code && !slices.Contains(parts, part) {
			parts = append(parts, part)
		}
	}
	add(text("title"))
	add(text("message", "msg", "error_description", "error_message", "description", "reason"))
	add(text("detail", "details"))
	switch e := lower["error"].(type) {
	case string:
		if code == "" {
			code = e
		} else {
			add(e)
		}
	default:
		r.value(e, depth+1)
	}
	for _, name := range []string{"message", "detail", "details"} {
		if _, list := lower[name].([]any); list {
			r.value(lower[name], depth+1)
		}
	}
	r.add(code, strings.Join(parts, ": "))
	if len(r.found) > before || depth == 0 {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(lower)) { // a list of reasons for each field
		if list, ok := lower[name].([]any); ok {
			r.value(list, depth+1)
		}
	}
}
