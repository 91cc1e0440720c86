package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/reference"
)

// annotationImage is where containerd and Docker put an image's whole name.
const annotationImage = "io.containerd.image.name"

// annotationResolved holds the descriptor, as JSON, that the name resolved to
// when that is an index and the entry is of the one manifest of it that is stored.
const annotationResolved = "io.github.pullkit.resolved"

// maxIndexSize limits index.json, both when it is read and when it is written:
// some 200,000 images.
const maxIndexSize = 128 << 20

// maxIndexEntries limits the entries of an index.json of that size: a descriptor
// with a digest has more than 90 bytes.
const maxIndexEntries = maxIndexSize / 90

// An entry is one descriptor of index.json, byte for byte as it stands there.
type entry struct {
	name  string // the ref.name annotation; "" if there is none
	ref   string // the Reference that the entry is of, in canonical form; "" if it is of none
	match match  // how name and ref belong together
	raw   []byte
}

// A match says how an entry's name means a Reference. Of several entries with
// one Reference the lowest match is the one that Lookup answers with.
type match int

const (
	exact    match = iota // the ref.name annotation is the canonical name, as Tag writes it
	spelled               // it is another spelling of it, such as docker.io/busybox:1.36
	besideIt              // it is the tag or digest alone, and annotationImage has the whole name
)

// newEntry reads the name of a descriptor.
//
// The ref.name annotation is the name, because that is what other tools read and
// write. annotationImage is only believed where both agree: umoci copies it to
// every entry that it derives from one of ours.
func newEntry(raw []byte) entry {
	annotations := member(raw, `"annotations"`)
	e := entry{name: textMember(annotations, `"`+ocispec.AnnotationRefName+`"`), raw: raw}
	if e.name == "" {
		return e
	}
	if ref := wholeName(e.name); !ref.IsZero() {
		if e.ref = ref.String(); e.ref != e.name {
			e.match = spelled
		}
		return e
	}
	if ref := wholeName(textMember(annotations, `"`+annotationImage+`"`)); isObject(e.name, ref) {
		e.ref, e.match = ref.String(), besideIt
	}
	return e
}

// wholeName is the Reference that a name with a registry means; zero for a name
// without one: "v1" would parse as docker.io/library/v1.
func wholeName(name string) reference.Reference {
	ref, written, err := reference.ParseWritten(name)
	if err != nil || !written.Registry {
		return reference.Reference{}
	}
	return ref
}

// isObject reports whether name is what containerd and Docker write as the
// ref.name of ref: what follows the repository, a tag without its colon.
func isObject(name string, ref reference.Reference) bool {
	tag, digest := ref.Tag(), string(ref.Digest())
	return name == tag && tag != "" || name == tag+"@"+digest && digest != ""
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
	byRef   map[string]int // the entry that Lookup answers with, for each Reference
	size    int            // of the encoding, or a few bytes more

	listed sync.Map // listing -> bool; see Layout.lists

	changed bool // differs from what it was cloned from
	durable bool // was synced, with its name; for whoever has the index lock

	// f is the file it was read from, kept open so that no other file can have
	// its identity, and info what was known of it then; nil for one never written.
	f    disk.File
	info fs.FileInfo
}

func emptyIndex() *indexFile {
	ix := &indexFile{
		fields: []field{
			{`"schemaVersion"`, []byte(`2`)},
			{`"mediaType"`, []byte(`"` + ocispec.MediaTypeImageIndex + `"`)},
		},
	}
	ix.number()
	return ix
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
		byRef:   maps.Clone(ix.byRef),
		size:    ix.size,
	}
}

// find returns the entry that ref names.
func (ix *indexFile) find(ref reference.Reference) (entry, bool) {
	i, ok := ix.byRef[ref.String()]
	if !ok || ref.IsZero() {
		return entry{}, false
	}
	return ix.entries[i], true
}

// set makes e, whose match is exact, the only exact entry of its Reference, in
// place of the first one. Entries with the same Reference by another spelling
// stay: they are another tool's, which finds them by that spelling.
func (ix *indexFile) set(e entry) {
	i, ok := ix.byRef[e.ref]
	if ok = ok && ix.entries[i].match == exact; ok && bytes.Equal(ix.entries[i].raw, e.raw) {
		return // a second one of the name, if there is one, does no harm
	}
	ix.changed = true
	if !ok {
		ix.byRef[e.ref] = len(ix.entries)
		ix.entries = append(ix.entries, e)
		ix.size += entrySize(e)
		return
	}
	ix.size += entrySize(e) - entrySize(ix.entries[i])
	ix.entries[i] = e
	n := len(ix.entries)
	ix.entries = append(ix.entries[:i+1], slices.DeleteFunc(ix.entries[i+1:], func(x entry) bool { return x.ref == e.ref && x.match == exact })...)
	if len(ix.entries) != n {
		ix.number()
	}
}

// grown is how large the file would be with e; see set.
func (ix *indexFile) grown(e entry) int {
	size := ix.size + entrySize(e)
	if i, ok := ix.byRef[e.ref]; ok && ix.entries[i].match == exact {
		size -= entrySize(ix.entries[i])
	}
	return size
}

// remove drops the entry of a Reference that Lookup answers with, and others that
// match as well. Entries that match less well are other tools' copies, which those
// tools find by their own spelling: they stay. One that has a tag alone loses the
// whole name that was copied along, because it is not an image of that Reference.
func (ix *indexFile) remove(ref string) {
	best := ix.entries[ix.byRef[ref]].match
	for i, x := range ix.entries {
		if x.ref == ref && x.match == besideIt && best != besideIt {
			ix.entries[i] = newEntry(withoutAnnotation(x.raw, annotationImage))
		}
	}
	ix.entries = slices.DeleteFunc(ix.entries, func(x entry) bool { return x.ref == ref && x.match == best })
	ix.changed = true
	ix.number()
}

// unambiguous is the i-th entry as it may leave the layout: with annotationImage only
// where that is the name by which Lookup answers with this entry. Importers that go by
// the annotation would otherwise give the name to another tool's copy.
func (ix *indexFile) unambiguous(i int) entry {
	e := ix.entries[i]
	image := textMember(member(e.raw, `"annotations"`), `"`+annotationImage+`"`)
	if image == "" {
		return e
	}
	if ref := wholeName(image); e.ref != "" && ref.String() == e.ref && ix.byRef[e.ref] == i {
		return e
	}
	return newEntry(withoutAnnotation(e.raw, annotationImage))
}

// importName is the name under which Import takes the i-th entry; ok is false where
// another entry has its Reference and Lookup answers with that one.
func (ix *indexFile) importName(i int) (name string, ok bool) {
	e := ix.entries[i]
	switch {
	case e.ref != "" && ix.byRef[e.ref] == i:
		return e.ref, true
	case e.ref != "" && e.match != besideIt:
		return "", false
	case e.name != "":
		return e.name, true
	}
	image := textMember(member(e.raw, `"annotations"`), `"`+annotationImage+`"`)
	if ref := wholeName(image); !ref.IsZero() {
		if _, taken := ix.byRef[ref.String()]; taken {
			return "", true // the name has moved on to another entry
		}
	}
	return image, true
}

// number finds the entry of each Reference, and the size.
func (ix *indexFile) number() {
	ix.byRef = make(map[string]int, len(ix.entries))
	ix.size = 64
	for _, f := range ix.fields {
		ix.size += len(f.key) + len(f.raw) + 2
	}
	for i, e := range ix.entries {
		ix.size += entrySize(e)
		if e.ref == "" {
			continue
		}
		if j, ok := ix.byRef[e.ref]; !ok || e.match < ix.entries[j].match {
			ix.byRef[e.ref] = i
		}
	}
}

// entrySize is what an entry takes in the file, with a comma and a line's end.
func entrySize(e entry) int { return len(e.raw) + 2 }

// encode returns the file's bytes: one entry a line.
func (ix *indexFile) encode() []byte {
	b := append(make([]byte, 0, ix.size), '{')
	for _, f := range ix.fields {
		b = append(b, f.key...)
		b = append(b, ':')
		b = append(b, f.raw...)
		b = append(b, ',')
	}
	b = append(b, `"manifests":[`...)
	for i, e := range ix.entries {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '\n')
		b = append(b, e.raw...)
	}
	return append(b, "]}\n"...)
}

// parseIndex keeps what it does not know, so that it is written back. It refuses
// more entries than most: each is small as text and large in memory.
func parseIndex(data []byte, most int) (*indexFile, error) {
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
			if raw[0] != '{' || len(ix.entries) == most {
				return false
			}
			ix.entries = append(ix.entries, newEntry(raw))
			return true
		})
	})
	if !ok && most > 0 && len(ix.entries) == most {
		return nil, fmt.Errorf("it has more than %d entries", most)
	}
	if !ok {
		return nil, errors.New("it is not an object with one list of manifests")
	}
	ix.number()
	return ix, nil
}

// textMember returns the string that is the value of key, which has its quotes,
// in an object; "" if there is none.
func textMember(object []byte, key string) string {
	v := member(object, key)
	if len(v) < 2 || v[0] != '"' {
		return ""
	}
	if bytes.IndexByte(v, '\\') < 0 {
		return string(v[1 : len(v)-1])
	}
	var s string
	if json.Unmarshal(v, &s) != nil {
		return ""
	}
	return s
}

// withoutAnnotation returns a descriptor, as JSON, without one of its annotations.
func withoutAnnotation(raw []byte, key string) []byte {
	var members map[string]json.RawMessage
	var annotations map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil || json.Unmarshal(members["annotations"], &annotations) != nil {
		return raw
	}
	delete(annotations, key)
	var err error
	if members["annotations"], err = json.Marshal(annotations); err != nil {
		return raw
	}
	if out, err := json.Marshal(members); err == nil {
		return out
	}
	return raw
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
