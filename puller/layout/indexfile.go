package layout

import (
	"io/fs"
	"sync"

	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/reference"
)

// maxIndexSize limits index.json, both when it is read and when it is written:
// some 200,000 images.
const maxIndexSize = 128 << 20

// maxIndexEntries limits the entries of an index.json of that size: a descriptor
// with a digest has more than 90 bytes.
const maxIndexEntries = maxIndexSize / 90

// An indexFile is index.json. It does not change once it is made, but for
// those who have cloned it and told nobody yet.
type indexFile struct {
	*ocilayout.Index

	listed sync.Map // listing -> bool; see Layout.lists

	changed bool // differs from what it was cloned from
	durable bool // was synced, with its name; for whoever has the index lock

	// f is the file it was read from, kept open so that no other file can have
	// its identity, and info what was known of it then; nil for one never written.
	f    disk.File
	info fs.FileInfo
}

func emptyIndex() *indexFile { return &indexFile{Index: ocilayout.NewIndex()} }

func parseIndex(data []byte) (*indexFile, error) {
	ix, err := ocilayout.ParseIndex(data, maxIndexEntries)
	return &indexFile{Index: ix}, err
}

func (ix *indexFile) close() {
	if ix.f != nil {
		ix.f.Close()
	}
}

// clone is a copy to change.
func (ix *indexFile) clone() *indexFile { return &indexFile{Index: ix.Clone()} }

// find returns the entry that ref names.
func (ix *indexFile) find(ref reference.Reference) (ocilayout.Entry, bool) {
	i, ok := ix.Find(ref)
	if !ok {
		return ocilayout.Entry{}, false
	}
	return ix.Entries[i], true
}

// set names an image; see ocilayout.Index.Set.
func (ix *indexFile) set(e ocilayout.Entry) {
	if ix.Set(e) {
		ix.changed = true
	}
}

// remove drops the entry of a Reference; see ocilayout.Index.Remove.
func (ix *indexFile) remove(ref string) {
	ix.Remove(ref)
	ix.changed = true
}
