package credentials

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pullkit/pullkit/internal/strictjson"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzReadObject holds that readObject finds the same members as json.Decoder.
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
		numbers.UseNumber() // a float64 cannot hold all numbers
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
			assert.Equal(t, name, m.Key)
			assert.Contains(t, want, m.Key)
			var value json.RawMessage
			require.NoError(t, dec.Decode(&value))
			assert.Equal(t, string(value), string(m.Value))
			if s, isNull, err := readString(m.Value); err == nil && !isNull {
				var text string
				require.NoError(t, json.Unmarshal(m.Value, &text))
				assert.Equal(t, text, s)
				assert.True(t, utf8.ValidString(s))
			}
		}
		assert.False(t, dec.More())
	})
}

// TestPlaceOfASyntaxErrorIsCountedFromOne holds that an error has the place of the first
// byte that no JSON text can have there, or of the word that the byte is in. The place does
// not depend on the implementation of encoding/json with which the program is built.
func TestPlaceOfASyntaxErrorIsCountedFromOne(t *testing.T) {
	for text, want := range map[string]int{
		"x": 1, " x": 2, "{} x": 4, `{"a":}`: 6, `{"a":1,}`: 8, "[1 2]": 4, "tru": 1, `{"a" 1}`: 6, "[1,": 4, "---\n": 2, "{'a':1}": 2,
		strings.Repeat("[", strictjson.MaxDepth+1): strictjson.MaxDepth + 2,
	} {
		err := checkJSON([]byte(text))
		place := fmt.Sprintf("is not JSON: syntax error at byte %d", want)
		got, hint, _ := strings.Cut(fmt.Sprint(err)+": ", place+": ") // a hint may follow
		assert.Empty(t, got, "%.20q", text)
		assert.NotContains(t, hint, "byte 1", "%.20q", text)
	}
}

// TestUnknownFieldsAreErrors holds which fields are refused. The error shows the name of a
// field of a configuration, and not that of a field of an answer.
func TestUnknownFieldsAreErrors(t *testing.T) {
	config := `{"apiVersion":"kubelet.config.k8s.io/v1","kind":"CredentialProviderConfig","providers":[{"name":"p","apiVersion":"credentialprovider.kubelet.k8s.io/v1","matchImages":["r.io"],"defaultCacheDuration":"1h"}]}`
	answer := `{"apiVersion":"credentialprovider.kubelet.k8s.io/v1","kind":"CredentialProviderResponse","cacheKeyType":"Image","auth":{}}`
	_, err := Rules{}.parseProviders([]byte(config))
	require.NoError(t, err)
	for text, want := range map[string]string{
		config + " x":               "is not JSON: syntax error at byte 207: there is text after its end: leave it out",
		config + "\n---\n" + config: "is not JSON: syntax error at byte 207: there is text after its end: leave it out",
		strings.Replace(config, `"name":"p"`, `"name":"p","Args":[]`, 1):       `provider 1 ("p"): holds a field that is not known: "Args"`,
		strings.Replace(config, `"name":"p"`, `"name":"p","name":"q"`, 1):      `provider 1 ("q"): holds a field twice: "name"`,
		"apiVersion: kubelet.config.k8s.io/v1\nkind: a\nkind: b\n":             "holds a field twice: line 3",
		"apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig": "names no provider",
	} {
		_, err := Rules{}.parseProviders([]byte(text))
		assert.EqualError(t, err, "credential provider config: "+want, text)
	}
	_, err = parseResponse([]byte(answer), providerGroup+"v1")
	require.NoError(t, err)
	for _, text := range []string{answer + " hunter2", strings.Replace(answer, `"auth"`, `"hunter2":1,"auth"`, 1), strings.Replace(answer, `{}`, `{"r.io":{"hunter2":1}}`, 1)} {
		_, err := parseResponse([]byte(text), providerGroup+"v1")
		require.Error(t, err, text)
		assert.NotContains(t, err.Error(), "hunter2")
	}
}
