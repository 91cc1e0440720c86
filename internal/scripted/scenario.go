package scripted

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// A Scenario says what a scripted registry serves, which requests it answers wrongly, and
// what a good puller does then. Its JSON form is that of the files in testdata/vectors.
// Texts may have placeholders, see Stage.Fill.
type Scenario struct {
	Name   string `json:"name"`
	About  string `json:"about"`
	Source string `json:"source,omitempty"` // where the idea is from
	Class  string `json:"class"`            // attack, fault or store

	Image    string `json:"image,omitempty"`    // what to pull; "" means {{main}}/team/app:v1
	Platform string `json:"platform,omitempty"` // "" means linux/amd64

	// Secrets are looked for in all requests, errors and output. A secret may arrive
	// only at the listeners that Expect.MaySee names.
	Secrets     map[string]string `json:"secrets,omitempty"`
	Credentials []AuthEntry       `json:"credentials,omitempty"` // of the config.json the puller gets
	Auth        *Auth             `json:"auth,omitempty"`        // nil means none

	Objects      []Object          `json:"objects,omitempty"` // none means layers l1 (200 KiB) and l2 (50 KiB), cfg and m
	Tags         map[string]string `json:"tags,omitempty"`    // tag -> object; none means v1 -> m
	SecondServes bool              `json:"second_serves,omitempty"`
	Rules        []Rule            `json:"rules,omitempty"` // the first that matches answers
	NoCA         bool              `json:"no_ca,omitempty"` // the puller does not get the authority's certificate

	// Expect is what is expected of the only run. A scenario with several runs over one
	// store has Runs instead.
	Expect *Expect `json:"expect,omitempty"`
	Runs   []Run   `json:"runs,omitempty"`
}

// An AuthEntry is an entry of the auths in a config.json.
type AuthEntry struct {
	Key           string `json:"key"`
	Username      string `json:"username,omitempty"`
	Password      string `json:"password,omitempty"`
	IdentityToken string `json:"identitytoken,omitempty"`
}

// An Auth is the authentication that the well-behaved part of a scripted registry needs.
type Auth struct {
	Mode  string `json:"mode"`            // none, basic or bearer
	Realm string `json:"realm,omitempty"` // "" means /token of the same listener
	User  string `json:"user,omitempty"`
	Pass  string `json:"pass,omitempty"`
	Token string `json:"token,omitempty"`
}

// A Run is one pull, or several in parallel. The runs of a scenario follow each other and
// use the same store.
type Run struct {
	// KillAfter kills the puller when that many body bytes were sent.
	KillAfter int64    `json:"kill_after_bytes,omitempty"`
	Parallel  int      `json:"parallel,omitempty"` // pullers at once; 0 means 1
	Before    []string `json:"before,omitempty"`   // flip:ID, truncate:ID, symlink-blobs, symlink-blob:ID
	Expect    Expect   `json:"expect"`
}

// An Expect is the expected result of a run. A zero field allows everything.
type Expect struct {
	Outcome  string `json:"outcome"`             // ok, fail or any
	Kind     string `json:"kind,omitempty"`      // of the error, if there is one
	WithinMS int    `json:"within_ms,omitempty"` // 0 means 60000; a run that takes longer counts as hanging
	// MaySee names for each secret the listeners that may receive it.
	MaySee      map[string][]string `json:"may_see,omitempty"`
	Never       []RequestPattern    `json:"never,omitempty"` // requests that must not be made
	Must        []RequestPattern    `json:"must,omitempty"`  // requests that must be made
	MaxRequests int                 `json:"max_requests,omitempty"`
	MaxSent     int64               `json:"max_sent,omitempty"`   // body bytes the registry could send
	MaxRSSMB    int64               `json:"max_rss_mb,omitempty"` // peak memory of the puller's process
	// MinGapMS is the shortest time between the first answer of a rule and the same request again.
	MinGapMS int64    `json:"min_gap_ms,omitempty"`
	Complete []string `json:"complete,omitempty"` // objects the store must hold
	Absent   []string `json:"absent,omitempty"`   // objects the store must not hold
}

// within returns the time after which a run counts as hanging.
func (e Expect) within() time.Duration {
	if e.WithinMS == 0 {
		return time.Minute
	}
	return time.Duration(e.WithinMS) * time.Millisecond
}

// A RequestPattern matches requests of the log. An empty field matches everything.
type RequestPattern struct {
	On     string `json:"on,omitempty"` // listener
	Method string `json:"method,omitempty"`
	URI    string `json:"uri,omitempty"`    // regular expression over path and query, any part
	Header string `json:"header,omitempty"` // a header that must be there
}

// A Rule answers requests in place of the well-behaved registry.
type Rule struct {
	On      string  `json:"on,omitempty"` // listeners as a|b, or any; "" means main|tls
	Match   Match   `json:"match"`
	Skip    int     `json:"skip,omitempty"`  // matches to let through first
	Times   int     `json:"times,omitempty"` // matches to answer; 0 means all
	Respond Respond `json:"respond"`
}

// A Match says which requests a rule answers. An empty field matches everything.
type Match struct {
	Method string            `json:"method,omitempty"` // regular expression, whole
	Path   string            `json:"path,omitempty"`   // regular expression over the escaped path, whole
	Query  string            `json:"query,omitempty"`  // regular expression, any part
	Header map[string]string `json:"header,omitempty"` // regular expressions, any part; "" means absent
	Auth   string            `json:"auth,omitempty"`   // none, basic, bearer or some
}

// A Respond is an answer. Its body has three parts: Body, or the object that BodyOf names,
// then FillSize bytes of FillByte, then BodyTail.
type Respond struct {
	Status   int               `json:"status,omitempty"`  // 0 means 200
	Headers  map[string]string `json:"headers,omitempty"` // a NUL in a value separates several headers
	Body     string            `json:"body,omitempty"`
	BodyOf   string            `json:"body_of,omitempty"` // an object
	FillSize int64             `json:"fill_size,omitempty"`
	FillByte string            `json:"fill_byte,omitempty"` // "" means A
	BodyTail string            `json:"body_tail,omitempty"`
	FlipAt   *int64            `json:"flip_at,omitempty"` // flips a bit of that byte

	Length   *int64 `json:"length,omitempty"`    // Content-Length, true or not
	NoLength bool   `json:"no_length,omitempty"` // the body ends with the connection
	Chunked  bool   `json:"chunked,omitempty"`
	Gzip     bool   `json:"gzip,omitempty"` // packs the body, with a Content-Encoding

	DelayMS   int    `json:"delay_ms,omitempty"`  // before the header
	CutAfter  *int64 `json:"cut_after,omitempty"` // body bytes, then the connection ends
	CutHow    string `json:"cut_how,omitempty"`   // rst (also ""), or fin
	StallAt   *int64 `json:"stall_at,omitempty"`  // body bytes, then nothing
	SlowBytes int    `json:"slow_bytes,omitempty"`
	SlowMS    int    `json:"slow_ms,omitempty"`
	// Range says how a Range header is answered. honest means 206 with the range.
	// wrong-start means 206 from another start, which Content-Range says. wrong-data means
	// 206 from another start than Content-Range says. short means half of the range.
	// beyond means bytes after the end, too. ignore and "" mean 200 with the whole body.
	Range string `json:"range,omitempty"`

	Drop    bool   `json:"drop,omitempty"`    // ends the connection without an answer
	Raw     string `json:"raw,omitempty"`     // the whole answer as bytes, status and header included
	Default bool   `json:"default,omitempty"` // the well-behaved registry's answer
}

// Parse reads a file of scenarios, which is a JSON array. It returns an error for an
// unknown field, for data after the array, and for a scenario that has neither Expect nor
// Runs, or both.
func Parse(data []byte) ([]Scenario, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var scenarios []Scenario
	if err := dec.Decode(&scenarios); err != nil {
		return nil, fmt.Errorf("scenarios: %w", err)
	}
	if dec.More() {
		return nil, fmt.Errorf("scenarios: data after the array")
	}
	for _, sc := range scenarios {
		if (sc.Expect == nil) == (len(sc.Runs) == 0) {
			return nil, fmt.Errorf("scenario %q: it must have either expect or runs", sc.Name)
		}
	}
	return scenarios, nil
}

// runs returns the scenario's runs. A scenario with Expect has one run.
func (sc Scenario) runs() []Run {
	if len(sc.Runs) > 0 {
		return sc.Runs
	}
	if sc.Expect == nil {
		return nil
	}
	return []Run{{Expect: *sc.Expect}}
}

// A compiledRule is a Rule whose expressions are compiled, and that counts its matches.
type compiledRule struct {
	listeners           []string // nil means any
	method, path, query *regexp.Regexp
	header              map[string]*regexp.Regexp // nil expression: the header is absent
	auth                string
	skip, times         int64
	seen                atomic.Int64
	respond             Respond
}

func compileRule(r Rule, fill func(string) string) (*compiledRule, error) {
	c := &compiledRule{auth: r.Match.Auth, skip: int64(r.Skip), times: int64(r.Times), respond: r.Respond, header: map[string]*regexp.Regexp{}}
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

func (r *compiledRule) matches(listener string, req *http.Request) bool {
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

// turn counts a match and reports whether the rule answers it.
func (r *compiledRule) turn() bool {
	n := r.seen.Add(1)
	return n > r.skip && (r.times == 0 || n <= r.skip+r.times)
}
