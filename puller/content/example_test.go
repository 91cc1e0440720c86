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

func ExampleReason() {
	var err error = &content.Error{Reason: content.ErrNotFound, Host: "registry.example"}
	fmt.Println(errors.Is(err, content.ErrNotFound), errors.Is(err, fs.ErrNotExist))
	// Output: true true
}

func ExampleReasonOf() {
	err := fmt.Errorf("pull: %w", &content.Error{Reason: content.ErrDenied})
	switch content.ReasonOf(err) {
	case content.ErrDenied, content.ErrUnauthorized:
		fmt.Println("another credential may help")
	}
	// Output: another credential may help
}

func ExampleError() {
	err := error(&content.Error{Reason: content.ErrRateLimited, Host: "registry.example", RetryAfter: time.Hour})
	var e *content.Error
	if errors.As(err, &e) && e.RetryAfter > 0 {
		fmt.Println(e, "- again in", e.RetryAfter)
	}
	// Output: registry.example: rate limited - again in 1h0m0s
}

// A oneBlob is a Source that has one blob, in memory. A program can write a Source for
// blobs that it has, too.
type oneBlob []byte

func (b oneBlob) Manifest(context.Context, content.Repo, digest.Digest) (content.Document, error) {
	return content.Document{}, &content.Error{Reason: content.ErrNotFound}
}

func (b oneBlob) Blob(_ context.Context, _ content.Repo, _ ocispec.Descriptor, off, n int64) (content.Body, error) {
	rest := b[off:]
	if n >= 0 && n < int64(len(rest)) {
		rest = rest[:n]
	}
	return content.Body{ReadCloser: io.NopCloser(bytes.NewReader(rest)), Start: off}, nil
}

func ExampleSource() {
	var source content.Source = oneBlob("hello, world")
	ref := reference.MustParse("registry.example/app")
	body, err := source.Blob(context.Background(), content.Repo{Ref: ref}, ocispec.Descriptor{Size: 12}, 7, -1)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	fmt.Println(body.Start, string(text), err)
	// Output: 7 world <nil>
}

// oneMirror is a Source with one mirror, which has a wrong blob.
type oneMirror struct{ content.Source }

func (oneMirror) Blob(context.Context, content.Repo, ocispec.Descriptor, int64, int64) (content.Body, error) {
	return content.Body{
		ReadCloser: io.NopCloser(strings.NewReader("wrong")),
		Reject:     func() (again bool) { return true }, // the registry itself can still be asked
	}, nil
}

func ExampleBody() {
	var source content.Source = oneMirror{}
	body, err := source.Blob(context.Background(), content.Repo{}, ocispec.Descriptor{Size: 5}, 0, -1)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer body.Close()
	// The digest does not match:
	if body.Reject != nil && body.Reject() {
		fmt.Println("ask again from byte 0")
	}
	// Output: ask again from byte 0
}

func ExampleDocument() {
	doc := content.Document{
		Body: []byte(`{"config":{"digest":"t0ken"}}`), // the registry repeats the token that it has received
		Mask: func(text string) string { return strings.ReplaceAll(text, "t0ken", "[redacted]") },
	}
	text := `config: digest "t0ken" has no algorithm`
	if doc.Mask != nil {
		text = doc.Mask(text)
	}
	fmt.Println(text)
	// Output: config: digest "[redacted]" has no algorithm
}

func ExampleRepo() {
	repo := content.Repo{Ref: reference.MustParse("registry.example/team/app:v1")}
	fmt.Println(repo.Ref.Registry(), repo.Cred.Anonymous())
	// Output: registry.example true
}

// ofTeam admits the images of one team.
type ofTeam string

func (t ofTeam) Admit(_ context.Context, image content.Admission) (string, error) {
	if repo := image.Ref.Repository(); !strings.HasPrefix(repo, string(t)+"/") {
		return "", fmt.Errorf("%s is not of the team", repo)
	}
	return "the images of " + string(t), nil
}

func (t ofTeam) Fingerprint() string { return "team " + string(t) }

func (t ofTeam) Explain(reference.Reference) string { return "only images of " + string(t) }

func ExampleCheck() {
	var check content.Check = ofTeam("team")
	by, err := check.Admit(context.Background(), content.Admission{Ref: reference.MustParse("registry.example/team/app:v1")})
	fmt.Println(by, err)
	// Output: the images of team <nil>
}

func ExampleCheckExplainer() {
	var explainer content.CheckExplainer = ofTeam("team")
	fmt.Println(explainer.Explain(reference.MustParse("registry.example/app")))
	// Output: only images of team
}

func ExampleAdmission() {
	image := content.Admission{Ref: reference.MustParse("registry.example/other/app:v1")}
	_, err := ofTeam("team").Admit(context.Background(), image)
	fmt.Println(err)
	// Output: other/app is not of the team
}

// signatures is a Source that lists the signatures of one manifest.
type signatures struct{ content.Source }

func (signatures) Referrers(context.Context, content.Repo, digest.Digest, string) ([]ocispec.Descriptor, error) {
	return []ocispec.Descriptor{{ArtifactType: "application/vnd.example.signature", Digest: "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}}, nil
}

func ExampleReferrerLister() {
	image := content.Admission{Source: signatures{}}
	lister, ok := image.Source.(content.ReferrerLister)
	if !ok {
		fmt.Println("the source cannot list signatures")
		return
	}
	list, err := lister.Referrers(context.Background(), image.Repo, image.Descriptor.Digest, "application/vnd.example.signature")
	fmt.Println(len(list), err)
	// Output: 1 <nil>
}

// memory is a minimal Store. It keeps content only in memory.
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

// A quota is a Store with little room. An unfinished blob takes a part of the room.
type quota struct {
	memory
	free, partial int64
}

func (q quota) Free(context.Context) (int64, error)                     { return q.free, nil }
func (q quota) Kept(context.Context, ocispec.Descriptor) (int64, error) { return q.partial, nil }

func ExampleSpaceReporter() {
	var store content.Store = quota{free: 1 << 20}
	if s, ok := store.(content.SpaceReporter); ok {
		free, err := s.Free(context.Background())
		fmt.Println(free >= 5<<20, err) // is there room for 5 MiB?
	}
	// Output: false <nil>
}

func ExamplePartialReporter() {
	var store content.Store = quota{partial: 3 << 20}
	blob := ocispec.Descriptor{Size: 5 << 20}
	if s, ok := store.(content.PartialReporter); ok {
		kept, err := s.Kept(context.Background(), blob)
		fmt.Println(blob.Size-kept, err) // bytes that will need room
	}
	// Output: 2097152 <nil>
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

func ExampleMirrorNamer() {
	client, err := registry.New(registry.Config{Registries: map[string]registry.Hosts{
		"registry.example": {Mirrors: []registry.Host{{URL: "https://harbor.example/v2/proxy", OverridePath: true}}},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	var source content.MirrorNamer = client
	names, err := source.MirrorNames(context.Background(), reference.MustParse("registry.example/team/app:v1"))
	fmt.Println(names[0].Name(), err)
	// Output: harbor.example/proxy/team/app <nil>
}

func ExampleOpening() {
	// A mirror sent the document to a Pod that has a login for the mirror.
	o := content.Opening{Mirror: "mirror.example/team/app", Credential: credentials.Credential{Username: "robot"}, OfRequest: true}
	fmt.Println(o.Mirror, o.Credential.Username, o.OfRequest)
	// Output: mirror.example/team/app robot true
}

func ExampleResolver() {
	client, err := registry.New(registry.Config{})
	var source content.Source = client
	_, byHead := source.(content.Resolver)
	fmt.Println(byHead, err)
	// Output: true <nil>
}

func ExampleProvenance() {
	// The Source has asked the registry itself, without a credential.
	doc := content.Document{Provenance: content.Provenance{Registry: true, Anonymous: true}}
	fmt.Println(doc.Provenance.Registry && doc.Provenance.Anonymous)
	fmt.Println(content.Document{}.Provenance.Anonymous, "of a Source that does not know")
	// Output:
	// true
	// false of a Source that does not know
}
