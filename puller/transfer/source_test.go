package transfer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/require"
)

// A fakeSource is a content.Source without a network.
type fakeSource struct {
	mu        sync.Mutex
	names     map[string]ocispec.Descriptor // by Reference.String
	docs      map[digest.Digest][]byte
	blobs     map[digest.Digest][]byte
	heads     int
	gets      int
	blobGets  map[digest.Digest]int
	asked     []asked
	inFlight  int
	most      int // bodies open at once
	blobBytes int64

	latency  time.Duration // before each answer
	perRead  time.Duration // before each read of a body
	readSize int           // bytes a read gives at most
	noRanges bool
	link     chan struct{} // when set, one read at a time
	// blob, when set, may answer instead.
	blob     func(desc ocispec.Descriptor, cred credentials.Credential, off, n int64) (io.ReadCloser, int64, error)
	manifest func(repo content.Repo) error
}

type asked struct {
	digest digest.Digest
	off, n int64
}

func newFakeSource() *fakeSource {
	return &fakeSource{
		names: map[string]ocispec.Descriptor{}, docs: map[digest.Digest][]byte{},
		blobs: map[digest.Digest][]byte{}, blobGets: map[digest.Digest]int{},
	}
}

func random(seed uint64, size int) []byte {
	data := make([]byte, size)
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	_, _ = rand.NewChaCha8(key).Read(data)
	return data
}

// digests has the digests of large data, which tests make again and again.
var digests sync.Map // from dataKey to digest.Digest

// A dataKey identifies data by its size and first bytes. Random data with different seeds begins with different
// bytes.
type dataKey struct {
	size  int
	begin [32]byte
}

// digestOf returns the digest of data that random made, or that is small.
func digestOf(data []byte) digest.Digest {
	if len(data) < 64<<10 {
		return digest.FromBytes(data)
	}
	key := dataKey{len(data), [32]byte(data)}
	d, ok := digests.Load(key)
	if !ok {
		d, _ = digests.LoadOrStore(key, digest.FromBytes(data))
	}
	return d.(digest.Digest)
}

func (s *fakeSource) putBlob(mediaType string, data []byte) ocispec.Descriptor {
	d := digestOf(data)
	s.blobs[d] = data
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
}

func (s *fakeSource) putDoc(t testing.TB, mediaType string, doc any) ocispec.Descriptor {
	data, err := json.Marshal(doc)
	require.NoError(t, err)
	d := digest.FromBytes(data)
	s.docs[d] = data
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
}

// image puts an image with these layers and returns its manifest.
func (s *fakeSource) image(t testing.TB, platform ocispec.Platform, layers ...[]byte) ocispec.Descriptor {
	config, err := json.Marshal(ocispec.Image{Platform: platform, RootFS: ocispec.RootFS{Type: "layers"}})
	require.NoError(t, err)
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: s.putBlob(ocispec.MediaTypeImageConfig, config), Layers: []ocispec.Descriptor{},
	}
	for _, l := range layers {
		m.Layers = append(m.Layers, s.putBlob(ocispec.MediaTypeImageLayerGzip, l))
	}
	return s.putDoc(t, ocispec.MediaTypeImageManifest, m)
}

func (s *fakeSource) index(t testing.TB, entries ...ocispec.Descriptor) ocispec.Descriptor {
	return s.putDoc(t, ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: entries,
	})
}

func (s *fakeSource) name(name string, desc ocispec.Descriptor) reference.Reference {
	ref := reference.MustParse(name)
	s.names[ref.String()] = desc
	return ref
}

func (s *fakeSource) Manifest(ctx context.Context, repo content.Repo, have digest.Digest) (content.Document, error) {
	if err := pause(ctx, s.latency); err != nil {
		return content.Document{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.manifest != nil {
		if err := s.manifest(repo); err != nil {
			return content.Document{}, err
		}
	}
	desc, ok := s.names[repo.Ref.String()]
	if !ok && repo.Ref.Digest() != "" {
		body, known := s.docs[repo.Ref.Digest()]
		desc, ok = ocispec.Descriptor{Digest: repo.Ref.Digest(), Size: int64(len(body))}, known
		var head struct{ MediaType string }
		_ = json.Unmarshal(body, &head)
		desc.MediaType = head.MediaType
	}
	if have != "" {
		s.heads++
		if ok && desc.Digest == have {
			return content.Document{Desc: desc}, nil
		}
	}
	s.gets++
	if !ok {
		return content.Document{}, &content.Error{Reason: content.ErrNotFound, Host: repo.Ref.Registry()}
	}
	return content.Document{Desc: desc, Body: s.docs[desc.Digest]}, nil
}

func (s *fakeSource) Blob(ctx context.Context, repo content.Repo, desc ocispec.Descriptor, off, n int64) (content.Body, error) {
	if err := pause(ctx, s.latency); err != nil {
		return content.Body{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobGets[desc.Digest]++
	s.asked = append(s.asked, asked{desc.Digest, off, n})
	if s.blob != nil {
		if body, start, err := s.blob(desc, repo.Cred, off, n); body != nil || err != nil {
			answer := content.Body{ReadCloser: body, Start: start}
			if r, ok := body.(*rejectable); ok {
				answer.Reject = r.reject
			}
			return answer, err
		}
	}
	data, ok := s.blobs[desc.Digest]
	if !ok {
		return content.Body{}, &content.Error{Reason: content.ErrNotFound, Host: repo.Ref.Registry(), Err: fmt.Errorf("blob %s", desc.Digest)}
	}
	if s.noRanges {
		off, n = 0, -1
	}
	data = data[off:]
	if n >= 0 {
		data = data[:n]
	}
	s.inFlight++
	s.most = max(s.most, s.inFlight)
	return content.Body{ReadCloser: &fakeBody{ctx: ctx, s: s, r: bytes.NewReader(data)}, Start: off}, nil
}

func (s *fakeSource) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.heads + s.gets
	for _, k := range s.blobGets {
		n += k
	}
	return n
}

type fakeBody struct {
	ctx    context.Context
	s      *fakeSource
	r      io.Reader
	closed bool
}

func (b *fakeBody) Read(p []byte) (int, error) {
	if b.s.link != nil {
		b.s.link <- struct{}{}
		defer func() { <-b.s.link }()
	}
	if err := pause(b.ctx, b.s.perRead); err != nil {
		return 0, err
	}
	if b.s.readSize > 0 && len(p) > b.s.readSize {
		p = p[:b.s.readSize]
	}
	n, err := b.r.Read(p)
	b.s.mu.Lock()
	b.s.blobBytes += int64(n)
	b.s.mu.Unlock()
	return n, err
}

func (b *fakeBody) Close() error {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	if !b.closed {
		b.closed = true
		b.s.inFlight--
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
