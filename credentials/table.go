package credentials

import (
	"cmp"
	"hash/maphash"
	"iter"
	"slices"
	"strings"

	"github.com/pullkit/pullkit/reference"
)

// An entry is one key with its credential.
type entry struct {
	text    string // the key, normalised: what the order goes by
	cred    Credential
	pattern pattern
	err     error // the key, normalised, cannot be read again: the kubelet's rules only

	warnings []problem // about the key and the login
}

// A table finds the entries for an image. Literal hosts, with their paths, are
// found in a map, so that a look-up asks as many times as the image's name has
// parts, however many entries there are; keys with wildcards are grouped by
// number of labels. A table is not changed after it is built.
type table struct {
	rules   Rules
	entries []entry // in the order to try them
	literal map[string]int32
	next    []int32 // the next entry with the same literal host and path; -1 ends
	globs   map[shape][]int32
}

// A shape is what must be equal before wildcards are looked at.
type shape struct {
	labels int
	port   string
}

// newTable sorts entries: reverse byte order of the key's text, as the kubelet
// does, and for one text the order in which they came.
func newTable(rules Rules, unsorted []entry) table {
	order := make([]int32, len(unsorted)) // sorted instead of the entries, which are large
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		return cmp.Or(cmp.Compare(unsorted[b].text, unsorted[a].text), cmp.Compare(a, b))
	})
	entries := make([]entry, len(unsorted))
	for i, from := range order {
		entries[i] = unsorted[from]
	}
	t := table{rules: rules, entries: entries, next: make([]int32, len(entries)), literal: make(map[string]int32, len(entries))}
	for i := len(entries) - 1; i >= 0; i-- {
		e := &entries[i]
		if e.err != nil || e.pattern.empty || e.pattern.labels != nil {
			continue
		}
		key := e.pattern.hostport + e.pattern.path
		t.next[i] = -1
		if first, ok := t.literal[key]; ok {
			t.next[i] = first
		}
		t.literal[key] = int32(i)
	}
	for i := range entries {
		if p := &entries[i].pattern; p.labels != nil {
			if t.globs == nil {
				t.globs = map[shape][]int32{}
			}
			s := shape{len(p.labels), p.port}
			t.globs[s] = append(t.globs[s], int32(i))
		}
	}
	return t
}

// find appends the positions of the entries that match, in order.
func (t *table) find(found []int32, name string) []int32 {
	if len(t.entries) == 0 {
		return found
	}
	target, err := t.rules.target(name)
	if err != nil {
		return found
	}
	full := name
	if !strings.HasPrefix(name, target.hostport) {
		full = target.hostport + target.path
	} else if name[len(target.hostport):] != target.path { // an empty port stands between
		full = target.hostport + target.path
	}
	start := len(target.hostport)
	for end := start; end <= len(full); end++ {
		if end == start || end == len(full) || t.rules.Kubelet || full[end] == '/' || full[end-1] == '/' {
			found = t.chain(found, full[:end])
		}
	}
	for _, i := range t.globs[shape{target.labels, target.port}] {
		if t.entries[i].pattern.match(target) == matched {
			found = append(found, i)
		}
	}
	if len(found) == 0 && t.rules.Kubelet && kubeletHub(name) {
		return t.hub(found)
	}
	slices.Sort(found)
	return found
}

// chain appends the entries of one literal host and path.
func (t *table) chain(found []int32, key string) []int32 {
	i, ok := t.literal[key]
	for ok && i >= 0 {
		found = append(found, i)
		i = t.next[i]
	}
	return found
}

// hub appends the entries that the kubelet falls back to for Docker Hub's images.
func (t *table) hub(found []int32) []int32 {
	for i := range t.entries {
		if t.entries[i].text == hubKey {
			found = append(found, int32(i))
		}
	}
	return found
}

const hubKey = "index.docker.io"

// candidates yields the credentials for an image, in order.
func (t *table) candidates(name string) iter.Seq[Credential] {
	return func(yield func(Credential) bool) { t.visit(name, "", yield) }
}

// visit calls yield with the credentials for an image, in order, until it returns
// false. Of equal ones it is the first; but a Secret that is foreign to the
// namespace makes way for one that is not, wherever that stands.
func (t *table) visit(name, namespace string, yield func(Credential) bool) {
	var room [16]int32
	var seen seenSet
	found := t.find(room[:0], name)
	own := t.own(found, namespace)
	for _, i := range found {
		c := t.entries[i].cred
		if (t.rules.Kubelet || !own.instead(c, namespace) && seen.add(c)) && !yield(c) {
			return
		}
	}
}

// own are the credentials found that are not foreign to the namespace; nil for none.
func (t *table) own(found []int32, namespace string) *seenSet {
	if namespace == "" {
		return nil
	}
	own := new(seenSet)
	for _, i := range found {
		if c := t.entries[i].cred; !c.Origin.foreignTo(namespace) {
			own.add(c)
		}
	}
	return own
}

// instead reports whether s has what c, which is foreign, would make double.
func (s *seenSet) instead(c Credential, namespace string) bool {
	return s != nil && c.Origin.foreignTo(namespace) && s.has(c)
}

func (t *table) hash(h *maphash.Hash, name string) {
	var room [16]int32
	for _, i := range t.find(room[:0], name) {
		t.entries[i].cred.hash(h)
	}
}

// explain yields a note for each entry, and tells of those that visit leaves out.
func (t *table) explain(name, namespace string) iter.Seq[Note] {
	return func(yield func(Note) bool) {
		target, err := t.rules.target(name)
		found := t.find(nil, name)
		own := t.own(found, namespace)
		var seen seenSet
		for i := range t.entries {
			e := &t.entries[i]
			note := Note{Origin: e.cred.Origin, Username: e.cred.Username}
			why := malformedName
			switch {
			case err != nil:
			case e.err != nil:
				why = verdict(e.err.Error())
			default:
				why = e.pattern.match(target)
			}
			_, note.Matched = slices.BinarySearch(found, int32(i))
			if note.Matched && why != matched {
				why = hubFallback
			}
			if note.Matched {
				note.Print = e.cred.print()
			}
			switch {
			case !note.Matched || t.rules.Kubelet:
			case own.instead(e.cred, namespace):
				note.Matched, why = false, superseded
			case !seen.add(e.cred):
				note.Matched, why = false, repeated
			}
			note.Why = string(why)
			note.add(e.warnings, target)
			if !yield(note) {
				return
			}
		}
	}
}

// add adds the warnings about the note's entry. Err is the first that concerns the image.
func (n *Note) add(warnings []problem, t target) {
	for _, w := range warnings {
		n.Why += "; " + w.Err.Error()
		if n.Err == nil && w.concerns(t) {
			n.Err = w.EntryError
		}
	}
}

// lookup is the Lookup of a keyring that is a table alone.
func (t *table) lookup(ref reference.Reference, namespace string) iter.Seq2[Credential, error] {
	return func(yield func(Credential, error) bool) {
		t.visit(ref.Name(), namespace, func(c Credential) bool { return yield(c, nil) })
	}
}
