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

// A Repo is a repository of a registry, or one name in it, with the credential that is
// shown to it. A Source sends the credential to the registry of Ref and to no other
// place.
type Repo struct {
	Ref  reference.Reference
	Cred credentials.Credential // zero = anonymous
}

// A Source reads registries. Its methods may be called concurrently. A
// Source waits and asks again where the protocol requires it (Retry-After, expired
// tokens, cut connections, mirrors). An error that it returns is final for this call.
//
// A Source can implement [Resolver] too.
type Source interface {
	// Manifest returns the manifest or index that repo.Ref names. With have == "" it
	// is one GET; otherwise a HEAD first, and the document has no Body when the digest
	// is still have. A HEAD that is refused is followed by one GET whose answer counts,
	// except after 429, and after a refused password: see Error.HeadRefused.
	Manifest(ctx context.Context, repo Repo, have digest.Digest) (Document, error)
	// Blob opens n bytes of desc from off (n < 0: to the end). The body survives cut
	// connections, expired tokens and changes of host at its own offset; it is not
	// verified against the digest. Reads of the body end with ctx. It gives at most
	// the bytes asked for (from Body.Start 0, at most desc.Size) and
	// io.ErrUnexpectedEOF, never io.EOF, when there are fewer.
	Blob(ctx context.Context, repo Repo, desc ocispec.Descriptor, off, n int64) (Body, error)
}

// A Document is the answer of Source.Manifest: a manifest or an index.
type Document struct {
	Desc ocispec.Descriptor
	// Body, if it is not nil, has Desc's digest and size, and the digest of the
	// reference if that has one.
	Body []byte
	// Mask, if it is not nil, returns text without the secrets that only the Source
	// knows of, such as tokens that it was given for the credential. It is for errors
	// about the document: a registry can repeat what it was sent, and such errors quote
	// the document.
	Mask func(text string) string
}

// A Body is the answer of Source.Blob: a blob, or a part of it.
type Body struct {
	io.ReadCloser
	// Start is where the body really starts: at the offset that was asked for, or at 0
	// if the server ignored the range.
	Start int64
	// Reject, if it is not nil, is called when the bytes were not those of the blob, or
	// more than the blob has (ErrSizeMismatch). The Source remembers a mirror that gave
	// them and leaves it out when the same blob is asked for again. Reject returns
	// whether asking again from byte 0 can bring other bytes: another host is left, or
	// the bytes came from more than one answer, which is worth one try. Where several
	// bodies gave the parts of a blob, each one is rejected, before it is closed or
	// after, and one that returns true is enough. nil means that it brings nothing to
	// ask again.
	Reject func() (again bool)
}

// A Resolver is a Source that can say what a name points to without giving it. Optional.
type Resolver interface {
	// Resolve returns the digest of the manifest or index that repo.Ref names, and its
	// media type and size where the registry sends them. It is one HEAD. A GET follows
	// where the answer has no digest, or where Manifest asks by GET after a HEAD that
	// was refused. The digest is the registry's word: the bytes are verified only
	// after a GET, or when they are fetched by that digest.
	Resolve(ctx context.Context, repo Repo) (ocispec.Descriptor, error)
}

// A Store keeps content by digest and names by reference. Its methods may be
// called concurrently, and several processes may share one.
//
// A Store can implement [SpaceReporter], [PartialReporter] and [Lister] too.
type Store interface {
	// Lookup returns what ref was tagged with. A ref with a digest is found by
	// its repository and digest alone: if another name of that repository was
	// tagged with the digest, or with an index that has a stored manifest of that
	// digest, Lookup returns the descriptor with that digest. The error wraps
	// fs.ErrNotExist if there is none.
	Lookup(ctx context.Context, ref reference.Reference) (ocispec.Descriptor, error)
	// Has reports whether desc's content is stored, whole.
	Has(ctx context.Context, desc ocispec.Descriptor) (bool, error)
	// Open reads stored content. The error wraps fs.ErrNotExist if there is none.
	Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
	// Ingest begins to store desc's content. It waits, cancellably, while
	// another goroutine or process ingests the same digest. The error wraps
	// fs.ErrExist if the content is stored, also if it came while waiting.
	Ingest(ctx context.Context, desc ocispec.Descriptor) (Ingest, error)
	// Tag makes ref name desc, whose content must be stored, and returns when
	// that is durable.
	Tag(ctx context.Context, ref reference.Reference, desc ocispec.Descriptor) error
}

// A SpaceReporter is a Store that knows how much room it has. Optional.
type SpaceReporter interface {
	// Free returns how many more bytes the Store takes; math.MaxInt64 if that is not
	// known.
	Free(ctx context.Context) (int64, error)
}

// A PartialReporter is a Store that knows how much of a blob it has before the blob is
// asked for. Optional.
type PartialReporter interface {
	// Kept returns how many bytes of desc's content an earlier, unfinished
	// ingest left: those take their room already.
	Kept(ctx context.Context, desc ocispec.Descriptor) (int64, error)
}

// An Ingest is one blob being written, in any order. WriteAt and ReadAt may be
// called concurrently for parts that do not overlap. After Commit, Discard or
// Close nothing else may be called but Close, which then does nothing.
type Ingest interface {
	io.WriterAt
	io.ReaderAt
	// Have yields the whole ranges, offset and length, kept from an earlier
	// try, ascending and apart. They are not verified.
	Have() iter.Seq2[int64, int64]
	// Commit makes the content visible under its digest, durably. All of it
	// must have been written, and the caller must have verified it. Ranges
	// written count only from here, or from what a later Have yields.
	Commit(ctx context.Context) error
	// Discard throws away what was written.
	Discard() error
	// Close ends the ingest and keeps what was written for a later try.
	io.Closer
}
