package credentials

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzReadObject holds that members are found where json.Decoder finds them.
func FuzzReadObject(f *testing.F) {
	for _, text := range []string{
		`{}`, ` { "a" : 1 , "b":[{"c":"}"},"]"], "a":null} `, `{"\"":"\\","x":{"y":{}}}`, "{\"\u00e9\":-1.5e3,\"\xff\":true}", `null`, `[1]`, `"x"`, `{"a":tru`, `1e999`, "{\"a\":1\n}",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if checkJSON(data) != nil {
			require.False(t, json.Valid(data))
			return
		}
		got, err := readObject(data)
		var generic any
		numbers := json.NewDecoder(bytes.NewReader(data))
		numbers.UseNumber() // there are numbers that no float64 holds
		require.NoError(t, numbers.Decode(&generic))
		want, isObject := generic.(map[string]any)
		if !isObject {
			assert.Equal(t, generic != nil, err != nil)
			assert.Empty(t, got)
			return
		}
		require.NoError(t, err)
		dec := json.NewDecoder(bytes.NewReader(data))
		_, err = dec.Token()
		require.NoError(t, err)
		for _, m := range got {
			name, err := dec.Token()
			require.NoError(t, err)
			assert.Equal(t, name, m.name)
			assert.Contains(t, want, m.name)
			var value json.RawMessage
			require.NoError(t, dec.Decode(&value))
			assert.Equal(t, string(value), string(m.value))
			if s, isNull, err := readString(m.value); err == nil && !isNull {
				var text string
				require.NoError(t, json.Unmarshal(m.value, &text))
				assert.Equal(t, text, s)
				assert.True(t, utf8.ValidString(s))
			}
		}
		assert.False(t, dec.More())
	})
}
