package index

import (
	"errors"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/mediatype"
	"github.com/pullkit/pullkit/internal/strictjson"
)

// A raw document is an index or a manifest, or something that tries to be both.
type raw struct {
	versioned     bool // schemaVersion is there
	schemaVersion int64
	mediaType     string
	artifactType  string
	subject       *ocispec.Descriptor
	annotations   map[string]string

	entries []ocispec.Descriptor // of an index; nil if there are none or null
	config  *ocispec.Descriptor
	layers  []ocispec.Descriptor

	hasManifests, hasConfig, hasLayers, hasSchema1 bool // the key is there, be it null
}

// decode reads a document whose class the server told, if it did.
func decode(body []byte, told mediatype.Class) (*raw, error) {
	var d raw
	err := strictjson.Decode(body, strictjson.Limits{}, d.read)
	var bad *strictjson.Error
	if errors.As(err, &bad) {
		return nil, invalid(ruleOf(told), "%v", bad)
	}
	return &d, err
}

func (d *raw) read(r *strictjson.Reader) error {
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

// pointer reads a value, or nil for null.
func pointer[T any](r *strictjson.Reader, read func(*strictjson.Reader, *T) error) (*T, error) {
	if r.Null() {
		return nil, nil
	}
	v := new(T)
	return v, read(r, v)
}

// descriptors reads an array of descriptors, nil for null; a null in it is a zero descriptor.
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

// texts reads an array of strings, nil for null.
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

// ConfigPlatform reads the platform an image's config says the image is for. It
// is not normalised; fields the config does not have are "". Errors are
// *InvalidError.
func ConfigPlatform(config []byte) (ocispec.Platform, error) {
	var p ocispec.Platform
	if len(config) > MaxSize {
		return p, invalid(RuleTooLarge, "image config of %d bytes, at most %d are read", len(config), MaxSize)
	}
	err := strictjson.Decode(config, strictjson.Limits{}, func(r *strictjson.Reader) error { return platform(r, &p) })
	if err != nil {
		return ocispec.Platform{}, invalid(RuleManifest, "image config: %v", err)
	}
	return p, nil
}

func (d *raw) index() (*ocispec.Index, error) {
	if d.entries == nil {
		return nil, invalid(RuleIndex, "no manifests")
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

func (d *raw) manifest() (*ocispec.Manifest, error) {
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
