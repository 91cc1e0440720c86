package content_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/reference"
)

func ExampleKind() {
	var err error = &content.Error{Kind: content.ErrNotFound, Host: "registry.example"}
	fmt.Println(errors.Is(err, content.ErrNotFound), errors.Is(err, fs.ErrNotExist))
	// Output: true true
}

func ExampleKindOf() {
	err := fmt.Errorf("pull: %w", &content.Error{Kind: content.ErrDenied})
	switch content.KindOf(err) {
	case content.ErrDenied, content.ErrUnauthorized:
		fmt.Println("another credential may help")
	}
	// Output: another credential may help
}

func ExampleError() {
	err := error(&content.Error{Kind: content.ErrRateLimited, Host: "registry.example", RetryAfter: time.Hour})
	var e *content.Error
	if errors.As(err, &e) && e.RetryAfter > 0 {
		fmt.Println(e, "- again in", e.RetryAfter)
	}
	// Output: registry.example: rate limited - again in 1h0m0s
}

// A directory of blobs that somebody carried here can be a Source: this one has
// one blob in memory.
type oneBlob []byte

func (b oneBlob) Manifest(context.Context, reference.Reference, credentials.Credential, digest.Digest) (ocispec.Descriptor, []byte, error) {
	return ocispec.Descriptor{}, nil, &content.Error{Kind: content.ErrNotFound}
}

func (b oneBlob) Blob(_ context.Context, _ reference.Reference, _ credentials.Credential, _ ocispec.Descriptor, off, n int64) (io.ReadCloser, int64, error) {
	rest := b[off:]
	if n >= 0 && n < int64(len(rest)) {
		rest = rest[:n]
	}
	return io.NopCloser(bytes.NewReader(rest)), off, nil
}

func ExampleSource() {
	var source content.Source = oneBlob("hello, world")
	ref := reference.MustParse("registry.example/app")
	body, start, err := source.Blob(context.Background(), ref, credentials.Credential{}, ocispec.Descriptor{Size: 12}, 7, -1)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	fmt.Println(start, string(text), err)
	// Output: 7 world <nil>
}

// rejectable is a body that only one mirror gave.
type rejectable struct{ io.ReadCloser }

func (rejectable) Reject() (again bool) { return true }

func ExampleRejecter() {
	body := io.ReadCloser(rejectable{io.NopCloser(bytes.NewReader([]byte("wrong")))})
	// The digest did not come out right:
	if r, ok := body.(content.Rejecter); ok && r.Reject() {
		fmt.Println("ask again from byte 0")
	}
	// Output: ask again from byte 0
}

// discreet is a Source that was given one token.
type discreet struct {
	content.Source
	token string
}

func (d discreet) Mask(_ credentials.Credential, text string) string {
	return strings.ReplaceAll(text, d.token, "[redacted]")
}

func ExampleMasker() {
	var source content.Source = discreet{token: "t0ken"}
	text := `digest "t0ken" has no algorithm`
	if m, ok := source.(content.Masker); ok {
		text = m.Mask(credentials.Credential{}, text)
	}
	fmt.Println(text)
	// Output: digest "[redacted]" has no algorithm
}

// memory is as little of a Store as there can be: nothing in it lasts.
type memory map[digest.Digest]*page

type page struct {
	bytes.Buffer
	memory memory
	digest digest.Digest
}

func (m memory) Lookup(context.Context, reference.Reference) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{}, fs.ErrNotExist
}
func (m memory) Has(_ context.Context, d ocispec.Descriptor) (bool, error) {
	return m[d.Digest] != nil, nil
}
func (m memory) Open(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if m[d.Digest] == nil {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(m[d.Digest].Bytes())), nil
}
func (m memory) Ingest(_ context.Context, d ocispec.Descriptor) (content.Ingest, error) {
	if m[d.Digest] != nil {
		return nil, fs.ErrExist
	}
	return &page{memory: m, digest: d.Digest}, nil
}
func (m memory) Tag(context.Context, reference.Reference, ocispec.Descriptor) error { return nil }

func (p *page) WriteAt(data []byte, off int64) (int, error) {
	p.Truncate(int(off))
	return p.Write(data)
}
func (p *page) ReadAt(data []byte, off int64) (int, error) {
	return bytes.NewReader(p.Bytes()).ReadAt(data, off)
}
func (p *page) Have() iter.Seq2[int64, int64] { return func(func(int64, int64) bool) {} }
func (p *page) Commit(context.Context) error  { p.memory[p.digest] = p; return nil }
func (p *page) Discard() error                { return nil }
func (p *page) Close() error                  { return nil }

func ExampleStore() {
	ctx := context.Background()
	var store content.Store = memory{}
	blob := ocispec.Descriptor{Digest: "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", Size: 5}
	_, err := store.Open(ctx, blob)
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	has, err := store.Has(ctx, blob)
	fmt.Println(has, err)
	// Output:
	// true
	// false <nil>
}

// A quota is a Store with little room.
type quota struct {
	memory
	free int64
}

func (q quota) Free(context.Context) (int64, error)                     { return q.free, nil }
func (q quota) Kept(context.Context, ocispec.Descriptor) (int64, error) { return 0, nil }

func ExampleSpacer() {
	var store content.Store = quota{memory{}, 1 << 20}
	if s, ok := store.(content.Spacer); ok {
		free, err := s.Free(context.Background())
		fmt.Println(free >= 5<<20, err) // is there room for 5 MiB?
	}
	// Output: false <nil>
}

func ExampleIngest() {
	ctx := context.Background()
	store := memory{}
	blob := ocispec.Descriptor{Digest: "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", Size: 5}
	var in content.Ingest
	in, err := store.Ingest(ctx, blob)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer in.Close()
	if _, err := in.WriteAt([]byte("hello"), 0); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(in.Commit(ctx)) // after the digest was checked
	has, err := store.Has(ctx, blob)
	fmt.Println(has, err)
	// Output:
	// <nil>
	// true <nil>
}

func ExampleResolver() {
	var source content.Source = &registry.Client{}
	_, byHead := source.(content.Resolver)
	fmt.Println(byHead)
	// Output: true
}
