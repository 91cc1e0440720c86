package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// annotationImage is where containerd and Docker put an image's whole name.
const annotationImage = "io.containerd.image.name"

// annotationResolved holds the descriptor, as JSON, that the name resolved to
// when that is an index and the entry is of the one manifest of it that is stored.
const annotationResolved = "io.github.pullkit.resolved"

// maxIndexSize limits index.json: some 100,000 images.
const maxIndexSize = 128 << 20

// An entry is one descriptor of index.json, byte for byte as it stands there.
type entry struct {
	name string // as in annotationImage, or else in the ref.name annotation; "" if it has none
	raw  []byte
}

// A field is a member of index.json that is not its manifests.
type field struct {
	key string // with its quotes
	raw []byte
}

// An indexFile is index.json. It does not change once it is made, but for
// those who have cloned it and told nobody yet.
type indexFile struct {
	fields  []field // all but manifests, in order
	entries []entry
	byName  map[string]int // the first entry of each name

	// body is the encoding less its end, kept so that an entry more is an entry
	// more to write down and not all of them anew; nil if it is not known.
	// Clones share its memory: what one appends lies beyond the other's length.
	body []byte

	changed bool // differs from what it was cloned from
	durable bool // was synced, with its name; for whoever has the index lock

	// f is the file it was read from, kept open so that no other file can have
	// its identity, and info what was known of it then; nil for one never written.
	f    file
	info fs.FileInfo
}

func emptyIndex() *indexFile {
	return &indexFile{
		fields: []field{
			{`"schemaVersion"`, []byte(`2`)},
			{`"mediaType"`, []byte(`"` + ocispec.MediaTypeImageIndex + `"`)},
		},
		byName: make(map[string]int),
	}
}

func (ix *indexFile) close() {
	if ix.f != nil {
		ix.f.Close()
	}
}

// clone is a copy to change.
func (ix *indexFile) clone() *indexFile {
	return &indexFile{
		fields:  ix.fields,
		entries: slices.Grow(slices.Clone(ix.entries), 8),
		byName:  maps.Clone(ix.byName),
		body:    ix.body,
	}
}

// set makes e the only entry of its name, in place of the first one of it.
func (ix *indexFile) set(e entry) {
	i, ok := ix.byName[e.name]
	if ok && bytes.Equal(ix.entries[i].raw, e.raw) {
		return // a second one of the name, if there is one, does no harm
	}
	ix.changed = true
	if !ok {
		ix.byName[e.name] = len(ix.entries)
		ix.entries = append(ix.entries, e)
		if ix.body != nil {
			ix.body = appendEntry(ix.body, e, len(ix.entries) == 1)
		}
		return
	}
	ix.body = nil
	ix.entries[i] = e
	n := len(ix.entries)
	ix.entries = append(ix.entries[:i+1], slices.DeleteFunc(ix.entries[i+1:], func(x entry) bool { return x.name == e.name })...)
	if len(ix.entries) != n {
		ix.number()
	}
}

// remove drops all entries of a name.
func (ix *indexFile) remove(name string) {
	ix.entries = slices.DeleteFunc(ix.entries, func(x entry) bool { return x.name == name })
	ix.changed, ix.body = true, nil
	ix.number()
}

func (ix *indexFile) number() {
	ix.byName = make(map[string]int, len(ix.entries))
	for i, e := range ix.entries {
		if _, ok := ix.byName[e.name]; !ok && e.name != "" {
			ix.byName[e.name] = i
		}
	}
}

// encode gives the file's bytes: one entry a line. They are good until the
// index, or a clone of it, is changed.
func (ix *indexFile) encode() []byte {
	if ix.body == nil {
		size := 64
		for _, e := range ix.entries {
			size += len(e.raw) + 2
		}
		b := append(make([]byte, 0, size+size/4), '{')
		for _, f := range ix.fields {
			b = append(b, f.key...)
			b = append(b, ':')
			b = append(b, f.raw...)
			b = append(b, ',')
		}
		b = append(b, `"manifests":[`...)
		for i, e := range ix.entries {
			b = appendEntry(b, e, i == 0)
		}
		ix.body = b
	}
	return append(ix.body, "]}\n"...)
}

func appendEntry(b []byte, e entry, first bool) []byte {
	if !first {
		b = append(b, ',')
	}
	b = append(b, '\n')
	return append(b, e.raw...)
}

// parseIndex keeps what it does not know, so that it is written back.
func parseIndex(data []byte) (*indexFile, error) {
	if !json.Valid(data) {
		return nil, errors.New("it is not JSON")
	}
	ix := &indexFile{}
	seen := false
	ok := eachMember(data, func(key, value []byte) bool {
		if string(key) != `"manifests"` {
			ix.fields = append(ix.fields, field{string(key), value})
			return true
		}
		if seen {
			return false
		}
		seen = true
		if string(value) == "null" {
			return true
		}
		return eachElement(value, func(raw []byte) bool {
			if raw[0] != '{' {
				return false
			}
			ix.entries = append(ix.entries, entry{name: entryName(raw), raw: raw})
			return true
		})
	})
	if !ok {
		return nil, errors.New("it is not an object with one list of manifests")
	}
	ix.number()
	return ix, nil
}

// entryName is the name of a descriptor; "" if it has none.
func entryName(raw []byte) string {
	annotations := member(raw, `"annotations"`)
	for _, key := range []string{`"` + annotationImage + `"`, `"` + ocispec.AnnotationRefName + `"`} {
		if v := member(annotations, key); len(v) > 1 && v[0] == '"' {
			if bytes.IndexByte(v, '\\') < 0 {
				return string(v[1 : len(v)-1])
			}
			var s string
			if json.Unmarshal(v, &s) == nil {
				return s
			}
		}
	}
	return ""
}

// member returns the value of key, which has its quotes, in an object; nil if there is none.
func member(object []byte, key string) (value []byte) {
	eachMember(object, func(k, v []byte) bool {
		if string(k) == key {
			value = v
		}
		return value == nil
	})
	return value
}

func parseLayoutVersion(data []byte) (string, error) {
	if !json.Valid(data) {
		return "", errors.New("it is not JSON")
	}
	var version string
	v := member(data, `"imageLayoutVersion"`)
	if v == nil {
		return "", errors.New("it has no imageLayoutVersion")
	}
	if err := json.Unmarshal(v, &version); err != nil {
		return "", fmt.Errorf("imageLayoutVersion: %w", err)
	}
	return version, nil
}
