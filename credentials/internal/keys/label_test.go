package keys

import (
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/stretchr/testify/assert"
)

// match reads a key and a name, and reports whether they match.
func match(key, name string) (bool, error) {
	p, err := Compile(key)
	if err != nil {
		return false, err
	}
	n, err := ParseName(name)
	if err != nil {
		return false, err
	}
	return p.Match(n) == Matched, nil
}

// naiveMatch is match for hosts, written a second time: label by label with path.Match.
func naiveMatch(key, name string) (ok, bad bool) {
	keys, names := strings.Split(strings.ToLower(key), "."), strings.Split(strings.ToLower(name), ".")
	for _, k := range keys {
		if strings.ContainsAny(k, `*?[\`) && len(k) > 63 {
			return false, true
		}
		if _, err := path.Match(k, ""); err != nil {
			return false, true
		}
		// path.Match may end before it reads the malformed part.
		if _, err := path.Match(k, strings.Repeat("a", 70)); err != nil {
			return false, true
		}
	}
	if len(keys) != len(names) {
		return false, false
	}
	for i := range keys {
		if m, err := path.Match(keys[i], names[i]); err != nil || !m {
			return false, err != nil
		}
	}
	return true, false
}

// hostOnly reports whether a text is only a host, with or without wildcards, and has no
// character that a host cannot have.
func hostOnly(s string) bool {
	return s != "" && len(s) <= maxHost && !strings.ContainsAny(s, "/:@#% ") && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }) &&
		!strings.Contains(s, "docker.io")
}

// checkPair compares match with naiveMatch. ok is false if they cannot be compared.
func checkPair(t testing.TB, key, name string) (matched, ok bool) {
	if !hostOnly(key) || !hostOnly(name) || strings.ContainsAny(name, "[") {
		return false, false
	}
	want, bad := naiveMatch(key, name)
	got, err := match(key, name)
	if got != want || (err != nil) != bad {
		t.Fatalf("match(%q, %q) = %v, %v; path.Match says %v, malformed %v", key, name, got, err, want, bad)
	}
	return got, true
}

func FuzzMatch(f *testing.F) {
	for _, key := range []string{"*.io", "r?.io", "[a-c]*.b[^x].io", `\r.i\o`, "[!a].{x,y}", "**a", "[z-a]", "[^a-]", "[]", "[a-bc-d_!-/]", `[\]-^]`, "a*b?c[d]"} {
		f.Add(key, "r1.io")
		f.Add(key, "a.by.io")
	}
	f.Fuzz(func(t *testing.T, key, name string) { checkPair(t, key, name) })
}

// TestMatchAgreesWithPathMatch compares match with path.Match for random pairs of a key
// and a name.
func TestMatchAgreesWithPathMatch(t *testing.T) {
	pairs := rounds.Of(1_000_000)
	rnd := rand.New(rand.NewPCG(1, 2))
	pick := func(s string) byte { return s[rnd.IntN(len(s))] }
	label := func() string {
		var b strings.Builder
		for range rnd.IntN(5) {
			switch rnd.IntN(9) {
			case 0:
				b.WriteString("*")
			case 1:
				b.WriteString("?")
			case 2, 3:
				b.WriteByte('[')
				for range 1 + rnd.IntN(5) {
					b.WriteByte(pick(`abcz019-^!]\*{,}_~$"`))
				}
				b.WriteByte(']')
			case 4:
				b.WriteByte(pick(`[]{}!^-\,*?$`))
			default:
				b.WriteByte(pick("abcABC01-_"))
			}
		}
		return b.String()
	}
	text := func() string {
		var b strings.Builder
		for range rnd.IntN(4) {
			b.WriteByte(pick("aabbccz019-_!^{}]$,AB"))
		}
		return b.String()
	}
	join := func(f func() string, labels int) string {
		parts := make([]string, labels)
		for i := range parts {
			parts[i] = f()
		}
		return strings.Join(parts, ".")
	}
	compared, matches := 0, 0
	for compared < pairs {
		labels := 1 + rnd.IntN(2)
		key := join(label, labels)
		for range 20 {
			name := join(text, labels)
			matched, ok := checkPair(t, key, name)
			if ok {
				compared++
			}
			if matched {
				matches++
			}
		}
	}
	assert.Greater(t, matches, pairs/100)
	t.Logf("%d pairs, %d of them match", compared, matches)
}

func TestPatternsAreTranslatedForGlob(t *testing.T) {
	for in, want := range map[string]string{
		"a*b": "a*b", "a***b": "a*b", "r?": "r?", "{a,b}": `\{a\,b\}`, `\*x`: `\*x`, "a-b": `a\-b`,
		"[a-c]": "[a-c]", "[abc]": "{a,b,c}", "[a-cx]": "{[a-c],x}", "[!-/]": `{\!,["-/]}`, "[^a]": "{[\x00-`],[b-\U0010ffff]}",
	} {
		got, never, err := translate(in)
		assert.NoError(t, err)
		assert.False(t, never)
		assert.Equal(t, want, got, in)
	}
	for _, in := range []string{"[b-a]x", "[\x00-\U0010ffff]"} {
		_, never, err := translate(in)
		assert.NoError(t, err)
		assert.Equal(t, in[1] == 'b', never)
	}
}
