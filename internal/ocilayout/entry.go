// Package ocilayout knows the files of an OCI image layout: what the entries of
// index.json are called, and what manifests and indexes lead to. A layout on disk and
// an archive follow the same rules, so the package reads from whatever has the bytes.
package ocilayout

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/strictjson"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// Names within a layout.
const (
	LayoutFile = ocispec.ImageLayoutFile // oci-layout
	IndexFile  = ocispec.ImageIndexFile  // index.json
	BlobsDir   = ocispec.ImageBlobsDir   // blobs

	// Layout is the content of LayoutFile.
	Layout = `{"imageLayoutVersion":"1.0.0"}`
)

const (
	// AnnotationImage is where containerd and Docker put an image's whole name.
	AnnotationImage = "io.containerd.image.name"

	// AnnotationResolved holds the descriptor, as JSON, that the name resolved to
	// when that is an index and the entry is of the one manifest of it that is stored.
	AnnotationResolved = "io.github.pullkit.resolved"
)

// ParseVersion returns the version that a LayoutFile says.
func ParseVersion(data []byte) (string, error) {
	version, found := "", false
	err := strictjson.Decode(data, limits, func(r *strictjson.Reader) error {
		return r.Members(func(key string) error {
			if key != "imageLayoutVersion" || found {
				return nil
			}
			found = true
			var err error
			version, err = r.String()
			return err
		})
	})
	if err == nil && !found {
		err = errors.New("it has no imageLayoutVersion")
	}
	return version, err
}

// limits of the documents that are read here: as deep as encoding/json reads. Their size
// is limited by who reads the bytes.
var limits = strictjson.Limits{Depth: strictjson.MaxDepth}

// CheckDescriptor refuses a descriptor whose digest must not become the name of a file,
// or whose size is negative.
func CheckDescriptor(desc ocispec.Descriptor) error {
	if err := verify.Digest(desc.Digest); err != nil {
		return &content.Error{Reason: content.ErrBadDigest, Err: err}
	}
	if desc.Size < 0 {
		return &content.Error{Reason: content.ErrSizeMismatch, Err: fmt.Errorf("blob %s: size %d is negative", desc.Digest, desc.Size)}
	}
	return nil
}

// BlobName is the path of a blob within a layout. The digest must have passed CheckDescriptor.
func BlobName(d digest.Digest) string {
	return BlobsDir + "/" + strings.Replace(string(d), ":", "/", 1)
}

// BlobDigest is the digest of the blob with that path; false for a path that is not
// a blob's.
func BlobDigest(name string) (digest.Digest, bool) {
	rest, ok := strings.CutPrefix(name, BlobsDir+"/")
	d := digest.Digest(strings.Replace(rest, "/", ":", 1))
	return d, ok && verify.Digest(d) == nil
}

// An Entry is one descriptor of index.json, byte for byte as the file has it.
type Entry struct {
	Name  string // the ref.name annotation; "" if there is none
	Ref   string // the Reference that the entry is of, in canonical form; "" if the entry has no whole name
	Match Match  // how Name and Ref belong together
	Raw   []byte
}

// A Match says how an entry's name means a Reference. Of several entries with
// one Reference the lowest match is the one that Lookup answers with.
type Match int

// The matches.
const (
	Exact    Match = iota // the ref.name annotation is the canonical name, as Layout.Tag writes it
	Spelled               // it is another spelling of it, such as docker.io/busybox:1.36
	BesideIt              // it is the tag or digest alone, and AnnotationImage has the whole name
)

// NewEntry reads the name of a descriptor.
//
// The ref.name annotation is the name, because that is what other tools read and
// write. AnnotationImage is only believed where both agree: umoci copies it to
// every entry that it derives from one of ours.
func NewEntry(raw []byte) Entry {
	name, image := names(raw)
	e := Entry{Name: name, Raw: raw}
	if name == "" {
		return e
	}
	if ref := wholeName(name); !ref.IsZero() {
		if e.Ref = ref.String(); e.Ref != name {
			e.Match = Spelled
		}
		return e
	}
	if ref := wholeName(image); isObject(name, ref) {
		e.Ref, e.Match = ref.String(), BesideIt
	}
	return e
}

// NamedEntry makes the entry of an image that is called name. ref is the whole name, or
// zero. shown is the descriptor that other tools see, and resolved what the name resolved
// to: often an index of which shown is the one image that is stored.
func NamedEntry(name string, ref reference.Reference, shown, resolved ocispec.Descriptor) (Entry, error) {
	resolved.Data, shown.Data = nil, nil // the content is stored, not a part of its name
	shown.Annotations = maps.Clone(shown.Annotations)
	if shown.Annotations == nil {
		shown.Annotations = make(map[string]string)
	}
	if shown.Digest != resolved.Digest {
		text, err := json.Marshal(resolved)
		if err != nil {
			return Entry{}, err
		}
		shown.Annotations[AnnotationResolved] = string(text)
	}
	if name != "" {
		shown.Annotations[ocispec.AnnotationRefName] = name
	}
	if !ref.IsZero() {
		shown.Annotations[AnnotationImage] = ref.String()
	}
	raw, err := json.Marshal(shown)
	return NewEntry(raw), err
}

// Decode returns the descriptor that an entry shows, and the one in AnnotationResolved. If
// there is none, or it cannot be read, both are the first. The annotations that are a
// layout's own are left out. Neither descriptor is checked: another tool may have copied
// AnnotationResolved to an entry of its own, so the caller asks Lists.
func (e Entry) Decode() (shown, resolved ocispec.Descriptor, err error) {
	if err := json.Unmarshal(e.Raw, &shown); err != nil {
		return shown, resolved, fmt.Errorf("%s: an entry is not a descriptor: %w", IndexFile, err)
	}
	kept := shown.Annotations[AnnotationResolved]
	delete(shown.Annotations, AnnotationResolved)
	delete(shown.Annotations, ocispec.AnnotationRefName)
	delete(shown.Annotations, AnnotationImage)
	if len(shown.Annotations) == 0 {
		shown.Annotations = nil
	}
	if kept == "" || json.Unmarshal([]byte(kept), &resolved) != nil {
		return shown, shown, nil
	}
	return shown, resolved, nil
}

// WithoutImage returns the entry without AnnotationImage.
func (e Entry) WithoutImage() Entry {
	var members map[string]json.RawMessage
	var annotations map[string]json.RawMessage
	if json.Unmarshal(e.Raw, &members) != nil || json.Unmarshal(members["annotations"], &annotations) != nil {
		return e
	}
	delete(annotations, AnnotationImage)
	var err error
	if members["annotations"], err = json.Marshal(annotations); err != nil {
		return e
	}
	raw, err := json.Marshal(members)
	if err != nil {
		return e
	}
	return NewEntry(raw)
}

// names returns the two annotations of a descriptor that may name it; "" for one that
// is not there or not a string.
func names(raw []byte) (name, image string) {
	strictjson.Decode(raw, limits, func(r *strictjson.Reader) error {
		return r.Members(func(key string) error {
			if key != "annotations" {
				return nil
			}
			return r.Members(func(key string) error {
				at := &name
				switch key {
				case ocispec.AnnotationRefName:
				case AnnotationImage:
					at = &image
				default:
					return nil
				}
				if text, err := r.Raw(); err != nil || json.Unmarshal(text, at) != nil {
					*at = ""
				}
				return nil
			})
		})
	})
	return name, image
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
