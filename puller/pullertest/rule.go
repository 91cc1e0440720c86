package pullertest

import (
	"cmp"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
)

// A rule is a Rule ready for use.
type rule struct {
	listeners           []string // nil means any
	method, path, query *regexp.Regexp
	header              map[string]*regexp.Regexp // nil expression: the header is absent
	auth                string
	skip, times         int64
	seen                atomic.Int64
	respond             Respond
}

func compileRule(r Rule, fill func(string) string) (*rule, error) {
	c := &rule{auth: r.Match.Auth, skip: int64(r.Skip), times: int64(r.Times), respond: r.Respond, header: map[string]*regexp.Regexp{}}
	if r.On != "any" {
		c.listeners = strings.Split(cmp.Or(r.On, "main|tls"), "|")
	}
	for _, e := range []struct {
		to   **regexp.Regexp
		text string
	}{{&c.method, whole(r.Match.Method)}, {&c.path, whole(r.Match.Path)}, {&c.query, r.Match.Query}} {
		if e.text == "" {
			continue
		}
		re, err := regexp.Compile(fill(e.text))
		if err != nil {
			return nil, err
		}
		*e.to = re
	}
	for name, text := range r.Match.Header {
		if text == "" {
			c.header[name] = nil
			continue
		}
		re, err := regexp.Compile(fill(text))
		if err != nil {
			return nil, err
		}
		c.header[name] = re
	}
	return c, nil
}

// whole makes an expression match all of a text; "" stays "".
func whole(expression string) string {
	if expression == "" {
		return ""
	}
	return "^(?:" + expression + ")$"
}

func (r *rule) matches(listener string, req *http.Request) bool {
	if r.listeners != nil && !slices.Contains(r.listeners, listener) {
		return false
	}
	if !match(r.method, req.Method) || !match(r.path, req.URL.EscapedPath()) || !match(r.query, req.URL.RawQuery) {
		return false
	}
	for name, re := range r.header {
		got := req.Header.Get(name)
		if re == nil && got != "" || re != nil && !re.MatchString(got) {
			return false
		}
	}
	given := strings.ToLower(req.Header.Get("Authorization"))
	switch r.auth {
	case "none":
		return given == ""
	case "some":
		return given != ""
	case "basic", "bearer":
		return strings.HasPrefix(given, r.auth+" ")
	}
	return true
}

func match(re *regexp.Regexp, text string) bool { return re == nil || re.MatchString(text) }

// turn counts a match and says whether the rule answers it.
func (r *rule) turn() bool {
	n := r.seen.Add(1)
	return n > r.skip && (r.times == 0 || n <= r.skip+r.times)
}
