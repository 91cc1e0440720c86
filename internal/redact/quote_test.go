package redact

import (
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
)

func TestTextIsCutBetweenCharacters(t *testing.T) {
	for in, want := range map[string]struct{ quote, escape, cut string }{
		"":                           {`""`, "", ""},
		"12345678":                   {`"12345678"`, "12345678", "12345678"},
		"123456789":                  {`"12345678"...`, "12345678...", "12345678..."},
		"üüüüü":                      {`"üüüü"...`, "üüüü...", "üüüü..."},
		"1üüüüü":                     {`"1üüü"...`, "1üüü...", "1üüü..."},
		"12345\U0001f980":            {`"12345"...`, "12345...", "12345..."},
		`a"\`:                        {`"a\"\\"`, `a"\`, `a"\`},
		"a\x1b[2J\n":                 {`"a\x1b[2J\n"`, `a\x1b[2J\x0a`, "a\x1b[2J\n"},
		"\u202e":                     {`"\u202e"`, `\u202e`, "\u202e"},
		strings.Repeat("\x80", 9):    {`"` + strings.Repeat(`\x80`, 8) + `"...`, strings.Repeat(`\x80`, 8) + "...", strings.Repeat("\x80", 8) + "..."},
		"1234567\xff9":               {`"1234567\xff"...`, `1234567\xff...`, "1234567\xff..."},
		"\xff" + "234567" + "\xff90": {`"\xff234567\xff"...`, `\xff234567\xff...`, "\xff234567\xff..."},
	} {
		assert.Equal(t, want.quote, Quote(in, 8), "%q", in)
		assert.Equal(t, want.escape, Escape(in, 8), "%q", in)
		assert.Equal(t, want.cut, Cut(in, 8), "%q", in)
	}
}

func TestCutCharactersCountsCharacters(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "1234": "1234", "12345": "1234...", "üüüü": "üüüü", "üüüüü": "üüüü...", "\xff\xff\xff\xff\xff": "\xff\xff\xff\xff...",
	} {
		assert.Equal(t, want, CutCharacters(in, 4), "%q", in)
	}
}

// FuzzQuote: the quoted text is a beginning of the input, bounded and printable.
func FuzzQuote(f *testing.F) {
	f.Add("reg.example/app\x1b", 4)
	f.Add("ééé\xc3", 3)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = int(uint(limit) % 100)
		quoted := Quote(s, limit)
		got, err := strconv.Unquote(strings.TrimSuffix(quoted, dots))
		assert.NoError(t, err, quoted)
		assert.True(t, strings.HasPrefix(s, got), quoted)
		assert.LessOrEqual(t, len(got), limit)
		assert.Equal(t, len(s) > limit, strings.HasSuffix(quoted, `"`+dots), quoted)
		if utf8.ValidString(s) {
			assert.Greater(t, len(got)+utf8.UTFMax, min(limit, len(s)), "at most one character more than needed is cut off: %q", quoted)
			assert.True(t, utf8.ValidString(got), quoted)
		}
		for _, r := range quoted + Escape(s, limit) {
			assert.True(t, unicode.IsPrint(r), quoted)
		}
	})
}
