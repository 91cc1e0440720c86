package layout

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestIndexKeepsWhatItDoesNotKnow(t *testing.T) {
	ix, err := parseIndex([]byte(` { "schemaVersion" : 2 , "manifests":[ {"x":[1,{"y":"]}\""}],"annotations":{"a":"b"} } ,
		{"annotations":{"org.opencontainers.image.ref.name":"v1","other":"1"}}, {"annotations":{"org.opencontainers.image.ref.name":"v1"}} ],
		"annotations":{"who":"me"}, "later": null }`))
	require.NoError(t, err)
	require.Len(t, ix.entries, 3)
	next := ix.clone()
	next.set(entry{name: "n", raw: []byte(`{"digest":"new"}`)})
	assert.JSONEq(t, `{"schemaVersion":2,"annotations":{"who":"me"},"later":null,"manifests":[
		{"x":[1,{"y":"]}\""}],"annotations":{"a":"b"}},
		{"annotations":{"org.opencontainers.image.ref.name":"v1","other":"1"}},
		{"annotations":{"org.opencontainers.image.ref.name":"v1"}}, {"digest":"new"}]}`, string(next.encode()))
	next = next.clone()
	next.set(entry{name: "v1", raw: []byte(`{"digest":"one"}`)})
	assert.JSONEq(t, `{"schemaVersion":2,"annotations":{"who":"me"},"later":null,"manifests":[
		{"x":[1,{"y":"]}\""}],"annotations":{"a":"b"}}, {"digest":"one"}, {"digest":"new"}]}`, string(next.encode()))
	next.remove("n")
	assert.Len(t, next.entries, 2)
	assert.Len(t, ix.entries, 3, "a clone's changes are its own")
}

func TestIndexRefused(t *testing.T) {
	for _, in := range []string{``, `{`, `[]`, `null`, `{"manifests":{}}`, `{"manifests":[1]}`, `{"manifests":[],"manifests":[]}`, `{"manifests":[]}x`} {
		_, err := parseIndex([]byte(in))
		assert.Error(t, err, in)
	}
	for _, in := range []string{`{}`, `{"manifests":null}`, `{"manifests":[]}`} {
		ix, err := parseIndex([]byte(in))
		require.NoError(t, err, in)
		assert.True(t, json.Valid(ix.encode()), in)
	}
}

// FuzzIndex compares with encoding/json, which reads the file whole.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"a":1,"annotations":{"io.containerd.image.name":"x\"\\y"}},{}],"z":[true,"]"]}`))
	f.Add([]byte(`{"manifests":[{"annotations":{"org.opencontainers.image.ref.name":"v1"}},{"annotations":{"org.opencontainers.image.ref.name":"v1"}}]}`))
	f.Add([]byte(`{"manifests": [ ] , "a" : -1.5e3 , "b":"\u00e9"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		ix, err := parseIndex(data)
		var naive map[string]json.RawMessage
		nerr := json.Unmarshal(data, &naive)
		if err != nil {
			return
		}
		require.NoError(t, nerr, "%q", data)
		var want, got []any
		require.NoError(t, json.Unmarshal(or(naive["manifests"], `[]`), &want), "%q", data)
		out := ix.encode()
		require.NoError(t, json.Unmarshal(out, &naive), "%q gave %q", data, out)
		require.NoError(t, json.Unmarshal(or(naive["manifests"], `[]`), &got))
		assert.Equal(t, len(want), len(got))
		for i := range want {
			assert.Equal(t, want[i], got[i], "%q", data)
		}
		for i, e := range ix.entries {
			var d struct {
				Annotations map[string]any `json:"annotations"`
			}
			if json.Unmarshal(e.raw, &d) != nil {
				continue
			}
			name, ok := d.Annotations[annotationImage].(string)
			if !ok {
				name, _ = d.Annotations[ocispec.AnnotationRefName].(string)
			}
			if _, folded := d.Annotations[""]; !folded && e.name != "" && name != "" && !hasDuplicates(e.raw) {
				assert.Equal(t, name, e.name, "%q", e.raw)
			}
			if e.name != "" {
				assert.LessOrEqual(t, ix.byName[e.name], i)
			}
		}
		next := ix.clone()
		next.set(entry{name: "n", raw: []byte(`{"k":1}`)})
		again, err := parseIndex(next.encode())
		require.NoError(t, err)
		assert.Equal(t, fmt.Sprint(next.said()), fmt.Sprint(again.said()))
	})
}

// said is what an index says, in a form to compare.
func (ix *indexFile) said() (all []string) {
	for _, e := range ix.entries {
		all = append(all, string(e.raw))
	}
	for _, f := range ix.fields {
		all = append(all, f.key+string(f.raw))
	}
	return all
}

func or(raw json.RawMessage, empty string) []byte {
	if raw == nil || string(raw) == "null" {
		return []byte(empty)
	}
	return raw
}

// hasDuplicates reports whether a key comes twice in an object or in its
// annotations, by any case: encoding/json takes the last one, we the first.
func hasDuplicates(raw []byte) bool {
	for _, object := range [][]byte{raw, member(raw, `"annotations"`)} {
		seen := make(map[string]bool)
		ok := eachMember(object, func(key, _ []byte) bool {
			var s string
			json.Unmarshal(key, &s)
			k := fmt.Sprintf("%q", strings.ToLower(s))
			dup := seen[k]
			seen[k] = true
			return !dup
		})
		if len(object) > 0 && !ok {
			return true
		}
	}
	return false
}
