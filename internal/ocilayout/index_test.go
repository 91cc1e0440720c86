package ocilayout

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/strictjson"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestIndexKeepsWhatItDoesNotKnow(t *testing.T) {
	ix, err := ParseIndex([]byte(` { "schemaVersion" : 2 , "manifests":[ {"x":[1,{"y":"]}\""}],"annotations":{"a":"b"} } ,
		{"annotations":{"org.opencontainers.image.ref.name":"r.example/v:1","other":"1"}}, {"annotations":{"org.opencontainers.image.ref.name":"r.example/v:1"}} ],
		"annotations":{"who":"me"}, "later": null }`), 1000)
	require.NoError(t, err)
	require.Len(t, ix.Entries, 3)
	next := ix.Clone()
	next.Set(Entry{Ref: "n", Raw: []byte(`{"digest":"new"}`)})
	assert.JSONEq(t, `{"schemaVersion":2,"annotations":{"who":"me"},"later":null,"manifests":[
		{"x":[1,{"y":"]}\""}],"annotations":{"a":"b"}},
		{"annotations":{"org.opencontainers.image.ref.name":"r.example/v:1","other":"1"}},
		{"annotations":{"org.opencontainers.image.ref.name":"r.example/v:1"}}, {"digest":"new"}]}`, string(next.Encode()))
	next = next.Clone()
	next.Set(Entry{Ref: "r.example/v:1", Raw: []byte(`{"digest":"one"}`)})
	assert.JSONEq(t, `{"schemaVersion":2,"annotations":{"who":"me"},"later":null,"manifests":[
		{"x":[1,{"y":"]}\""}],"annotations":{"a":"b"}}, {"digest":"one"}, {"digest":"new"}]}`, string(next.Encode()))
	next.Remove("n")
	assert.Len(t, next.Entries, 2)
	assert.Len(t, ix.Entries, 3, "changes of the clone do not change the index")
}

func TestParseIndexRefusesWhatIsNotAnIndex(t *testing.T) {
	for _, in := range []string{``, `{`, `[]`, `null`, `{"manifests":{}}`, `{"manifests":[1]}`, `{"manifests":[],"manifests":[]}`, `{"manifests":[]}x`} {
		_, err := ParseIndex([]byte(in), 1000)
		assert.Error(t, err, in)
	}
	_, err := ParseIndex([]byte(`{"manifests":[{},{},{}]}`), 2)
	assert.ErrorContains(t, err, "more than 2 entries")
	for _, in := range []string{`{}`, `{"manifests":null}`, `{"manifests":[]}`} {
		ix, err := ParseIndex([]byte(in), 1000)
		require.NoError(t, err, in)
		assert.True(t, json.Valid(ix.Encode()), in)
	}
}

// FuzzIndex compares ParseIndex with encoding/json.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"a":1,"annotations":{"io.containerd.image.Name":"x\"\\y"}},{}],"z":[true,"]"]}`))
	f.Add([]byte(`{"manifests":[{"annotations":{"org.opencontainers.image.ref.name":"v1"}},{"annotations":{"org.opencontainers.image.ref.name":"v1"}}]}`))
	f.Add([]byte(`{"manifests": [ ] , "a" : -1.5e3 , "b":"\u00e9"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		ix, err := ParseIndex(data, 1000)
		var naive map[string]json.RawMessage
		nerr := json.Unmarshal(data, &naive)
		if err != nil {
			return
		}
		require.NoError(t, nerr, "%q", data)
		var want, got []any
		require.NoError(t, json.Unmarshal(or(naive["manifests"], `[]`), &want), "%q", data)
		out := ix.Encode()
		require.NoError(t, json.Unmarshal(out, &naive), "%q gave %q", data, out)
		require.NoError(t, json.Unmarshal(or(naive["manifests"], `[]`), &got))
		assert.Equal(t, len(want), len(got))
		for i := range want {
			assert.Equal(t, want[i], got[i], "%q", data)
		}
		for i, e := range ix.Entries {
			var d struct {
				Annotations map[string]any `json:"annotations"`
			}
			if json.Unmarshal(e.Raw, &d) != nil {
				continue
			}
			name, _ := d.Annotations[ocispec.AnnotationRefName].(string)
			image, _ := d.Annotations[AnnotationImage].(string)
			if _, folded := d.Annotations[""]; !folded && e.Name != "" && name != "" && !hasDuplicates(e.Raw) {
				assert.Equal(t, name, e.Name, "%q", e.Raw)
				assert.Equal(t, naiveRef(name, image), e.Ref, "%q", e.Raw)
			}
			if e.Ref == "" {
				continue
			}
			assert.LessOrEqual(t, ix.Entries[ix.byRef[e.Ref]].Match, e.Match)
			if ix.Entries[ix.byRef[e.Ref]].Match == e.Match {
				assert.LessOrEqual(t, ix.byRef[e.Ref], i)
			}
		}
		assert.LessOrEqual(t, len(out), ix.size)
		next := ix.Clone()
		next.Set(Entry{Ref: "n", Raw: []byte(`{"k":1}`)})
		assert.LessOrEqual(t, len(next.Encode()), next.size)
		again, err := ParseIndex(next.Encode(), 1000)
		require.NoError(t, err)
		assert.Equal(t, fmt.Sprint(next.described()), fmt.Sprint(again.described()))
	})
}

// naiveRef returns the whole name of an entry. It is a second, simple implementation of the
// rules of NewEntry.
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

// described returns what an index contains, in a form to compare.
func (ix *Index) described() (all []string) {
	for _, e := range ix.Entries {
		all = append(all, string(e.Raw))
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

// hasDuplicates reports whether a key occurs twice in an object or in its annotations.
// Upper and lower case count as the same.
func hasDuplicates(raw []byte) bool {
	members, err := strictjson.Members(raw)
	if err != nil {
		return true
	}
	seen := make(map[string]bool)
	for _, m := range members {
		if key := strings.ToLower(m.Key); seen[key] {
			return true
		} else {
			seen[key] = true
		}
		if m.Key == "annotations" && strictjson.KindOf(m.Value) == strictjson.KindObject && hasDuplicates(m.Value) {
			return true
		}
	}
	return false
}

// TestAnnotationsGiveTheNameOfAnEntry checks the name that the two annotations give an entry, for
// the annotations that each tool writes.
func TestAnnotationsGiveTheNameOfAnEntry(t *testing.T) {
	d := "sha256:" + strings.Repeat("4", 64)
	for _, tt := range []struct{ refName, image, ref string }{
		{"r.example/team/app:v1", "r.example/team/app:v1", "r.example/team/app:v1"}, // Tag
		{"r.example/team/app:v1", "", "r.example/team/app:v1"},                      // skopeo copy
		{"v1", "r.example/team/app:v1", "r.example/team/app:v1"},                    // ctr, docker save
		{"@" + d, "r.example/team/app@" + d, "r.example/team/app@" + d},             // ctr
		{"v1@" + d, "r.example/team/app:v1@" + d, "r.example/team/app:v1@" + d},
		{"latest", "docker.io/library/app:latest", "docker.io/library/app:latest"},
		// umoci copies AnnotationImage, so the annotation does not give the name.
		{"backup", "r.example/team/app:v1", ""},
		{"v2", "r.example/team/app:v1", ""},
		{"app:v1", "r.example/team/app:v1", ""},
		{"team/app:v1", "r.example/team/app:v1", ""},
		{"r.example/team/other:v1", "r.example/team/app:v1", "r.example/team/other:v1"},
		{"r.example/team/app:v2", "r.example/team/app:v1", "r.example/team/app:v2"},
		{"", "r.example/team/app:v1", ""}, // oras untag
		{"v1", "app:v1", ""},
		{"v1", "team/app:v1", ""},
		// The name has a registry, but not in the canonical spelling.
		{"docker.io/busybox:1.36", "", "docker.io/library/busybox:1.36"},
		{"index.docker.io/library/busybox:1.36", "", "docker.io/library/busybox:1.36"},
		{"registry-1.docker.io/library/busybox:1.36", "", wholeName("registry-1.docker.io/library/busybox:1.36").String()},
		{"docker.io/busybox", "", "docker.io/library/busybox:latest"},
		{"1.36", "docker.io/busybox:1.36", "docker.io/library/busybox:1.36"},
		{"localhost:5000/app", "", "localhost:5000/app:latest"},
		// A name without a registry is not a Reference.
		{"busybox:1.36", "", ""},
		{"busybox", "", ""},
		{"library/busybox:1.36", "", ""},
		{"v1", "", ""},
		{"r.example/UPPER:v1", "", ""},
		{"", "", ""},
	} {
		raw, err := json.Marshal(ocispec.Descriptor{Annotations: map[string]string{
			ocispec.AnnotationRefName: tt.refName, AnnotationImage: tt.image,
		}})
		require.NoError(t, err)
		e := NewEntry(raw)
		assert.Equal(t, tt.refName, e.Name, "%q, %q", tt.refName, tt.image)
		assert.Equal(t, tt.ref, e.Ref, "%q, %q", tt.refName, tt.image)
	}
}
