// Package ocilayout reads and writes the documents of an OCI image layout: the file
// index.json with its named entries, and manifests and indexes. A layout on disk and an
// archive follow the same rules, so the package reads blobs through an interface, Blobs,
// that both implement.
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

// Names of files and directories within a layout, as the OCI image specification gives
// them.
const (
	LayoutFile = ocispec.ImageLayoutFile // oci-layout
	IndexFile  = ocispec.ImageIndexFile  // index.json
	BlobsDir   = ocispec.ImageBlobsDir   // blobs

	// Layout is the content of LayoutFile.
	Layout = `{"imageLayoutVersion":"1.0.0"}`
)

const (
	// AnnotationImage is the annotation in which containerd and Docker write an image's
	// whole name.
	AnnotationImage = "io.containerd.image.name"

	// AnnotationResolved is the annotation for an index of which only one manifest is
	// stored. The entry is that manifest. The annotation holds the descriptor of the
	// index, to which the name resolved, as JSON.
	AnnotationResolved = "io.github.pullkit.resolved"
)

// ParseVersion returns the version in the content of a LayoutFile. It does not check the
// version.
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
		err = errors.New("it does not have the member imageLayoutVersion")
	}
	return version, err
}

// limits are the limits of the documents that this package reads. They may be as deep as
// encoding/json allows. The size has no limit here, because the caller, which reads the
// bytes, limits it.
var limits = strictjson.Limits{Depth: strictjson.MaxDepth}

// CheckDescriptor returns an error if desc's digest must not become the name of a file,
// because it is not valid, or if its size is negative. The error is of kind
// content.ErrBadDigest or content.ErrSizeMismatch.
func CheckDescriptor(desc ocispec.Descriptor) error {
	if err := verify.Digest(desc.Digest); err != nil {
		return &content.Error{Reason: content.ErrBadDigest, Err: err}
	}
	if desc.Size < 0 {
		return &content.Error{Reason: content.ErrSizeMismatch, Err: fmt.Errorf("blob %s: size %d is negative", desc.Digest, desc.Size)}
	}
	return nil
}

// BlobName returns the path of a blob within a layout. The digest must have passed
// CheckDescriptor.
func BlobName(d digest.Digest) string {
	return BlobsDir + "/" + strings.Replace(string(d), ":", "/", 1)
}

// BlobDigest returns the digest of the blob that has the path name within a layout. ok is
// false if name is not the path of a blob.
func BlobDigest(name string) (d digest.Digest, ok bool) {
	rest, ok := strings.CutPrefix(name, BlobsDir+"/")
	d = digest.Digest(strings.Replace(rest, "/", ":", 1))
	return d, ok && verify.Digest(d) == nil
}

// An Entry is one descriptor in the list of index.json.
type Entry struct {
	Name  string // the ref.name annotation; "" if the descriptor does not have it
	Ref   string // the whole name of the image, as Reference.String returns it; "" if the entry has only a bare tag or no name
	Match Match  // how the annotations give Ref
	Raw   []byte // the descriptor as JSON, byte for byte as in the file
}

// A Match is the way in which an entry's annotations give its whole name. If several
// entries have the same whole name, layout.Layout.Lookup returns an entry with the lowest
// Match.
type Match int

// The values of Match.
const (
	Exact             Match = iota // the ref.name annotation is the canonical name, as Layout.Tag writes it
	Spelled                        // the ref.name annotation is another spelling of the canonical name, such as docker.io/busybox:1.36
	ByAnnotationImage              // the ref.name annotation is only the tag or digest, and AnnotationImage is the whole name
)

// NewEntry returns the Entry of a descriptor, given as JSON.
//
// The ref.name annotation is the name, because that is what other tools read and write.
// AnnotationImage counts only if ref.name is its tag or digest. The reason is that umoci
// copies AnnotationImage to every entry that it derives from an entry of this package.
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
	if ref := wholeName(image); isTagOf(name, ref) {
		e.Ref, e.Match = ref.String(), ByAnnotationImage
	}
	return e
}

// NamedEntry returns the entry of an image that is called name. ref is its whole name, or
// zero if it does not have one. shown is the descriptor that other tools see. resolved is
// the descriptor to which the name resolved. If shown and resolved differ, resolved is an
// index, and shown is its only stored image.
func NamedEntry(name string, ref reference.Reference, shown, resolved ocispec.Descriptor) (Entry, error) {
	resolved.Data, shown.Data = nil, nil // an entry names content and does not hold it
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

// Decode returns the descriptor that an entry shows, and the descriptor in
// AnnotationResolved. If the entry does not have that annotation, or if the annotation
// cannot be read, resolved is the same as shown. Decode leaves out the annotations that a
// layout adds. It checks neither descriptor. Another tool may have copied
// AnnotationResolved to its own entry, so the caller must check with Lists that resolved
// lists shown.
func (e Entry) Decode() (shown, resolved ocispec.Descriptor, err error) {
	if json.Unmarshal(e.Raw, &shown) != nil {
		// The words of encoding/json change with GOEXPERIMENT=jsonv2.
		return shown, resolved, fmt.Errorf("%s: an entry is not a descriptor: a field has a value of another type", IndexFile)
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

// ImportName returns the name under which archive.Import stores the image of the entry: the
// whole name, else the ref.name annotation, else AnnotationImage. It is "" if the entry has
// no name.
func (e Entry) ImportName() string {
	switch {
	case e.Ref != "":
		return e.Ref
	case e.Name != "":
		return e.Name
	}
	_, image := names(e.Raw)
	return image
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

// names returns the two annotations of a descriptor that may hold its name. An annotation
// that is missing or not a string is "".
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

// wholeName returns the Reference for a name with a registry. It returns zero for a name
// without a registry, because "v1" would parse as docker.io/library/v1.
func wholeName(name string) reference.Reference {
	ref, written, err := reference.ParseWritten(name)
	if err != nil || !written.Registry {
		return reference.Reference{}
	}
	return ref
}

// isTagOf reports whether name is the ref.name that containerd and Docker write for ref:
// the tag without its colon, or the tag, an @ and the digest.
func isTagOf(name string, ref reference.Reference) bool {
	tag, digest := ref.Tag(), string(ref.Digest())
	return name == tag && tag != "" || name == tag+"@"+digest && digest != ""
}
