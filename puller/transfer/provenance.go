package transfer

import (
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
)

// What a pull shows about who may have the content
//
// A registry can write any digest into a manifest. A manifest that names a blob therefore
// does not show that its author has the blob: the blob may be in the Store because another
// image, which is private, has brought it. Only a registry that sends the bytes of the
// blob without a credential shows that the bytes are public. So a pull notes each document
// and each blob of which all bytes came in this pull without a credential.

// verified is verifyDocument. It also notes the document if its bytes came in this call without a
// credential.
func (c *call) verified(want ocispec.Descriptor, got content.Document, came bool) (document, error) {
	doc, err := verifyDocument(want, got)
	if err == nil && came && got.Provenance.Anonymous {
		c.show(doc.desc.Digest)
	}
	return doc, err
}

// show notes that the bytes of a document or a blob came without a credential.
func (c *call) show(d digest.Digest) {
	if c.shown == nil {
		c.shown = map[digest.Digest]bool{}
	}
	c.shown[d] = true
}

// public returns the digests of the documents and blobs of t that are public; see
// puller.Image.
func (c *call) public(t target) []digest.Digest {
	if !c.named {
		return nil
	}
	var public []digest.Digest
	add := func(d digest.Digest) {
		if c.shown[d] {
			public = append(public, d)
			delete(c.shown, d) // so that each digest is in the list once
		}
	}
	for _, doc := range t.docs {
		if c.shown[doc.desc.Digest] {
			for _, d := range doc.named() {
				if int64(len(d.Data)) == d.Size && verify.Bytes(d.Digest, d.Data) {
					c.show(d.Digest) // its bytes are a part of doc
				}
			}
		}
		add(doc.desc.Digest)
	}
	for _, d := range t.blobs() {
		add(d.Digest)
	}
	return public
}

// named returns the descriptors in a document, with their data if the document has it.
func (d document) named() []ocispec.Descriptor {
	if m := d.parsed.Manifest; m != nil {
		return append([]ocispec.Descriptor{m.Config}, m.Layers...)
	}
	return d.parsed.Index.Manifests
}

// provenances collects the Provenance of each body of one blob.
type provenances struct {
	mu  sync.Mutex
	all []func() content.Provenance
}

func (p *provenances) add(of func() content.Provenance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, of)
}

// anonymous reports whether all bytes came without a credential.
func (p *provenances) anonymous() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, of := range p.all {
		if of == nil || !of().Anonymous {
			return false
		}
	}
	return true
}
