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
	// Mirrors is the keyring of the request for mirrors of the registry. A Source asks the
	// keyring with the name that the image has at a mirror, and sends the credentials that
	// it yields only to that mirror. A Source that remembers which credentials a mirror
	// accepted uses them only for requests whose keyring has the same fingerprint, so that
	// a request does not use what another request opened. Nil means that the request does
	// not have such credentials.
	Mirrors credentials.Keyring
	// Confirmation is the Confirmation of the Document that the image's name points to, for
	// calls that ask for content which this document names. A Source that finds hosts at run
	// time asks them only if it has made the Confirmation itself. The Confirmation shows that
	// the registry or one of its mirrors has let the caller have the image. Nil means that
	// such hosts are not asked.
	Confirmation any
}

// An Opening says which mirror let the caller have a document, and with which credential.
// The zero Opening means that the registry itself did, with the credential of the Repo.
type Opening struct {
	Mirror     string                 // the image's name at the mirror, without tag and digest
	Credential credentials.Credential // the credential that the mirror accepted; zero = anonymous
	// OfRequest says that Credential is from the Repo's Mirrors. Otherwise Credential is from
	// the configuration of the Source.
	OfRequest bool
	// Unconfirmed says that neither the registry nor a mirror has let the caller have the
	// document, because they could not be reached. So this pull does not show that a Pod may
	// use the image.
	Unconfirmed bool
}

// An Admission is an image about which a [Check] decides before any of its blobs is fetched.
type Admission struct {
	// Ref is the name of the image as it was asked for.
	Ref reference.Reference
	// Repo is the repository that the image comes from, with the credential that opened
	// the image. For an image that is stored already, it has one of the credentials that may
	// open the image. The Ref of Repo is the name of the image with the digest of Top, so that
	// a check reads this image, even if the tag moves.
	Repo Repo
	// Source is where the image comes from. A check can read signatures from it, with the
	// credential of Repo. It must not use this credential for another registry. A Source that
	// can list signatures is a [ReferrerLister].
	Source Source
	// Top is the descriptor of what the name points to, which often is an index.
	Top ocispec.Descriptor
	// Descriptor is the descriptor of the platform's manifest, and Manifest has the bytes of
	// that manifest. Without an index, Descriptor is equal to Top.
	Descriptor ocispec.Descriptor
	Manifest   []byte
	// Pod is the Pod that the image is for; zero if the image is not for a Pod.
	Pod credentials.Pod
}

// A Check decides whether images may be used. Package puller asks the Check before it fetches
// a blob of an image, and before it uses an image that is stored already. The methods may be
// called concurrently.
type Check interface {
	// Admit returns a nil error if the image may be used. Its result by is then one line that
	// names what admitted the image, such as a program, a key or a rule. The answer may depend
	// on the Namespace of the Pod. It must not depend on other fields of the Pod, because the
	// answer is remembered for the namespace.
	//
	// With any error the image is not used. If the error wraps the end of a context, or a
	// [Reason] other than ErrRefused, as the errors of a Source do, it means that the check
	// could not decide (ErrCheckFailed). Every other error means that the check refuses the
	// image (ErrRefused). The text of an error must not have secrets.
	Admit(ctx context.Context, image Admission) (by string, err error)
	// Fingerprint identifies the rules by which the check decides. If it changes, the check
	// is asked again about images that it has admitted. If it is "", answers are not
	// remembered.
	Fingerprint() string
}

// A CheckExplainer is a Check that can say what it would do. It is optional.
type CheckExplainer interface {
	// Explain returns one line about the rule by which the check would decide about the image
	// with the name ref. It does no I/O.
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
	// Opening says whether the registry or a mirror let the caller have the document. For a
	// Document without a Body, it says the same of the digest.
	Opening Opening
	// Confirmation, if it is not nil, goes into the Repo of the calls for content that the
	// document names, with the same credential. Only the Source that has made it can use it.
	Confirmation any
	// Mask, if it is not nil, returns text without the secrets that only the Source knows,
	// such as tokens that it got for the credential. It is for errors that quote the
	// document, because a registry can repeat in a document the secrets that it has
	// received.
	Mask func(text string) string
	// Provenance says where the document came from. Without a Body, it says where the digest
	// came from.
	Provenance Provenance
}

// A Provenance says where a document or a blob came from, as far as the Source knows. A field
// that is true can let other users have the content, so a Source sets a field only if it knows
// that the field is true. The zero Provenance says nothing.
type Provenance struct {
	// Registry says that the registry of the reference itself sent a document, or its
	// digest. It is false if only a mirror sent it.
	Registry bool
	// Anonymous says that no request for the content could open private content: none had a
	// password, a token for a credential, a client certificate, or a header of the
	// configuration.
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
	// Provenance, if it is not nil, returns where the bytes came from that were read so far.
	// A field is true only if it is true for all of these bytes. Provenance may be called
	// after Close. If Provenance is nil, the Source does not know.
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
	// artifactType is not "", only entries of that type are listed. The list may be empty.
	// Its content is not verified: a caller must verify the content that it uses, and that
	// this content is for subject.
	Referrers(ctx context.Context, repo Repo, subject digest.Digest, artifactType string) ([]ocispec.Descriptor, error)
}

// A MirrorNamer is a Source that asks mirrors with credentials of Repo.Mirrors. It is
// optional. Package transfer sets Repo.Mirrors only for a Source that is a MirrorNamer.
type MirrorNamer interface {
	// MirrorNames returns the names that ref has at the mirrors of its registry. The Source
	// asks Repo.Mirrors only with these names. Pulls share their work only if their keyrings
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

// A Holder is a Store that by itself removes content to which no name leads, as containerd's
// garbage collection does. It is optional.
type Holder interface {
	// Hold keeps content for a caller that is going to name it. Until the caller calls
	// release, the Store does not remove content that Has reports as stored, or that Commit
	// makes visible, after Hold has returned. Calls may overlap: content is kept until all
	// calls that hold it are released. release may be called more than once.
	//
	// After release, the Store may remove content without a name. It should keep such content,
	// and the bytes of unfinished ingests, for some hours, so that a later pull can go on
	// with them.
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
	// bytes. At the start these are the bytes that an earlier try left, and Have yields
	// them as one range. A WriteAt at another offset than Offset fails and changes nothing.
	// A WriteAt that fails for another reason may have moved Offset. To write the first
	// bytes again, the caller discards the ingest and starts another one.
	//
	// If the ingest had bytes at the start, ReadAt must return the bytes before Offset,
	// because the caller has to verify them. This is not needed if the ingest is a
	// VerifyingIngest. In all other cases ReadAt may fail. So a Store that can neither
	// return the bytes of an ingest nor verify them starts each ingest at 0.
	Offset() int64
}

// A VerifyingIngest is an Ingest whose Commit verifies the content, so that the caller need
// not hash it too. It is optional.
type VerifyingIngest interface {
	Ingest
	// Verifies reports whether Commit compares the digest and the size of all bytes,
	// including those that an earlier try left, with the descriptor. If they differ, Commit
	// makes nothing visible, discards the bytes, and returns an error with the reason
	// ErrDigestMismatch or ErrSizeMismatch. If Verifies returns false, the caller must
	// verify the content, as for an Ingest without this method.
	Verifies() bool
}
