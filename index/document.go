package index

import (
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/mediatype"
	"github.com/pullkit/pullkit/internal/strictjson"
	"github.com/pullkit/pullkit/internal/verify"
)

const (
	// MaxSize is the size in bytes of the largest document that Parse reads. The OCI
	// distribution specification asks registries to accept documents up to that size.
	MaxSize = 4 << 20
	// MaxLayers is how many layers a manifest may have.
	MaxLayers = 1024
)

// A Document is a parsed index or manifest: exactly one of Index and Manifest
// is set.
type Document struct {
	// MediaType is one of the four media types that Parse reads, also if neither the server
	// nor the document names one.
	MediaType string
	Index     *ocispec.Index
	Manifest  *ocispec.Manifest
}

// Parse reads an OCI index, an OCI manifest, a Docker manifest list or a Docker manifest
// (version 2, schema 2). contentType is the server's Content-Type, or the mediaType of the
// descriptor that names the document. Parameters of contentType are ignored. If contentType
// is missing or unrelated, the document itself decides.
//
// Parse refuses what two parsers could read differently (CVE-2021-41190): a
// document with keys of an index and of a manifest, a content type and a
// mediaType of different classes, a known key that is given twice or in another
// case, anything after the document, a schemaVersion other than 2. It also refuses
// documents of more than MaxSize bytes and Docker's schema 1.
//
// A manifest must have a config and at most MaxLayers layers, each with a digest that
// can be verified and a size that is not negative. The config may be of any type,
// because OCI artifacts are manifests, too. The entries of an index are checked when
// they are chosen. Errors are *InvalidError.
func Parse(contentType string, body []byte) (*Document, error) {
	claimed := mediatype.ClassOf(contentType)
	if len(body) > MaxSize {
		return nil, invalid(ErrTooLarge, "document of %d bytes, at most %d are read", len(body), MaxSize)
	}
	if claimed == mediatype.Schema1 {
		return nil, invalid(ErrMediaType, "content type %.80q: Docker's schema 1 is not supported", contentType)
	}
	d, err := decode(body, claimed)
	if err != nil {
		return nil, err
	}
	if d.isArtifact(contentType) {
		return nil, invalid(ErrMediaType, "%s; %s", reasonArtifactManifest, artifactAdvice)
	}
	is, err := d.class(claimed)
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

// reasonOf returns the reason for a malformed document of class c.
func reasonOf(c mediatype.Class) Reason {
	if c == mediatype.Index {
		return ErrBadIndex
	}
	return ErrBadManifest
}

// A rawDocument has the members of a document that may be an index, a manifest or
// something that claims to be both.
type rawDocument struct {
	versioned     bool // the document has a schemaVersion
	schemaVersion int64
	mediaType     string
	artifactType  string
	subject       *ocispec.Descriptor
	annotations   map[string]string

	entries []ocispec.Descriptor // of an index; nil if the key is missing or null
	config  *ocispec.Descriptor
	layers  []ocispec.Descriptor

	hasManifests, hasConfig, hasLayers, hasSchema1 bool // the document has the key, perhaps with the value null
}

// decode reads a document. claimed is the class that the Content-Type claims.
func decode(body []byte, claimed mediatype.Class) (*rawDocument, error) {
	var d rawDocument
	err := strictjson.Decode(body, strictjson.Limits{}, d.read)
	var bad *strictjson.Error
	if errors.As(err, &bad) {
		return nil, invalid(reasonOf(claimed), "%v", bad)
	}
	return &d, err
}

func (d *rawDocument) read(r *strictjson.Reader) error {
	if r.Null() {
		return r.Fail("want an object, found null")
	}
	keys := []string{"schemaVersion", "mediaType", "manifests", "config", "layers", "artifactType", "subject", "annotations", "fsLayers", "history"}
	return r.Object(keys, func(key string) (err error) {
		switch key {
		case "schemaVersion":
			d.versioned = true
			d.schemaVersion, err = r.Int64()
		case "mediaType":
			d.mediaType, err = r.String()
		case "manifests":
			d.hasManifests = true
			d.entries, err = descriptors(r)
		case "config":
			d.hasConfig = true
			d.config, err = pointer(r, descriptor)
		case "layers":
			d.hasLayers = true
			d.layers, err = descriptors(r)
		case "artifactType":
			d.artifactType, err = r.String()
		case "subject":
			d.subject, err = pointer(r, descriptor)
		case "annotations":
			d.annotations, err = r.Strings()
		default: // fsLayers, history: of Docker's schema 1
			d.hasSchema1 = true
		}
		return err
	})
}

// pointer reads a value and returns a pointer to it. It returns nil for null.
func pointer[T any](r *strictjson.Reader, read func(*strictjson.Reader, *T) error) (*T, error) {
	if r.Null() {
		return nil, nil
	}
	v := new(T)
	return v, read(r, v)
}

// descriptors reads an array of descriptors. It returns nil for null. A null in the array
// is read as a zero descriptor.
func descriptors(r *strictjson.Reader) ([]ocispec.Descriptor, error) {
	if r.Null() {
		return nil, nil
	}
	list := []ocispec.Descriptor{}
	err := r.Array(func(int) error {
		list = append(list, ocispec.Descriptor{})
		return descriptor(r, &list[len(list)-1])
	})
	return list, err
}

func descriptor(r *strictjson.Reader, d *ocispec.Descriptor) error {
	keys := []string{"mediaType", "digest", "size", "platform", "annotations", "artifactType", "urls", "data"}
	return r.Object(keys, func(key string) (err error) {
		switch key {
		case "mediaType":
			d.MediaType, err = r.String()
		case "digest":
			var s string
			s, err = r.String()
			d.Digest = digest.Digest(s)
		case "size":
			d.Size, err = r.Int64()
		case "platform":
			d.Platform, err = pointer(r, platform)
		case "annotations":
			d.Annotations, err = r.Strings()
		case "artifactType":
			d.ArtifactType, err = r.String()
		case "urls":
			d.URLs, err = texts(r)
		case "data":
			d.Data, err = r.Bytes()
		}
		return err
	})
}

func platform(r *strictjson.Reader, p *ocispec.Platform) error {
	keys := []string{"architecture", "os", "variant", "os.version", "os.features"}
	return r.Object(keys, func(key string) (err error) {
		switch key {
		case "architecture":
			p.Architecture, err = r.String()
		case "os":
			p.OS, err = r.String()
		case "variant":
			p.Variant, err = r.String()
		case "os.version":
			p.OSVersion, err = r.String()
		case "os.features":
			p.OSFeatures, err = texts(r)
		}
		return err
	})
}

// texts reads an array of strings. It returns nil for null.
func texts(r *strictjson.Reader) ([]string, error) {
	if r.Null() {
		return nil, nil
	}
	list := []string{}
	err := r.Array(func(int) error {
		s, err := r.String()
		list = append(list, s)
		return err
	})
	return list, err
}

// ConfigPlatform returns the platform that an image's config names. The platform is not
// normalised; fields that the config does not have are "". Errors are *InvalidError.
func ConfigPlatform(config []byte) (ocispec.Platform, error) {
	var p ocispec.Platform
	if len(config) > MaxSize {
		return p, invalid(ErrTooLarge, "image config of %d bytes, at most %d are read", len(config), MaxSize)
	}
	err := strictjson.Decode(config, strictjson.Limits{}, func(r *strictjson.Reader) error { return platform(r, &p) })
	if err != nil {
		return ocispec.Platform{}, invalid(ErrBadManifest, "image config: %v", err)
	}
	return p, nil
}

func (d *rawDocument) index() (*ocispec.Index, error) {
	if d.entries == nil {
		return nil, invalid(ErrBadIndex, "no manifests")
	}
	return &ocispec.Index{
		Versioned:    specs.Versioned{SchemaVersion: int(d.schemaVersion)},
		MediaType:    d.mediaType,
		ArtifactType: d.artifactType,
		Manifests:    d.entries,
		Subject:      d.subject,
		Annotations:  d.annotations,
	}, nil
}

func (d *rawDocument) manifest() (*ocispec.Manifest, error) {
	if err := d.checkManifest(); err != nil {
		return nil, err
	}
	return &ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: int(d.schemaVersion)},
		MediaType:    d.mediaType,
		ArtifactType: d.artifactType,
		Config:       *d.config,
		Layers:       d.layers,
		Subject:      d.subject,
		Annotations:  d.annotations,
	}, nil
}

// isArtifact reports whether a document is an OCI artifact manifest. Its mediaType says so,
// or the Content-Type if it has no mediaType, or its keys.
func (d *rawDocument) isArtifact(contentType string) bool {
	if mediatype.IsArtifactManifest(d.mediaType) || d.mediaType == "" && mediatype.IsArtifactManifest(contentType) {
		return true
	}
	return d.artifactType != "" && !d.hasConfig && !d.hasLayers && !d.hasManifests
}

// class decides whether a document is an index or a manifest. It compares the Content-Type,
// the mediaType and the keys, and refuses a document in which they do not agree.
func (d *rawDocument) class(claimed mediatype.Class) (mediatype.Class, error) {
	named := mediatype.ClassOf(d.mediaType)
	switch {
	case named == mediatype.Schema1 || d.versioned && d.schemaVersion == 1:
		return 0, invalid(ErrMediaType, "Docker's schema 1 is not supported")
	case d.mediaType != "" && named == mediatype.Unknown:
		return 0, invalid(ErrMediaType, "unknown mediaType %.80q", d.mediaType)
	case claimed != mediatype.Unknown && named != mediatype.Unknown && claimed != named:
		return 0, invalid(ErrBadManifest, "the content type says %v, the mediaType in the document says %v", claimed, named)
	}
	c := max(claimed, named)
	if c == mediatype.Unknown {
		c = d.shape()
	}
	return c, d.checkKeys(c)
}

// shape returns the class that the keys suggest.
func (d *rawDocument) shape() mediatype.Class {
	switch {
	case d.hasManifests:
		return mediatype.Index
	case d.hasConfig || d.hasLayers:
		return mediatype.Manifest
	}
	return mediatype.Unknown
}

// checkKeys refuses a document whose keys do not fit its class.
func (d *rawDocument) checkKeys(c mediatype.Class) error {
	switch {
	case c == mediatype.Unknown && d.hasSchema1:
		return invalid(ErrMediaType, "Docker's schema 1 is not supported")
	case c == mediatype.Unknown:
		return invalid(ErrMediaType, "neither an index nor a manifest")
	case d.hasManifests && (d.hasConfig || d.hasLayers):
		return invalid(reasonOf(c), "ambiguous: it has the keys of an index and of a manifest")
	case d.hasSchema1:
		return invalid(reasonOf(c), "ambiguous: it has keys of Docker's schema 1")
	case d.versioned && d.schemaVersion != 2:
		return invalid(reasonOf(c), "schemaVersion %d, want 2", d.schemaVersion)
	case c == mediatype.Index && (d.hasConfig || d.hasLayers):
		return invalid(ErrBadIndex, "the media type says an index, the keys are those of a manifest")
	case c == mediatype.Manifest && d.hasManifests:
		return invalid(ErrBadManifest, "the media type says a manifest, the keys are those of an index")
	}
	return nil
}

// canonicalType returns the media type of a document: its own, else the Content-Type, else
// OCI's type for its class.
func (d *rawDocument) canonicalType(contentType string, c mediatype.Class) string {
	for _, t := range [...]string{d.mediaType, contentType} {
		if mediatype.ClassOf(t) == c {
			return mediatype.Bare(t)
		}
	}
	if c == mediatype.Index {
		return ocispec.MediaTypeImageIndex
	}
	return ocispec.MediaTypeImageManifest
}

// checkManifest refuses a manifest that a pull cannot use.
func (d *rawDocument) checkManifest() error {
	if !d.hasLayers || d.config == nil {
		return invalid(ErrBadManifest, "no config or no layers")
	}
	if len(d.layers) > MaxLayers {
		return invalid(ErrBadManifest, "%d layers, at most %d are allowed", len(d.layers), MaxLayers)
	}
	if err := checkDescriptor(d.config, ErrBadManifest); err != nil {
		err.Detail = "config: " + err.Detail
		return err
	}
	for i := range d.layers {
		if err := checkDescriptor(&d.layers[i], ErrBadManifest); err != nil {
			err.Detail = fmt.Sprintf("layers[%d]: %s", i, err.Detail)
			return err
		}
	}
	return nil
}

// checkDescriptor refuses a digest that cannot be verified and a negative size. For a
// negative size the error has the given reason. It returns nil for a good descriptor.
func checkDescriptor(d *ocispec.Descriptor, reason Reason) *InvalidError {
	if err := verify.Digest(d.Digest); err != nil {
		if errors.Is(err, verify.ErrAlgorithm) {
			return invalid(ErrBadDigest, "%v (sha256, sha384 and sha512 can be verified)", err)
		}
		return invalid(ErrBadDigest, "%v", err)
	}
	if d.Size < 0 {
		return invalid(reason, "size %d is negative", d.Size)
	}
	return nil
}
