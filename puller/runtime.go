package puller

import (
	"context"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// A Runtime stores images and pulls an image with one credential. Its methods may be
// called concurrently. The built-in Runtime is package transfer's. A CRI runtime, a
// Docker daemon or a fake in a test can be a Runtime too. A Runtime can also implement
// [Planner], [Resolver], [Inspector] and content.MirrorNamer. A wrapper around a Runtime has
// to forward those of them that the wrapped Runtime implements.
//
// What an error wraps decides what the Puller does next. After fs.ErrNotExist and
// fs.ErrPermission it tries the next credential. It tries no other credential after a
// *RetryError or an error of credentials.Stop. ErrRegistryUnavailable and
// ErrSignatureValidation become the reason of the pull that failed. The host, status and
// codes of a content.Error are listed in [Answer].
type Runtime interface {
	// Status returns the stored image for spec's platform. The error wraps
	// fs.ErrNotExist if the image is not stored. An image that is stored only under names
	// of other repositories counts as not stored, also where spec has its digest, because
	// the repository that an image was pulled from decides who may use it.
	Status(ctx context.Context, spec Spec) (Image, error)
	// Pull makes one attempt with spec's credential. It does not fetch a complete image
	// again, but still asks the registry whether the credential opens the image.
	Pull(ctx context.Context, spec Spec) (Image, error)
}

// A Planner is a Runtime that can say what Pull would do. Optional: without it,
// [Puller.Explain] does not ask the registry.
type Planner interface {
	// Plan resolves the name and chooses the manifest as Pull does, and fetches no blob.
	Plan(ctx context.Context, spec Spec) (Plan, error)
}

// A Resolver is a Runtime that can say what a name points to. Optional: without it,
// [Puller.Resolve] and [Puller.Find] ask a Planner, and fail without that.
type Resolver interface {
	// Resolve asks the registry, with spec's credential, which digest spec's name
	// has now: that of the index where there is one. It stores nothing and ignores
	// spec's platform. Its errors wrap the same errors as those of a Runtime.
	Resolve(ctx context.Context, spec Spec) (digest.Digest, error)
}

// An Inspector is a Runtime that can describe a stored image for Config.Admission. Its
// Pull calls Spec.Admit. Config.Admission needs an Inspector.
type Inspector interface {
	// Inspect describes the stored image for spec's platform with all fields of the
	// Admission except Pod. Repo has spec's credential. Top and Descriptor have the digests
	// that are Digest and Manifest of the Image of Status. It does not ask the registry. The
	// error wraps fs.ErrNotExist if the image is not stored.
	Inspect(ctx context.Context, spec Spec) (content.Admission, error)
}

// A Spec says which image a Runtime is asked for, and with which credential.
type Spec struct {
	Ref reference.Reference
	// Written is the name as in the Pod, with :latest appended where neither tag nor
	// digest was written. A CRI runtime is asked for this name.
	Written  string
	Platform ocispec.Platform
	// RuntimeHandler is that of the request: the image is pulled for it, and asked for among
	// the images of this handler. A Runtime that cannot keep images for several handlers
	// returns an error that wraps errors.ErrUnsupported, unless it is "".
	RuntimeHandler string
	Credential     credentials.Credential // zero = anonymous
	// Mirrors has the credentials of the request and of the node for the image's names at
	// mirrors, as content.MirrorNamer returns them; nil = none. The Credential above is not
	// for mirrors.
	Mirrors credentials.Keyring
	// Opened is called by a Runtime before its method returns without an error, if a mirror
	// has let it have what the name points to, and the registry itself has not been asked.
	// The Records then say whom the mirror admits: every Pod if the mirror was asked without
	// a credential or with one of the node, and otherwise those who have the credential of
	// the Pod that the mirror accepted. nil = not needed.
	Opened func(content.Opening)
	// Last reports whether no other credential follows if this one is refused. A Runtime
	// may call it only before its method returns, and only after a refusal, because Last
	// can start a helper or a plugin. nil = not known.
	Last func() bool
	// Admit, if it is not nil, is called by Pull before any blob is fetched, with all
	// fields of the Admission except Pod. If it returns an error, nothing of the image but
	// its manifests may be stored, and Pull returns an error that wraps it. Admit may be
	// called concurrently, and more than once for a pull if an index names several
	// manifests for a platform. Status and Plan do not call it.
	Admit func(ctx context.Context, image content.Admission) error
	// Progress is called while the pull goes on; nil = not needed. A Runtime need not
	// call it. The calls for one Pull must not overlap, and must end before Pull returns.
	Progress func(Progress)
}

// An Image is what a Runtime stores under a name.
type Image struct {
	Ref    reference.Reference
	ID     string        // key of the records: the config digest in CRI, the manifest digest in package transfer
	Digest digest.Digest // of what the name points to: often an index
	// Manifest is the digest of the platform's manifest. A layout.Layout has its
	// text: fs.ReadFile(layout.FS(), "sha256/"+img.Manifest.Encoded()).
	Manifest digest.Digest
	Platform ocispec.Platform
	Size     int64 // bytes of the manifest and everything it names; 0 if unknown
	// Public has the digests of the documents and blobs of the image whose bytes this pull
	// has fetched, all of them, without a credential. It is empty unless the registry
	// itself, and not only a mirror, said without a credential what the name points to.
	// Only Pull sets it. The Puller writes it into Config.Records.
	Public []digest.Digest
	// AdmittedBy says who admitted the image, as Config.Admission has said; "" if there is
	// no Admission, or if it was not asked because of Config.TrustPresent. The Puller sets
	// it.
	AdmittedBy string
}

// A Plan says what Pull would do, as far as the registry's manifests show it.
type Plan struct {
	Digest   digest.Digest // of what the name points to
	Manifest digest.Digest // of the platform's manifest
	Platform ocispec.Platform
	Verdicts []index.Verdict      // each entry of the index; nil if the name points to a manifest
	Fetch    []ocispec.Descriptor // blobs that would be fetched, each digest once
	Present  []ocispec.Descriptor // blobs that are already stored
}

// A Progress is one moment of a pull: how far one blob is, and how far all of it is.
// Within one Pull, byte counts go down only when State is BlobRestarted.
type Progress struct {
	Blob  ocispec.Descriptor `json:"blob,omitzero"` // zero if only the totals are reported
	State BlobState          `json:"state,omitempty"`
	// Done is how many of the Blob.Size bytes are in the store. Resumed is how many of
	// those this pull did not fetch, because they were kept from an earlier try or were
	// stored already.
	Done    int64 `json:"done"`
	Resumed int64 `json:"resumed,omitempty"`
	// Total, TotalDone and TotalResumed are the same numbers for the whole pull. Total is
	// 0 until the manifest is known.
	Total        int64 `json:"total"`
	TotalDone    int64 `json:"totalDone"`
	TotalResumed int64 `json:"totalResumed,omitempty"`
	// Manifest, if it is not nil, describes the platform's manifest, whose bytes are in its
	// Data. It is set in the report in which Total first is not 0, before the blobs of the
	// manifest are reported. So a program can use blobs while others are still fetched. It is
	// not in the JSON form.
	Manifest *ocispec.Descriptor `json:"-"`
	// Public says, with BlobStored, that all bytes of the blob came without a credential, in a
	// pull in which the registry itself said without one what the name points to. So
	// records.Access.Public will have the blob, and a program may give it to others before
	// the pull has ended.
	Public bool `json:"public,omitempty"`
}

// A BlobState says what happened to a blob.
type BlobState string

// The states of a blob, in the order in which they can come.
const (
	BlobFetching  BlobState = "fetching"  // bytes arrive; reported repeatedly
	BlobRestarted BlobState = "restarted" // what had arrived was wrong and is thrown away
	BlobStored    BlobState = "stored"    // complete and verified in the store
	BlobPresent   BlobState = "present"   // was in the store already
)
