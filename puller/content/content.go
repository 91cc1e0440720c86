package content

import (
	"context"
	"io"
	"iter"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/reference"
)

// A Repo is a repository of a registry, or one name in it, with the credential for it. A
// Source sends the credential only to the registry of Ref.
type Repo struct {
	Ref  reference.Reference
	Cred credentials.Credential // zero = anonymous
	// Mirrors has the credentials of the request for mirrors of the registry. A Source asks
	// it with the name that the image has at a mirror, and sends what it yields only to
	// that mirror. A Source that remembers anything about these credentials keeps it for
	// the fingerprint of the keyring, so that a request does not use what another one
	// opened. Nil means that the request has none.
	Mirrors credentials.Keyring
	// Confirmation is that of the Document that names what is asked for: the manifest or
	// index that the image's name points to. A Source that finds hosts at run time asks them
	// only with a Confirmation of its own, so that the registry or one of its mirrors has let
	// the caller have the image. Nil means none.
	Confirmation any
}

// An Opening says which mirror let the caller have a document, and with which credential.
// The zero Opening means that the registry itself did, with the credential of the Repo.
type Opening struct {
	Mirror     string                 // the image's name at the mirror, without tag and digest
	Credential credentials.Credential // the one that the mirror accepted; zero = anonymous
	// OfRequest says that Credential is from the Repo's Mirrors. If false, it is one of the
	// Source's own.
	OfRequest bool
	// Unconfirmed says that neither the registry nor a mirror has let the caller have the
	// document, because they were away. So this pull lets no Pod use the image.
	Unconfirmed bool
}

// An Admission is an image about which a [Check] decides before any of its blobs is fetched.
type Admission struct {
	// Ref is the name of the image as it was asked for.
	Ref reference.Reference
	// Repo is the repository that the image comes from, with the credential that opened
	// it. Its Ref is the name of the image with the digest of Top, so that what is read by
	// it is the image that was asked about, even if the tag moves. For an image that is
	// stored already it has one of the credentials that may open it.
	Repo Repo
	// Source is where the image comes from. A check can read signatures from it, with the
	// credential of Repo, which must be used for the registry of Repo only. A Source that
	// can list signatures is a [ReferrerLister].
	Source Source
	// Top is the descriptor of what the name points to, which often is an index.
	Top ocispec.Descriptor
	// Descriptor is the descriptor of the platform's manifest, and Manifest has its
	// bytes. Without an index it is equal to Top.
	Descriptor ocispec.Descriptor
	Manifest   []byte
	// Pod is the Pod that the image is for; zero if there is none.
	Pod credentials.Pod
}

// A Check decides whether images may be used. Package puller asks it before any blob of an
// image is fetched, and before an image is used that is stored already. Its methods may be
// called concurrently.
type Check interface {
	// Admit returns nil if the image may be used, and says in one line who admitted it,
	// such as a program, a key or a rule. The answer may depend on the Namespace of the
	// Pod, and must not depend on other fields of the Pod, because it is remembered for
	// the namespace.
	//
	// An error always keeps the image out. It means that the check could not decide
	// (ErrCheckFailed) if it wraps the end of a context, or a [Reason] other than
	// ErrRefused, as the errors of a Source do. Every other error means that the check
	// refuses the image (ErrRefused). Errors must have no secrets in their text.
	Admit(ctx context.Context, image Admission) (by string, err error)
	// Fingerprint identifies what the check decides by. If it changes, images that were
	// admitted are asked about again. If it is "", no answer is remembered.
	Fingerprint() string
}

// A CheckExplainer is a Check that can say what it would do. It is optional.
type CheckExplainer interface {
	// Explain says in one line by which rule the check would decide about the image with
	// the name ref. It does no I/O.
	Explain(ref reference.Reference) string
}

// A Source reads registries. Its methods may be called concurrently. A Source itself waits
// and asks again if the protocol requires it (Retry-After, expired tokens, cut connections,
// mirrors). An error that it returns is final for this call.
//
// A Source can implement [Resolver], [ReferrerLister] and [MirrorNamer] too.
type Source interface {
	// Manifest returns the manifest or index that repo.Ref names. If have is "", it sends
	// one GET. Otherwise it sends a HEAD first, and the document has no Body if the digest
	// is still have. If the HEAD is refused, it sends one GET, and the answer to the GET
	// counts. It sends no GET after 429 or after a refused password: see Error.HeadRefused.
	Manifest(ctx context.Context, repo Repo, have digest.Digest) (Document, error)
	// Blob opens n bytes of desc from offset off, or all bytes from off to the end if n is
	// negative. After a cut connection, an expired token or a change of host, the body
	// continues at the offset that it has reached. The bytes are not verified against the
	// digest. Reads of the body end with ctx. The body gives at most the requested bytes
	// (at most desc.Size if Body.Start is 0). If the server sends fewer, the body ends with
	// io.ErrUnexpectedEOF, never with io.EOF.
	//
	// A call with n >= 0 while another body of the blob is open asks for a part that the
	// caller can also read over that body. If the host limits requests (429 or 503), a
	// Source may return that error at once, and for some time without a request. The caller
	// then asks for the missing bytes in one call with n < 0.
	Blob(ctx context.Context, repo Repo, desc ocispec.Descriptor, off, n int64) (Body, error)
}

// A Document is the answer of Source.Manifest: a manifest or an index.
type Document struct {
	Desc ocispec.Descriptor
	// Body, if it is not nil, has Desc's digest and size, and the digest of the
	// reference if that has one.
	Body []byte
	// Opening says who let the caller have the document. For a Document without a Body it
	// says who gave the digest.
	Opening Opening
	// Confirmation, if it is not nil, is for the Repo of the calls for what the document
	// names, with the same credential. It is of use only to the Source that made it.
	Confirmation any
	// Mask, if it is not nil, returns text without the secrets that only the Source knows,
	// such as tokens that it got for the credential. It is for errors that quote the
	// document, because a registry can repeat in a document the secrets that it has
	// received.
	Mask func(text string) string
	// Provenance says from whom the document is. Without a Body it says who gave the
	// digest.
	Provenance Provenance
}

// A Provenance says from whom a document or a blob is, as far as the Source knows. Whether
// content may be given to others depends on it, so a Source sets a field only if it knows
// that the field is true. The zero Provenance says nothing.
type Provenance struct {
	// Registry says that the registry of the reference itself gave a document, or its
	// digest. It is false for what only a mirror has given.
	Registry bool
	// Anonymous says that no request on the way had anything that could open what is
	// private: no password, no token for a credential, no client certificate, and no
	// header of the configuration.
	Anonymous bool
}

// A Body is the answer of Source.Blob: a blob, or a part of it.
type Body struct {
	io.ReadCloser
	// Start is the offset in the blob at which the body starts: the requested offset, or 0
	// if the server ignored the range.
	Start int64
	// The caller of Blob calls Reject, if it is not nil, when the bytes were not those of
	// the blob, or were more than the blob has (ErrSizeMismatch). The Source remembers a
	// mirror that sent them, and does not ask this mirror for the blob again. Reject
	// returns whether another call of Blob, from byte 0, can bring other bytes. It can if
	// another host is left, or if the bytes came from more than one answer, which is worth
	// one try. If several bodies gave the parts of a blob, the caller rejects each of them,
	// before or after it closes the body, and calls Blob again if any Reject returns true.
	// A nil Reject means that another call does not help.
	Reject func() (again bool)
	// Provenance, if it is not nil, returns from whom the bytes are that were read until
	// now. Its fields are true only if they are true for all of these bytes. It may be
	// called after Close. A nil Provenance means that the Source does not know.
	Provenance func() Provenance
}

// A Resolver is a Source that can return the digest of a name without the document. It is
// optional.
type Resolver interface {
	// Resolve returns the digest of the manifest or index that repo.Ref names, and its
	// media type and size if the registry sends them. It sends one HEAD. A GET follows if
	// the answer has no digest, or if the HEAD is refused and Manifest would send a GET in
	// this case. A digest from a HEAD is not verified: bytes are verified after a GET, or
	// when they are fetched by that digest.
	Resolve(ctx context.Context, repo Repo) (ocispec.Descriptor, error)
}

// A ReferrerLister is a Source that can list what refers to a manifest, such as its
// signatures. It is optional.
type ReferrerLister interface {
	// Referrers lists the manifests in the repository of repo that refer to the manifest or
	// index with the digest subject. The tag and the digest of repo.Ref do not matter. If
	// artifactType is not "", only entries of that type are listed. The list is empty if
	// there are none. Nothing of it is verified: a caller verifies what it uses, and that
	// it is for subject.
	Referrers(ctx context.Context, repo Repo, subject digest.Digest, artifactType string) ([]ocispec.Descriptor, error)
}

// A MirrorNamer is a Source that asks mirrors with credentials of Repo.Mirrors. It is
// optional. Without it, package transfer gives no keyring to a Source.
type MirrorNamer interface {
	// MirrorNames returns the names that ref has at the mirrors of its registry: those with
	// which the Source may ask Repo.Mirrors. Pulls share their work only if their keyrings
	// have equal fingerprints for these names.
	MirrorNames(ctx context.Context, ref reference.Reference) ([]reference.Reference, error)
}

// A Store keeps content by digest, and the descriptors that names point to. Its methods
// may be called concurrently, and several processes may share one Store.
//
// A Store can implement [SpaceReporter], [PartialReporter], [Holder], [Lister] and [Remover]
// too.
type Store interface {
	// Lookup returns the descriptor that ref was tagged with. A ref with a digest is found
	// only by its repository and digest: if another name of that repository was tagged with
	// the digest, or with an index that has a stored manifest of that digest, Lookup
	// returns the descriptor with that digest. The error wraps fs.ErrNotExist if there is
	// none.
	Lookup(ctx context.Context, ref reference.Reference) (ocispec.Descriptor, error)
	// Has reports whether desc's content is stored completely.
	Has(ctx context.Context, desc ocispec.Descriptor) (bool, error)
	// Open opens stored content for reading. The error wraps fs.ErrNotExist if the
	// content is not stored.
	Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
	// Ingest starts to store desc's content. If another goroutine or process ingests the
	// same digest, Ingest waits for the end of that ingest, or of ctx. The error wraps
	// fs.ErrExist if the content is stored, even if it was stored during the wait. After
	// the end of ctx, all methods of the Ingest may fail, except that Discard and Close
	// still end it.
	Ingest(ctx context.Context, desc ocispec.Descriptor) (Ingest, error)
	// Tag makes ref a name of desc, whose content must be stored. It returns when the name
	// is durable.
	Tag(ctx context.Context, ref reference.Reference, desc ocispec.Descriptor) error
}

// A SpaceReporter is a Store that knows how much room it has left. It is optional.
type SpaceReporter interface {
	// Free returns how many more bytes the Store can take, or math.MaxInt64 if it does not
	// know.
	Free(ctx context.Context) (int64, error)
}

// A PartialReporter is a Store that knows, without an ingest, how much of a blob it has. It
// is optional.
type PartialReporter interface {
	// Kept returns how many bytes of desc's content an earlier, unfinished ingest left.
	// These bytes already take up room in the Store.
	Kept(ctx context.Context, desc ocispec.Descriptor) (int64, error)
}

// A Holder is a Store that removes content of its own accord if no name leads to it, as
// containerd's garbage collection does. It is optional.
type Holder interface {
	// Hold keeps content for a caller that is going to name it. Until the caller calls
	// release, the Store does not remove what Has reports as stored, and what Commit makes
	// visible, after Hold has returned. Calls may overlap, and content is kept as long as
	// one of the calls that were there holds it. release may be called more than once.
	//
	// After release the Store may remove what has no name. It should keep this, and the
	// bytes of unfinished ingests, for some hours, because a later pull can go on from it.
	Hold(ctx context.Context) (release func(), err error)
}

// An Ingest is one blob being written, in any order. WriteAt and ReadAt may be called
// concurrently for parts that do not overlap. After Commit, Discard or Close the caller may
// call only Close, which then does nothing.
//
// An Ingest can implement [OrderedIngest] and [VerifyingIngest] too. A Store may return an
// Ingest that does so for one blob, and an Ingest that does not for another.
type Ingest interface {
	io.WriterAt
	io.ReaderAt
	// Have yields the ranges that were kept from an earlier try, each as offset and
	// length. They are in ascending order and do not touch each other. Their bytes are
	// not verified.
	Have() iter.Seq2[int64, int64]
	// Commit makes the content visible under its digest, durably. All of it must have been
	// written, and the caller must have verified it, unless a [VerifyingIngest] does that.
	// Without Commit, ranges that were
	// written may be lost; the Have of a later Ingest yields the ranges that were kept.
	Commit(ctx context.Context) error
	// Discard throws away all bytes of the ingest.
	Discard() error
	// Close ends the ingest and keeps what was written for a later try.
	io.Closer
}

// An OrderedIngest is an Ingest that takes the bytes of its blob only in order. It is
// optional, and made for stores that can only append, as containerd can. The caller writes
// from Offset on. A transfer fetches such a blob over one connection.
type OrderedIngest interface {
	Ingest
	// Offset returns how many bytes of the blob the ingest has. They are the blob's first
	// bytes. At the beginning these are the bytes that an earlier try left, and Have yields
	// them as one range. WriteAt fails if it is called at another offset, and then changes
	// nothing. A WriteAt that fails for another reason may have moved Offset. To write the
	// first bytes again, the caller discards the ingest and begins another one.
	//
	// ReadAt must give the bytes before Offset if the ingest began with some, unless it is
	// a VerifyingIngest: a caller that verifies has to read what an earlier try left. In
	// all other cases ReadAt may always fail. So a Store that neither gives back bytes nor
	// verifies them begins each ingest at 0.
	Offset() int64
}

// A VerifyingIngest is an Ingest whose Commit verifies the content, so that the caller need
// not hash it too. It is optional.
type VerifyingIngest interface {
	Ingest
	// Verifies reports whether Commit compares the digest and the size of all bytes,
	// including those that an earlier try left, with the descriptor. If they differ, Commit
	// makes nothing visible, throws the bytes away, and returns an error with the reason
	// ErrDigestMismatch or ErrSizeMismatch. If Verifies returns false, the caller has to
	// verify the content, as for an Ingest without this method.
	Verifies() bool
}
