package layout

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestIndexKeepsWhatItDoesNotKnow(t *testing.T) {
	ix, err := parseIndex([]byte(` { "schemaVersion" : 2 , "manifests":[ {"x":[1,{"y":"]}\""}],"annotations":{"a":"b"} } ,
		{"annotations":{"org.opencontainers.image.ref.name":"r.example/v:1","other":"1"}}, {"annotations":{"org.opencontainers.image.ref.name":"r.example/v:1"}} ],
		"annotations":{"who":"me"}, "later": null }`), maxIndexEntries)
	require.NoError(t, err)
	require.Len(t, ix.entries, 3)
	next := ix.clone()
	next.set(entry{ref: "n", raw: []byte(`{"digest":"new"}`)})
	assert.JSONEq(t, `{"schemaVersion":2,"annotations":{"who":"me"},"later":null,"manifests":[
		{"x":[1,{"y":"]}\""}],"annotations":{"a":"b"}},
		{"annotations":{"org.opencontainers.image.ref.name":"r.example/v:1","other":"1"}},
		{"annotations":{"org.opencontainers.image.ref.name":"r.example/v:1"}}, {"digest":"new"}]}`, string(next.encode()))
	next = next.clone()
	next.set(entry{ref: "r.example/v:1", raw: []byte(`{"digest":"one"}`)})
	assert.JSONEq(t, `{"schemaVersion":2,"annotations":{"who":"me"},"later":null,"manifests":[
		{"x":[1,{"y":"]}\""}],"annotations":{"a":"b"}}, {"digest":"one"}, {"digest":"new"}]}`, string(next.encode()))
	next.remove("n")
	assert.Len(t, next.entries, 2)
	assert.Len(t, ix.entries, 3, "a clone's changes are its own")
}

// Entries of other tools that mean nothing here hold up nobody.
func TestStrangeEntries(t *testing.T) {
	l := openTest(t, t.TempDir())
	img := newTestImage(t, "registry.example/one:v1", 1, 100)
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	data := must(os.ReadFile(l.Dir() + "/" + indexName))
	data = bytes.Replace(data, []byte(`"manifests":[`), []byte(`"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"blake3:00","size":3,
		"annotations":{"org.opencontainers.image.ref.name":"registry.example/odd:v1"}}, {"mediaType":"text/plain","size":-1},`), 1)
	require.NoError(t, os.WriteFile(l.Dir()+"/"+indexName, data, 0o644))
	images, err := l.List(t.Context())
	require.NoError(t, err)
	require.Len(t, images, 3)
	assert.Equal(t, "registry.example/odd:v1", images[0].Ref.String())
	assert.True(t, images[1].Ref.IsZero())
	_, err = l.Lookup(t.Context(), images[0].Ref)
	assert.ErrorIs(t, err, content.ErrBadDigest)
	requireLookup := func() {
		got, err := l.Lookup(t.Context(), img.ref)
		require.NoError(t, err)
		assert.Equal(t, img.index.Digest, got.Digest)
	}
	requireLookup()
	_, err = l.Prune(t.Context(), PruneConfig{MinAge: -1})
	require.NoError(t, err)
	require.NoError(t, l.Tag(t.Context(), reference.MustParse("registry.example/two:v1"), img.index))
	require.NoError(t, l.Export(t.Context(), io.Discard, img.ref))
	requireLookup()
	images, err = l.List(t.Context())
	require.NoError(t, err)
	assert.Len(t, images, 4, "they are kept")
}

func TestIndexRefused(t *testing.T) {
	for _, in := range []string{``, `{`, `[]`, `null`, `{"manifests":{}}`, `{"manifests":[1]}`, `{"manifests":[],"manifests":[]}`, `{"manifests":[]}x`} {
		_, err := parseIndex([]byte(in), maxIndexEntries)
		assert.Error(t, err, in)
	}
	_, err := parseIndex([]byte(`{"manifests":[{},{},{}]}`), 2)
	assert.ErrorContains(t, err, "more than 2 entries")
	for _, in := range []string{`{}`, `{"manifests":null}`, `{"manifests":[]}`} {
		ix, err := parseIndex([]byte(in), maxIndexEntries)
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
		ix, err := parseIndex(data, maxIndexEntries)
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
			name, _ := d.Annotations[ocispec.AnnotationRefName].(string)
			image, _ := d.Annotations[annotationImage].(string)
			if _, folded := d.Annotations[""]; !folded && e.name != "" && name != "" && !hasDuplicates(e.raw) {
				assert.Equal(t, name, e.name, "%q", e.raw)
				assert.Equal(t, naiveRef(name, image), e.ref, "%q", e.raw)
			}
			if e.ref == "" {
				continue
			}
			assert.LessOrEqual(t, ix.entries[ix.byRef[e.ref]].match, e.match)
			if ix.entries[ix.byRef[e.ref]].match == e.match {
				assert.LessOrEqual(t, ix.byRef[e.ref], i)
			}
		}
		assert.LessOrEqual(t, len(out), ix.size)
		next := ix.clone()
		next.set(entry{ref: "n", raw: []byte(`{"k":1}`)})
		assert.LessOrEqual(t, len(next.encode()), next.size)
		again, err := parseIndex(next.encode(), maxIndexEntries)
		require.NoError(t, err)
		assert.Equal(t, fmt.Sprint(next.said()), fmt.Sprint(again.said()))
	})
}

// naiveRef is the Reference of an entry, by a second way.
func naiveRef(name, image string) string {
	whole := func(s string) string {
		r, err := reference.Parse(s)
		if err != nil || r.Registry() == "docker.io" && !strings.HasPrefix(s, "docker.io/") && !strings.HasPrefix(s, "index.docker.io/") && !strings.HasPrefix(s, "registry-1.docker.io/") {
			return ""
		}
		return r.String()
	}
	if ref := whole(name); ref != "" {
		return ref
	}
	if ref := whole(image); ref != "" {
		r := reference.MustParse(ref)
		object := strings.TrimPrefix(strings.TrimPrefix(ref, r.Name()), ":")
		if name == object || name == r.Tag() {
			return ref
		}
	}
	return ""
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
