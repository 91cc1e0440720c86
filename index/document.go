package index

import (
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/mediatype"
)

const (
	// MaxSize is the largest document that Parse reads, in bytes: what the OCI
	// distribution specification asks registries to take at least.
	MaxSize = 4 << 20
	// MaxLayers is how many layers a manifest may have.
	MaxLayers = 1024
)

// A Document is a parsed index or manifest: exactly one of Index and Manifest
// is set.
type Document struct {
	// MediaType is one of the four media types that Parse reads, also where
	// neither the server nor the document named it.
	MediaType string
	Index     *ocispec.Index
	Manifest  *ocispec.Manifest
}

// Parse reads an OCI index, an OCI manifest, a Docker manifest list or a Docker
// manifest (version 2, schema 2). contentType is what the server called it, or
// the mediaType of the descriptor it was found by; parameters are dropped, and a
// missing or unrelated one leaves the decision to the document.
//
// What two parsers could read differently is refused (CVE-2021-41190): a
// document with keys of an index and of a manifest, a content type and a
// mediaType of different classes, a known key given twice or in another case,
// anything after the document, a schemaVersion other than 2. So are documents of
// more than MaxSize bytes and Docker's schema 1.
//
// A manifest must have a config and layers, each with a digest that can be
// verified and a size that is not negative, and at most MaxLayers of them. The
// config may be of any type: OCI artifacts are manifests like others. Entries of
// an index are judged when they are chosen. Errors are *InvalidError.
func Parse(contentType string, body []byte) (*Document, error) {
	told := mediatype.ClassOf(contentType)
	if len(body) > MaxSize {
		return nil, invalid(RuleTooLarge, "document of %d bytes, at most %d are read", len(body), MaxSize)
	}
	if told == mediatype.Schema1 {
		return nil, invalid(RuleMediaType, "content type %.80q: Docker's schema 1 is not supported", contentType)
	}
	d, err := decode(body, told)
	if err != nil {
		return nil, err
	}
	is, err := d.class(told)
	if err != nil {
		return nil, err
	}
	doc := &Document{MediaType: d.canonicalType(contentType, is)}
	if is == mediatype.Index {
		doc.Index, err = d.index()
	} else {
		doc.Manifest, err = d.manifest()
	}
	if err != nil {
		return nil, err
	}
	return doc, nil
}

// ruleOf returns the rule that a document of class c breaks when it is malformed.
func ruleOf(c mediatype.Class) Rule {
	if c == mediatype.Index {
		return RuleIndex
	}
	return RuleManifest
}
