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

// A Source reads registries. Its methods may be called concurrently. A
// Source does the waiting and the asking again that the protocol wants
// (Retry-After, expired tokens, cut connections, mirrors); an error it returns
// is final for this call.
type Source interface {
	// Manifest returns the manifest or index that ref names. With have == "" it
	// is one GET; otherwise a HEAD first, and body is nil when the digest is
	// still have. body, when not nil, has desc's digest and size, and ref's
	// digest if ref has one. A HEAD that is refused is followed by one GET whose
	// answer counts, but for 429, and for a refused password: see Error.HeadRefused.
	Manifest(ctx context.Context, ref reference.Reference, cred credentials.Credential, have digest.Digest) (desc ocispec.Descriptor, body []byte, err error)
	// Blob opens n bytes of desc from off (n < 0: to the end). start is where
	// body really starts: off, or 0 if the server ignored the range. The body
	// survives cut connections, expired tokens and changes of host at its own
	// offset; it is not verified against the digest. Reads of the body end with
	// ctx. It gives at most the bytes asked for (from start 0, at most desc.Size)
	// and io.ErrUnexpectedEOF, never io.EOF, when there are fewer.
	Blob(ctx context.Context, ref reference.Reference, cred credentials.Credential, desc ocispec.Descriptor, off, n int64) (body io.ReadCloser, start int64, err error)
}

// A Resolver is a Source that can say what a name points to without giving it. Optional.
type Resolver interface {
	// Resolve returns the digest of the manifest or index that ref names, and its
	// media type and size where the registry tells them. It is one HEAD. A GET follows
	// where the answer has no digest, or where Manifest asks by GET after a HEAD that
	// was refused. The digest is the registry's word: the bytes are verified only
	// after a GET, or when they are fetched by that digest.
	Resolve(ctx context.Context, ref reference.Reference, cred credentials.Credential) (ocispec.Descriptor, error)
}

// A Rejecter is a body of Source.Blob that wants to know that what it gave was
// not the blob. Optional.
type Rejecter interface {
	// Reject says that the bytes read from the body, taken with what was kept
	// of the blob before, do not have its digest, or that the body had more bytes
	// than the blob has (ErrSizeMismatch). The Source remembers a mirror
	// that gave them and leaves it out when the same blob is asked for again.
	// It returns whether asking again from byte 0 can bring other bytes:
	// another host is left, or the bytes came from more than one answer, which
	// is worth one try. Where several bodies gave the parts of a blob, each is
	// told, before it is closed or after, and one that says again is enough.
	Reject() (again bool)
}

// A Masker is a Source that holds secrets nobody else knows of, such as tokens it
// was given for a credential. Optional.
type Masker interface {
	// Mask returns text without cred's secrets and without those that the Source
	// was given for it. It is for errors about documents, which may repeat them.
	Mask(cred credentials.Credential, text string) string
}

// A Store keeps content by digest and names by reference. Its methods may be
// called concurrently, and several processes may share one.
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

// A Spacer is a Store that knows how much room it has. Optional.
type Spacer interface {
	// Free returns how many bytes more the Store takes; math.MaxInt64 if nobody knows.
	Free(ctx context.Context) (int64, error)
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
	// written count only from here, or from what a later Have tells.
	Commit(ctx context.Context) error
	// Discard throws away what was written.
	Discard() error
	// Close ends the ingest and keeps what was written for a later try.
	io.Closer
}
