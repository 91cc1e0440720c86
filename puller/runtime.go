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
// fs.ErrPermission it tries the next credential. After a *RetryError or an error of
// credentials.Stop it tries no other credential. ErrRegistryUnavailable and
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

// A Planner is a Runtime that can say what Pull would do. It is optional: without it,
// [Puller.Explain] does not ask the registry.
type Planner interface {
	// Plan resolves the name and chooses the manifest as Pull does, and fetches no blob.
	Plan(ctx context.Context, spec Spec) (Plan, error)
}

// A Resolver is a Runtime that can say what a name points to. It is optional: without it,
// [Puller.Resolve] and [Puller.Find] ask a Planner. They fail if the Runtime is not a
// Planner either.
type Resolver interface {
	// Resolve asks the registry, with spec's credential, which digest spec's name has now. If
	// the name points to an index, this is the digest of the index. Resolve stores nothing
	// and ignores spec's platform. Its errors wrap what the errors of [Runtime] wrap.
	Resolve(ctx context.Context, spec Spec) (digest.Digest, error)
}

// An Inspector is a Runtime that can describe a stored image for Config.Admission. Its
// Pull calls Spec.Admit. Config.Admission needs an Inspector.
type Inspector interface {
	// Inspect describes the stored image for spec's platform, with all fields of the
	// Admission except Pod. Its Repo has spec's credential. The digests of its Top and
	// Descriptor are the Digest and the Manifest of the Image that Status returns. Inspect
	// does not ask the registry. The error wraps fs.ErrNotExist if the image is not stored.
	Inspect(ctx context.Context, spec Spec) (content.Admission, error)
}

// A Spec says which image a Runtime is asked for, and with which credential.
type Spec struct {
	Ref reference.Reference
	// Written is the name as in the Pod, with :latest appended where neither tag nor
	// digest was written. A CRI runtime is asked for this name.
	Written  string
	Platform ocispec.Platform
	// RuntimeHandler is that of the request: Pull pulls the image for this handler, and
	// Status looks for it among the images of this handler. If RuntimeHandler is not "", a
	// Runtime that cannot keep images for several handlers returns an error that wraps
	// errors.ErrUnsupported.
	RuntimeHandler string
	Credential     credentials.Credential // zero = anonymous
	// Mirrors has the credentials of the request and of the node for the image's names at
	// mirrors, as content.MirrorNamer returns them; nil = none. The Credential above is not
	// for mirrors.
	Mirrors credentials.Keyring
	// Opened is called by a Runtime before its method returns without an error, if a mirror
	// and not the registry answered what the name points to. The Records then say which Pods
	// may use the image. If the mirror was asked without a credential, or with a credential
	// of the node, every Pod may use it. Otherwise the Pods may use it that have the
	// credential which the mirror accepted. nil = not needed.
	Opened func(content.Opening)
	// Last reports whether Credential is the last one, so that no other credential is tried
	// after a refusal. A Runtime may call it only before its method returns, and only after a
	// refusal, because Last can start a helper or a plugin. nil = not known.
	Last func() bool
	// Admit, if it is not nil, is called by Pull before any blob is fetched, with all
	// fields of the Admission except Pod. If it returns an error, nothing of the image but
	// its manifests may be stored, and Pull returns an error that wraps it. Admit may be
	// called concurrently, and more than once for a pull if an index names several
	// manifests for a platform. Status and Plan do not call it.
	Admit func(ctx context.Context, image content.Admission) error
	// Progress is called during the pull; nil = not needed. A Runtime does not have to call
	// it. The calls for one Pull must not overlap, and must end before Pull returns.
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
	// Public has the digests of those documents and blobs of the image of which this pull has
	// fetched all bytes without a credential. It is empty if the registry itself did not say,
	// without a credential, what the name points to. The answer of a mirror does not count.
	// Only Pull sets it. The Puller writes it into Config.Records.
	Public []digest.Digest
	// AdmittedBy is the answer of Config.Admission: which program, key or rule admitted the
	// image. It is "" without an Admission, and if the Admission was not asked because of
	// Config.TrustPresent. The Puller sets it.
	AdmittedBy string
}

// A Plan says what Pull would do, according to the registry's manifests.
type Plan struct {
	Digest   digest.Digest // of what the name points to
	Manifest digest.Digest // of the platform's manifest
	Platform ocispec.Platform
	Verdicts []index.Verdict      // each entry of the index; nil if the name points to a manifest
	Fetch    []ocispec.Descriptor // blobs that would be fetched, each digest once
	Present  []ocispec.Descriptor // blobs that are already stored
}

// A Progress says how far one blob of a pull is, and how far the whole pull is. Within one
// Pull, the numbers of bytes go down only when State is BlobRestarted.
type Progress struct {
	Blob  ocispec.Descriptor `json:"blob,omitzero"` // zero if only the totals are reported
	State BlobState          `json:"state,omitempty"`
	// Done is how many of the Blob.Size bytes are in the store. Resumed is how many bytes of
	// Done this pull did not fetch, because an earlier try had fetched them or because the
	// blob was stored already.
	Done    int64 `json:"done"`
	Resumed int64 `json:"resumed,omitempty"`
	// Total, TotalDone and TotalResumed are the same numbers for the whole pull. Total is
	// 0 until the manifest is known.
	Total        int64 `json:"total"`
	TotalDone    int64 `json:"totalDone"`
	TotalResumed int64 `json:"totalResumed,omitempty"`
	// Manifest, if it is not nil, describes the platform's manifest, whose bytes are in its
	// Data. It is set in the first report in which Total is not 0, before the blobs of the
	// manifest are reported. So a program can use some blobs while the pull fetches others.
	// It is not in the JSON form.
	Manifest *ocispec.Descriptor `json:"-"`
	// Public is set with BlobStored. It says that all bytes of the blob came without a
	// credential, in a pull in which the registry itself said, without a credential, what the
	// name points to. So the blob will be in records.Access.Public, and a program may give it
	// to other nodes before the pull ends.
	Public bool `json:"public,omitempty"`
}

// A BlobState says what happened to a blob.
type BlobState string

// The states of a blob, in the order in which they can come.
const (
	BlobFetching  BlobState = "fetching"  // bytes arrive; reported repeatedly
	BlobRestarted BlobState = "restarted" // the bytes that arrived were wrong, and are thrown away
	BlobStored    BlobState = "stored"    // complete and verified in the store
	BlobPresent   BlobState = "present"   // was in the store already
)
