package ocilayout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/strictjson"
	"github.com/pullkit/pullkit/reference"
)

// A field is a member of index.json that is not its manifests.
type field struct {
	key string
	raw []byte
}

// An Index is index.json: its entries, and the rest as it was written.
type Index struct {
	Entries []Entry
	Listed  bool           // there is a list of manifests, be it empty
	fields  []field        // all but manifests, in order
	byRef   map[string]int // the entry that Lookup answers with, for each Reference
	size    int            // of the encoding, or a few bytes more
}

// NewIndex makes an index with these entries.
func NewIndex(entries ...Entry) *Index {
	ix := &Index{
		Entries: entries,
		fields: []field{
			{"schemaVersion", []byte(`2`)},
			{"mediaType", []byte(`"` + ocispec.MediaTypeImageIndex + `"`)},
		},
	}
	ix.number()
	return ix
}

// ParseIndex reads an index.json. It keeps what it does not know, so that Encode writes it
// back. It refuses more entries than most, because an entry that is small as text is
// large in memory.
func ParseIndex(data []byte, most int) (*Index, error) {
	ix := &Index{}
	seen := false
	err := strictjson.Decode(data, limits, func(r *strictjson.Reader) error {
		if r.Null() {
			return errors.New("it is not an object")
		}
		return r.Members(func(key string) error {
			if key != "manifests" {
				raw, err := r.Raw()
				ix.fields = append(ix.fields, field{key, raw})
				return err
			}
			if seen {
				return errors.New("it has two lists of manifests")
			}
			seen = true
			if r.Null() {
				return nil
			}
			ix.Listed = true
			return r.Array(func(int) error {
				if len(ix.Entries) == most {
					return fmt.Errorf("it has more than %d entries", most)
				}
				raw, err := r.Raw()
				if err == nil && raw[0] != '{' {
					return r.Fail("want an object")
				}
				ix.Entries = append(ix.Entries, NewEntry(raw))
				return err
			})
		})
	})
	if err != nil {
		return nil, err
	}
	ix.number()
	return ix, nil
}

// Has reports whether the file has a member besides its manifests.
func (ix *Index) Has(key string) bool {
	return slices.ContainsFunc(ix.fields, func(f field) bool { return f.key == key })
}

// Clone returns a copy that can be changed.
func (ix *Index) Clone() *Index {
	return &Index{
		Entries: slices.Grow(slices.Clone(ix.Entries), 8),
		fields:  ix.fields,
		byRef:   maps.Clone(ix.byRef),
		size:    ix.size,
	}
}

// Find returns the number of the entry that Lookup answers with.
func (ix *Index) Find(ref reference.Reference) (i int, ok bool) {
	i, ok = ix.byRef[ref.String()]
	return i, ok && !ref.IsZero()
}

// Answers reports whether the i-th entry has a Reference and is the one that Lookup
// answers with.
func (ix *Index) Answers(i int) bool {
	ref := ix.Entries[i].Ref
	return ref != "" && ix.byRef[ref] == i
}

// Size is how large the file is, or a few bytes more.
func (ix *Index) Size() int { return ix.size }

// Set makes e, whose match is Exact, the only exact entry of its Reference, in
// place of the first one. Entries with the same Reference by another spelling
// stay: they are another tool's, which finds them by that spelling. It reports
// whether that changed anything.
func (ix *Index) Set(e Entry) (changed bool) {
	i, ok := ix.byRef[e.Ref]
	if ok = ok && ix.Entries[i].Match == Exact; ok && bytes.Equal(ix.Entries[i].Raw, e.Raw) {
		return false // a second exact entry, if there is one, does no harm
	}
	if !ok {
		ix.byRef[e.Ref] = len(ix.Entries)
		ix.Entries = append(ix.Entries, e)
		ix.size += entrySize(e)
		return true
	}
	ix.size += entrySize(e) - entrySize(ix.Entries[i])
	ix.Entries[i] = e
	n := len(ix.Entries)
	ix.Entries = append(ix.Entries[:i+1], slices.DeleteFunc(ix.Entries[i+1:], func(x Entry) bool { return x.Ref == e.Ref && x.Match == Exact })...)
	if len(ix.Entries) != n {
		ix.number()
	}
	return true
}

// Grown is how large the file would be with e; see Set.
func (ix *Index) Grown(e Entry) int {
	size := ix.size + entrySize(e)
	if i, ok := ix.byRef[e.Ref]; ok && ix.Entries[i].Match == Exact {
		size -= entrySize(ix.Entries[i])
	}
	return size
}

// Remove drops the entry of a Reference that Lookup answers with, and others that
// match as well. Entries that match less well are other tools' copies, which those
// tools find by their own spelling: they stay. One that has a tag alone loses the
// whole name that was copied along, because it is not an image of that Reference.
func (ix *Index) Remove(ref string) {
	best := ix.Entries[ix.byRef[ref]].Match
	for i, x := range ix.Entries {
		if x.Ref == ref && x.Match == BesideIt && best != BesideIt {
			ix.Entries[i] = x.WithoutImage()
		}
	}
	ix.Entries = slices.DeleteFunc(ix.Entries, func(x Entry) bool { return x.Ref == ref && x.Match == best })
	ix.number()
}

// ImportName returns the name under which the i-th entry of an archive's index is
// imported. ok is false if another entry has its Reference and is the one that Lookup
// answers with.
func (ix *Index) ImportName(i int) (name string, ok bool) {
	e := ix.Entries[i]
	switch {
	case ix.Answers(i):
		return e.Ref, true
	case e.Ref != "" && e.Match != BesideIt:
		return "", false
	case e.Name != "":
		return e.Name, true
	}
	_, image := names(e.Raw)
	if ref := wholeName(image); !ref.IsZero() {
		if _, taken := ix.byRef[ref.String()]; taken {
			return "", true // the name has moved on to another entry
		}
	}
	return image, true
}

// number computes byRef and size.
func (ix *Index) number() {
	ix.byRef = make(map[string]int, len(ix.Entries))
	ix.size = 64
	for _, f := range ix.fields {
		ix.size += len(f.key) + len(f.raw) + 4
	}
	for i, e := range ix.Entries {
		ix.size += entrySize(e)
		if e.Ref == "" {
			continue
		}
		if j, ok := ix.byRef[e.Ref]; !ok || e.Match < ix.Entries[j].Match {
			ix.byRef[e.Ref] = i
		}
	}
}

// entrySize is what an entry takes in the file, with a comma and a line's end.
func entrySize(e Entry) int { return len(e.Raw) + 2 }

// Encode returns the file's bytes: one entry a line.
func (ix *Index) Encode() []byte {
	b := append(make([]byte, 0, ix.size), '{')
	for _, f := range ix.fields {
		key, _ := json.Marshal(f.key) // a string always can be
		b = append(append(b, key...), ':')
		b = append(append(b, f.raw...), ',')
	}
	b = append(b, `"manifests":[`...)
	for i, e := range ix.Entries {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, '\n'), e.Raw...)
	}
	return append(b, "]}\n"...)
}
