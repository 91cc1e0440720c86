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

// A field is a member of index.json other than "manifests".
type field struct {
	key string
	raw []byte
}

// An Index is the content of an index.json. It keeps the members that it does not know as
// they were written. Methods that do not change the Index may be called concurrently with
// each other. NewIndex, ParseIndex and Clone return an Index; the zero Index is not usable.
type Index struct {
	Entries []Entry        // the elements of "manifests", in order
	Listed  bool           // the file has a list "manifests", which may be empty
	fields  []field        // the other members, in order
	byRef   map[string]int // by whole name, the position of the entry that Lookup returns
	size    int            // length of the encoding, or a few bytes more
}

// NewIndex returns an index with these entries.
func NewIndex(entries ...Entry) *Index {
	ix := &Index{
		Entries: entries,
		fields: []field{
			{"schemaVersion", []byte(`2`)},
			{"mediaType", []byte(`"` + ocispec.MediaTypeImageIndex + `"`)},
		},
	}
	ix.reindex()
	return ix
}

// ParseIndex parses an index.json. It keeps members that it does not know, so that Encode
// writes them back. most is the largest number of entries. A list with more is an error,
// because even a short entry takes much memory.
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
	ix.reindex()
	return ix, nil
}

// Has reports whether the file has a member of that name other than "manifests".
func (ix *Index) Has(key string) bool {
	return slices.ContainsFunc(ix.fields, func(f field) bool { return f.key == key })
}

// Clone returns a copy. Changes of the copy do not change ix.
func (ix *Index) Clone() *Index {
	return &Index{
		Entries: slices.Grow(slices.Clone(ix.Entries), 8),
		fields:  ix.fields,
		byRef:   maps.Clone(ix.byRef),
		size:    ix.size,
	}
}

// Find returns the position in Entries of the entry that Lookup returns for ref. ok is
// false if no entry has this whole name.
func (ix *Index) Find(ref reference.Reference) (i int, ok bool) {
	i, ok = ix.byRef[ref.String()]
	return i, ok && !ref.IsZero()
}

// Answers reports whether the i-th entry has a whole name and is the entry that Lookup
// returns for this name.
func (ix *Index) Answers(i int) bool {
	ref := ix.Entries[i].Ref
	return ref != "" && ix.byRef[ref] == i
}

// Size returns the length of the file in bytes, or a few bytes more.
func (ix *Index) Size() int { return ix.size }

// Set makes e, whose Match is Exact, the only exact entry of its whole name. If the index
// has exact entries of that name, e takes the place of the first, and the others are
// removed. Entries that have the name in another spelling stay, because another tool
// wrote them and finds them by that spelling. Set reports whether it changed the index.
func (ix *Index) Set(e Entry) (changed bool) {
	i, ok := ix.byRef[e.Ref]
	if ok = ok && ix.Entries[i].Match == Exact; ok && bytes.Equal(ix.Entries[i].Raw, e.Raw) {
		return false // a second exact entry does no harm
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
		ix.reindex()
	}
	return true
}

// Grown returns the length that the file would have after Set(e).
func (ix *Index) Grown(e Entry) int {
	size := ix.size + entrySize(e)
	if i, ok := ix.byRef[e.Ref]; ok && ix.Entries[i].Match == Exact {
		size -= entrySize(ix.Entries[i])
	}
	return size
}

// Remove removes the entry that Lookup returns for the whole name ref, and all entries of
// this name with the same Match. Entries of the name with a higher Match stay, because
// other tools wrote them and find them by their own spelling. If the removed entries have
// the name in ref.name, an entry whose ref.name is only a tag loses its AnnotationImage,
// which a tool has copied, so that it does not get the name. The index must have an entry
// of this name.
func (ix *Index) Remove(ref string) {
	best := ix.Entries[ix.byRef[ref]].Match
	for i, x := range ix.Entries {
		if x.Ref == ref && x.Match == ByAnnotationImage && best != ByAnnotationImage {
			ix.Entries[i] = x.WithoutImage()
		}
	}
	ix.Entries = slices.DeleteFunc(ix.Entries, func(x Entry) bool { return x.Ref == ref && x.Match == best })
	ix.reindex()
}

// RemoveAt removes the entries at these positions, which are in ascending order. As with
// Remove, a copied AnnotationImage does not give a removed name to an entry that stays.
func (ix *Index) RemoveAt(at []int) {
	gone := make(map[int]bool, len(at))
	owned := make(map[string]bool) // whole names that a removed entry has in ref.name
	for _, i := range at {
		gone[i] = true
		if e := ix.Entries[i]; e.Ref != "" && e.Match != ByAnnotationImage && ix.Answers(i) {
			owned[e.Ref] = true
		}
	}
	kept := ix.Entries[:0:0]
	for i, e := range ix.Entries {
		if gone[i] {
			continue
		}
		if e.Match == ByAnnotationImage && owned[e.Ref] {
			e = e.WithoutImage()
		}
		kept = append(kept, e)
	}
	ix.Entries = kept
	ix.reindex()
}

// reindex computes byRef and size.
func (ix *Index) reindex() {
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

// entrySize returns how many bytes an entry takes in the file, with a comma and a
// newline.
func entrySize(e Entry) int { return len(e.Raw) + 2 }

// Encode returns the bytes of the file, with each entry on its own line.
func (ix *Index) Encode() []byte {
	b := append(make([]byte, 0, ix.size), '{')
	for _, f := range ix.fields {
		key, _ := json.Marshal(f.key) // a string can always be encoded
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
