package redact

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTextIsMaskedEscapedAndCut(t *testing.T) {
	const secret = "p@ss word/1"
	for in, want := range map[string]string{
		"": "", "nothing to hide": "nothing to hide", "größer": "größer",
		"you sent p@ss word/1": "you sent [redacted]",
		"you sent " + base64.StdEncoding.EncodeToString([]byte(secret)):          "you sent [redacted]",
		"you sent " + url.QueryEscape(secret) + " and " + url.PathEscape(secret): "you sent [redacted] and [redacted]",
		"GET https://u:pw@h/x?sig=abc&n=1#f: 404":                                "GET https://[redacted]@h/x?sig=[redacted]&n=[redacted]#f: 404",
		"GET https://h/x?a=b: refused, see /y?c=d.":                              "GET https://h/x?a=[redacted]: refused, see /y?c=[redacted].",
		"https://a@b@evil/x":               "https://[redacted]@evil/x",
		"what? a=b, team@sha256:00":        "what? a=b, team@sha256:00",
		"a\x1b[2J\x1b]0;x\x07\nlevel=info": `a\x1b[2J\x1b]0;x\x07\x0alevel=info`,
		"a\u2028b\u202ec\u0085d":           `a\u2028b\u202ec\u0085d`,
		"bad \xff utf8, \ufffd is itself":  `bad \xff utf8, ` + "\ufffd is itself",
	} {
		if strings.HasSuffix(in, "#f: 404") {
			want = strings.Replace(want, "n=[redacted]#f", "n=[redacted]", 1)
		}
		assert.Equal(t, want, Text(in, secret, ""), "Text(%q)", in)
	}
	assert.Equal(t, "ab a [redacted]-abc", Text("ab a 12-abc", "12"), "a short secret is masked as a word")
	assert.Equal(t, "x [redacted] y1", Text("x 1 y1", "1"))

	assert.Equal(t, "dial [redacted].example", Text("dial topsecret.example", "TopSecret"), "host names are repeated in lower case")
	assert.Equal(t, "a\nb [redacted]?x=y", Secrets("a\nb topsecret?x=y", "topsecret"), "Secrets changes nothing else")

	long := Text(strings.Repeat("ü", 4000))
	assert.LessOrEqual(t, len(long), Limit)
	assert.True(t, utf8.ValidString(long))
	assert.True(t, strings.HasSuffix(long, "..."))

	// This secret is at the place where a huge text is cut.
	assert.NotContains(t, Text(strings.Repeat(secret, 6500), secret), "p@ss")
	assert.NotContains(t, Text(strings.Repeat("x", input-4)+"topsecret", "topsecret"), "tops")
}

func TestURLIsMasked(t *testing.T) {
	u, err := url.Parse("https://user:pw@h.example/p%2Fq?token=x&empty=#frag")
	require.NoError(t, err)
	assert.Equal(t, "https://h.example/p%2Fq?token=[redacted]&[redacted]", URL(u))
	assert.Equal(t, "https://h.example/[redacted]?token=[redacted]&[redacted]", URL(u, "p/q"))
	assert.Equal(t, "pw", func() string { p, _ := u.User.Password(); return p }(), "URL does not change its argument")
}

// FuzzText: the result is bounded, printable, UTF-8, and does not have the secret.
func FuzzText(f *testing.F) {
	f.Add("you sent s3cret-pass to https://u:p@h/x?a=b\n", "s3cret-pass")
	f.Add("a\x1bb", `\x1b`)
	f.Fuzz(func(t *testing.T, s, secret string) {
		got := Text(s, secret)
		assert.LessOrEqual(t, len(got), Limit)
		assert.True(t, utf8.ValidString(got))
		for _, r := range got {
			assert.False(t, unicode.IsControl(r), "%q", got)
		}
		// A secret that is part of the mask cannot be distinguished from the mask.
		if len(secret) >= 4 && !strings.Contains(Mask+"&"+Mask, secret) && !overlaps(secret) {
			assert.NotContains(t, got, secret)
		}
	})
}

// TestShortSecretsAreNotBetrayed: a secret of a few bytes is masked where it is a word. It
// is not masked where its letters are part of another name, because the mask would show
// which letters are missing.
func TestShortSecretsAreNotBetrayed(t *testing.T) {
	for _, secret := range []string{"p", "v2", "443", "io", "q"} {
		for _, text := range []string{
			"GET https://r.io:443/v2/team/app/manifests/p: 404", "/team/app/manifests/v2", "r.io/p/a", "p.io", "team/app:v2-alpine", "a/p", "app:p", "sha256:p443a",
		} {
			assert.Equal(t, text, Text(text, secret), "%q in %q", secret, text)
		}
		for _, text := range []string{"password %s is wrong", "the password is %s.", `password "%s"`, "%s: denied", "you sent (%s)", "password=%s", "%s"} {
			assert.Equal(t, strings.ReplaceAll(text, "%s", Mask), Text(strings.ReplaceAll(text, "%s", secret), secret))
		}
	}
}

// overlaps reports whether a mask or dots may form the secret again: it begins with the end
// of the mask, or ends with the beginning of the mask or with dots.
func overlaps(secret string) bool {
	for n := 1; n < len(secret); n++ {
		if strings.HasPrefix(Mask, secret[n:]) || strings.HasSuffix(Mask, secret[:n]) || strings.HasPrefix("...", secret[n:]) {
			return true
		}
	}
	return strings.Contains(secret, Mask)
}

// TestQueryIsMaskedInAnySpelling: only ns, scope and service of a query are shown, in any spelling
// of the query.
func TestQueryIsMaskedInAnySpelling(t *testing.T) {
	for _, query := range []string{
		"CANARY", "CANARY=", "CANARY==", "CANARY===&x=1", "&CANARY", "x&CANARY&", "a=1&CANARY", "a=CANARY&b=CANARY", "a=1;b=CANARY",
		`a=1"CANARY`, "a=1 CANARY", "a=1<CANARY>", "a=1`CANARY", `a=1\CANARY`, "a=1,CANARY", "a=1.CANARY.", "a=b=CANARY", "=CANARY",
		"a==CANARY", "a=%20CANARY", "a=1?CANARY", "a=1/CANARY", "/CANARY", "a=1@CANARY", "CANARY@x", "a=\u00e9CANARY", "CANARY%3D1=",
		"ns=docker.io&CANARY", "ns=docker.io&sig=CANARY&scope=repository%3Aa%2Fb%3Apull", "NS=CANARY", "Scope=CANARY",
		"ns=docker.io;sig=CANARY", "scope=a;sig=CANARY", "service=x%26sig=CANARY", "scope=repository:x?sig=CANARY", "ns=a,sig=CANARY",
		"ns=a|sig=CANARY", "ns=a+sig=CANARY", "scope=a%3Bsig=CANARY", "scope=a%3Fsig%3DCANARY", "ns=a+CANARY", "ns=a,CANARY",
	} {
		u := &url.URL{Scheme: "https", Host: "storage.example", Path: "/a", RawQuery: query}
		for name, text := range map[string]string{
			"URL": URL(u), "in text": Text("GET https://storage.example/a?" + strings.ReplaceAll(query, " ", "+") + ": 403"),
		} {
			if name == "in text" && strings.ContainsAny(query, "\"<>\\`") {
				continue // in running text these characters end a URL
			}
			assert.NotContains(t, text, "CANARY", "%s of %q", name, query)
			assert.Contains(t, text, "https://storage.example/a?", "%s of %q", name, query)
		}
	}
}

// TestNsScopeAndServiceAreShown: ns, scope and service are shown, because they say what a request was
// for.
func TestNsScopeAndServiceAreShown(t *testing.T) {
	for query, want := range map[string]string{
		"ns=docker.io": "ns=docker.io",
		"scope=repository%3Ateam%2Fapp%3Apull&service=reg.example%3A5000": "scope=repository:team/app:pull&service=reg.example:5000",
		"scope=a%20b":       "scope=a%20b",
		"service=%0a%1b":    "service=[redacted]",
		"service=%zz":       "service=[redacted]",
		"ns=a%26token%3D1":  "ns=[redacted]",
		"service=s3cretpw":  "service=[redacted]",
		"account=x&ns=q.io": "account=[redacted]&ns=q.io",
	} {
		u := &url.URL{Scheme: "https", Host: "reg.example", Path: "/token", RawQuery: query}
		assert.Equal(t, "https://reg.example/token?"+want, URL(u, "s3cretpw"))
		assert.Equal(t, "x https://reg.example/token?"+want+": 401", Text("x "+u.String()+": 401", "s3cretpw"))
	}
}
