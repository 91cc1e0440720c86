package registry

import (
	"encoding/json"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type inputRow struct{ Name, Area, Input string }

func inputs(t *testing.T, area string) map[string]string {
	data, err := os.ReadFile("testdata/vectors/inputs.json")
	require.NoError(t, err)
	var rows []inputRow
	require.NoError(t, json.Unmarshal(data, &rows))
	found := map[string]string{}
	for _, r := range rows {
		if r.Area == area {
			found[r.Name] = r.Input
		}
	}
	return found
}

func TestPublishedRetryAfterHeadersAreRead(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	want := map[string]struct {
		d  time.Duration
		ok bool
	}{
		"seconds":        {2 * time.Minute, true},
		"date":           {0, true},
		"negative":       {0, false},
		"overflow":       {maxRetryAfter, true},
		"float":          {0, false},
		"empty":          {0, false},
		"date-year-9999": {maxRetryAfter, true},
	}
	rows := inputs(t, "retry-after")
	assert.Len(t, rows, len(want))
	for name, in := range rows {
		d, ok := parseRetryAfter(in, now)
		require.Contains(t, want, name)
		assert.Equal(t, want[name].ok, ok, "%s: %q", name, in)
		assert.Equal(t, want[name].d, d, "%s: %q", name, in)
	}
}

func TestRetryAfterIsReadByTheServersClock(t *testing.T) {
	// The server's clock is a year ahead of the client's. The server asks to wait 20 seconds.
	h := http.Header{"Date": {"Sat, 02 Jan 2027 03:04:05 GMT"}, "Retry-After": {"Sat, 02 Jan 2027 03:04:25 GMT"}}
	d, ok := retryAfter(h, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	assert.True(t, ok)
	assert.Equal(t, 20*time.Second, d)
}

func TestPublishedChallengesAreRead(t *testing.T) {
	want := map[string]struct {
		bad  bool
		list []challenge
	}{
		"unterminated":  {bad: true, list: []challenge{offered("bearer")}},
		"escaped-quote": {list: []challenge{offered("bearer", "realm", `https://a/t"oken`, "service", "s")}},
		"dup-realm":     {list: []challenge{unclear(offered("bearer", "realm", "https://a/t"))}},
		"no-realm":      {list: []challenge{offered("bearer", "service", "s")}},
		"case":          {list: []challenge{offered("bearer", "realm", "https://a/t")}},
		"many": {list: []challenge{offered("basic", "realm", "x"),
			offered("bearer", "realm", "https://a/t", "scope", "repository:x:pull,push")}},
		"control": {bad: true, list: []challenge{offered("bearer")}},
		"1mb":     {bad: true},
	}
	rows := inputs(t, "challenge")
	assert.Len(t, rows, len(want))
	for name, in := range rows {
		require.Contains(t, want, name)
		if name == "1mb" {
			in = `Bearer realm="` + strings.Repeat("a", 1<<20) + `"`
		}
		list, err := parseChallenges([]string{in})
		assert.Equal(t, want[name].bad, err != nil, "%s: %v", name, err)
		assert.Equal(t, want[name].list, list, name)
	}
}

// offered returns a challenge with these parameters.
func offered(scheme string, params ...string) challenge {
	c := challenge{scheme: scheme, params: map[string]string{}}
	for i := 0; i < len(params); i += 2 {
		c.params[params[i]] = params[i+1]
	}
	return c
}

func unclear(c challenge) challenge {
	c.unclear = true
	return c
}

func TestAFaultInAChallengeSpoilsNoOther(t *testing.T) {
	for in, want := range map[string][]challenge{
		"":                           nil,
		" , ,":                       nil,
		"Basic":                      {offered("basic")},
		"Negotiate, Basic realm=a":   {offered("negotiate"), offered("basic", "realm", "a")},
		"Negotiate YWJj==, Basic":    {offered("negotiate"), offered("basic")},
		`Bearer realm = "a" , b = c`: {offered("bearer", "realm", "a", "b", "c")},

		`Bearer realm=, Basic realm="x"`:     {offered("bearer"), offered("basic", "realm", "x")},
		"Basic realm=/":                      {offered("basic", "realm", "/")},
		"Basic realm=":                       {offered("basic")},
		"Basic realm=https://x.example/?a=b": {offered("basic", "realm", "https://x.example/?a=b")},
		"Basic realm=Nexus Repository ,x=y":  {offered("basic", "realm", "Nexus Repository", "x", "y")},
		`Basic realm="a",realm="b"`:          {offered("basic", "realm", "a")},
		`Basic realm="it\'s"`:                {offered("basic", "realm", "it's")},
		`Bearer service=a.example:5000, realm="https://a/t", scope=repository:a/b:pull`: {
			offered("bearer", "service", "a.example:5000", "realm", "https://a/t", "scope", "repository:a/b:pull")},
		`Bearer realm="https://a/t",error=invalid_token,error_uri=https://docs.example/x?y=z`: {
			offered("bearer", "realm", "https://a/t", "error", "invalid_token", "error_uri", "https://docs.example/x?y=z")},
		`Bearer realm="https://a/t", Realm="https://a/t"`:       {unclear(offered("bearer", "realm", "https://a/t"))},
		`Bearer realm="https://a/t", service=x, realm=y`:        {unclear(offered("bearer", "realm", "https://a/t", "service", "x"))},
		`Bearer realm="https://a/t", Bearer realm="https://b/"`: {offered("bearer", "realm", "https://a/t"), offered("bearer", "realm", "https://b/")},
	} {
		got, err := parseChallenges([]string{in})
		require.NoError(t, err, in)
		assert.Equal(t, want, got, in)
	}
	// Of a line that cannot be read, the part before the fault is used.
	for in, want := range map[string][]challenge{
		`realm="a"`:                             nil,
		`@`:                                     nil,
		`"Bearer" realm="a"`:                    nil,
		`Bearer realm="a" b="c"`:                {offered("bearer", "realm", "a")},
		`Bearer realm="a" realm="b", service=c`: {unclear(offered("bearer", "realm", "a"))},
		`Bearer "a"`:                            {offered("bearer")},
		`Bearer realm="a`:                       {offered("bearer")},
		`Bearer realm="\a"`:                     {offered("bearer")},
		`Bearer realm=https://a/t, Basic realm="x"`:                 {offered("bearer")},
		`Basic realm="x", Bearer realm=https://a/t`:                 {offered("basic", "realm", "x"), offered("bearer")},
		`Basic realm="unterminated, Bearer realm="https://evil/"`:   {offered("basic")},
		`Basic realm=a "b", Bearer realm="https://evil/"`:           {offered("basic")},
		`Bearer realm="https://a/t",service="x, realm="https://b/"`: {offered("bearer", "realm", "https://a/t")},
		"Bearer realm=\"a\x00\"":                                    {offered("bearer")},
		"Bearer realm=\"a\", service=\"\x00\", Basic":               {offered("bearer", "realm", "a")},
	} {
		got, err := parseChallenges([]string{in})
		assert.Error(t, err, in)
		assert.Equal(t, want, got, in)
	}
	got, err := parseChallenges([]string{"@", `Basic realm=/`, "Bearer"})
	assert.Error(t, err)
	assert.Equal(t, []challenge{offered("basic", "realm", "/"), offered("bearer")}, got, "a fault in one line does not affect another line")
}

// FuzzChallenges writes the challenges that were read and reads them again, with the same
// result.
func FuzzChallenges(f *testing.F) {
	for _, s := range []string{`Bearer realm="https://a/t",service="s"`, `Basic realm="x", Bearer realm="y"`, `Negotiate abc==`, `a b="\""`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, err := parseChallenges([]string{s})
		_ = err // the part before a fault is used
		var b strings.Builder
		for i, c := range list {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(c.scheme)
			sep := " "
			if c.unclear {
				b.WriteString(` realm="", realm=""`)
				delete(c.params, "realm")
				sep = ", "
			}
			for name, value := range c.params {
				b.WriteString(sep + name + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`)
				sep = ", "
			}
		}
		if b.Len() > maxChallenge {
			return
		}
		again, err := parseChallenges([]string{b.String()})
		require.NoError(t, err, b.String())
		for _, c := range again {
			if c.unclear {
				delete(c.params, "realm")
			}
		}
		assert.Equal(t, list, again, b.String())
	})
}

func TestContentRangeIsReadStrictly(t *testing.T) {
	got, err := parseContentRange("bytes 4-9/10")
	require.NoError(t, err)
	assert.Equal(t, byteRange{4, 9, 10}, got)
	got, err = parseContentRange("bytes 4-9/*")
	require.NoError(t, err)
	assert.Equal(t, byteRange{4, 9, unknownTotal}, got)
	for _, in := range []string{"", "bytes", "bytes */10", "bytes */*", "bytes 4-*/*", "bytes 9-4/*", "bytes 4-9/**", "bytes 4-9/-1", "bytes 9-4/10", "bytes 4-10/10", "bytes -4-9/10", "bytes 4-9/10 ", "items 4-9/10",
		"bytes 0-9223372036854775807/9223372036854775808", "bytes 4-9", "bytes 4/10", "bytes +4-9/10", "bytes 4-9/0x10"} {
		_, err := parseContentRange(in)
		assert.Error(t, err, in)
	}
}

// The blob has 10 bytes, and 4 of them have been read. The table says which ranges
// continue it.
func TestOnlyARangeThatContinuesFits(t *testing.T) {
	for r, want := range map[byteRange]bool{
		{4, 9, 10}: true, {4, 6, 10}: true, {4, 9, unknownTotal}: true, {4, 6, unknownTotal}: true,
		{5, 9, 10}: false, {3, 9, unknownTotal}: false, {0, 9, unknownTotal}: false, {4, 10, unknownTotal}: false, {4, 9, 11}: false, {4, 8, 9}: false,
	} {
		assert.Equal(t, want, r.fits(4, 10), "%v", r)
	}
}

// FuzzContentRange writes a range that was accepted and reads it again, with the same
// result.
func FuzzContentRange(f *testing.F) {
	f.Add("bytes 4-9/10")
	f.Add("bytes */10")
	f.Add("bytes 4-9/*")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseContentRange(s)
		if err != nil {
			return
		}
		assert.True(t, 0 <= r.first && r.first <= r.last && (r.last < r.total || r.total == unknownTotal), s)
		total := "*"
		if r.total != unknownTotal {
			total = strconv.FormatInt(r.total, 10)
		}
		again, err := parseContentRange("bytes " + strconv.FormatInt(r.first, 10) + "-" + strconv.FormatInt(r.last, 10) + "/" + total)
		require.NoError(t, err)
		assert.Equal(t, r, again)
	})
}

// FuzzRetryAfter checks that a wait is never negative and never beyond the limit, and that
// digits are read as strconv reads them.
func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"120", "-1", "1.5", "Wed, 21 Oct 2015 07:28:00 GMT", "99999999999999999999"} {
		f.Add(s)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		d, ok := parseRetryAfter(s, now)
		assert.True(t, d >= 0 && d <= maxRetryAfter)
		if !ok {
			assert.Zero(t, d)
		}
		if n, err := strconv.ParseUint(s, 10, 63); err == nil && n < uint64(maxRetryAfter/time.Second) {
			assert.True(t, ok)
			assert.Equal(t, time.Duration(n)*time.Second, d)
		}
	})
}

// FuzzNextLink writes a link that was found and reads it again, with the same result. A
// target never has a bracket, which would end it.
func FuzzNextLink(f *testing.F) {
	for _, seed := range []string{`</v2/a/referrers/b?n=2>; rel="next"`, `<a>; rel=prev, <b>; title="x, <c>; rel=next"; rel="last NEXT"`, `<a`, `<>;rel=next`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := nextLink([]string{s})
		if got == "" {
			return
		}
		assert.NotContains(t, got, ">")
		assert.Contains(t, s, "<")
		assert.Equal(t, got, nextLink([]string{"<" + got + `>; rel="next"`}))
	})
}

func TestTheLinkToTheNextPageIsFound(t *testing.T) {
	for header, want := range map[string]string{
		`</a?n=2>; rel="next"`:                    "/a?n=2",
		`</a>;rel=next`:                           "/a",
		`<a>; rel=prev, <b>; REL="last NEXT"`:     "b",
		`<a>; title="x, <c>; rel=next"; rel=prev`: "",
		`<a>; title="x\\", <b>; rel=next`:         "b",
		`<a>; rel="next`:                          "a",
		`a; rel=next`:                             "",
		`<a; rel=next`:                            "",
		``:                                        "",
		`<a>; rel="nexts", <b>; anchor=x; rel="next"`: "b",
	} {
		assert.Equal(t, want, nextLink([]string{header}), header)
	}
	assert.Equal(t, "b", nextLink([]string{"<a>; rel=prev", "<b>; rel=next"}))
}
