package transfer_test

import (
	"context"
	"errors"
	"hash"
	"io"
	"iter"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"crypto/sha256"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var errBoom = errors.New("a callback panicked")

// A fuse says where a callback panics.
type fuse struct{ at atomic.Value }

func (f *fuse) reach(point string) {
	if f.at.Load() == point {
		panic(errBoom)
	}
}

type fusedSource struct {
	*fakeSource
	*fuse
}

func (s fusedSource) Manifest(ctx context.Context, repo content.Repo, have digest.Digest) (content.Document, error) {
	s.reach("Manifest")
	return s.fakeSource.Manifest(ctx, repo, have)
}

func (s fusedSource) Blob(ctx context.Context, repo content.Repo, desc ocispec.Descriptor, off, n int64) (content.Body, error) {
	s.reach("Blob")
	body, err := s.fakeSource.Blob(ctx, repo, desc, off, n)
	return content.Body{ReadCloser: fusedBody{body, s.fuse}, Start: body.Start}, err
}

type fusedBody struct {
	io.ReadCloser
	*fuse
}

func (b fusedBody) Read(p []byte) (int, error) { b.reach("Read"); return b.ReadCloser.Read(p) }
func (b fusedBody) Close() error               { b.reach("Close"); return b.ReadCloser.Close() }

type fusedStore struct {
	*memStore
	*fuse
}

func (s fusedStore) Lookup(ctx context.Context, ref reference.Reference) (ocispec.Descriptor, error) {
	s.reach("Lookup")
	return s.memStore.Lookup(ctx, ref)
}

func (s fusedStore) Tag(ctx context.Context, ref reference.Reference, desc ocispec.Descriptor) error {
	s.reach("Tag")
	return s.memStore.Tag(ctx, ref, desc)
}

func (s fusedStore) Free(ctx context.Context) (int64, error) {
	s.reach("Free")
	return s.memStore.Free(ctx)
}

func (s fusedStore) Ingest(ctx context.Context, desc ocispec.Descriptor) (content.Ingest, error) {
	s.reach("Ingest")
	in, err := s.memStore.Ingest(ctx, desc)
	if err != nil {
		return nil, err
	}
	return fusedIngest{in, s.fuse}, nil
}

type fusedIngest struct {
	content.Ingest
	*fuse
}

func (in fusedIngest) Have() iter.Seq2[int64, int64] { return in.Ingest.Have() }
func (in fusedIngest) WriteAt(p []byte, off int64) (int, error) {
	in.reach("WriteAt")
	return in.Ingest.WriteAt(p, off)
}
func (in fusedIngest) Commit(ctx context.Context) error {
	in.reach("Commit")
	return in.Ingest.Commit(ctx)
}

type fusedHash struct {
	hash.Hash
	*fuse
}

func (h fusedHash) Write(p []byte) (int, error) { h.reach("Hash"); return h.Hash.Write(p) }

// TestPanicsReachAllPulls holds that a panic of anything a Runtime calls reaches each
// pull that waits for the same blob, even if it happens again, and that the Runtime can
// be used afterwards: no buffer, connection or place is lost.
func TestPanicsReachAllPulls(t *testing.T) {
	for _, at := range []string{"Manifest", "Blob", "Read", "Close", "Lookup", "Tag", "Free", "Ingest", "WriteAt", "Commit", "Hash", "Admit", "Progress"} {
		for _, size := range []int{1000, 6 << 20} {
			t.Run(at, func(t *testing.T) {
				f := &fuse{}
				src := fusedSource{newFakeSource(), f}
				image := src.image(t, amd64, random(1, size))
				store := fusedStore{newMemStore(), f}
				rt := newRuntime(t, transfer.Config{
					Source: src, Store: store, MaxMemory: 1, MaxBlobs: 2,
					NewHash: func(digest.Algorithm) hash.Hash { return fusedHash{sha256.New(), f} },
				})
				spec := puller.Spec{Ref: src.name("registry.example/app:v1", image), Platform: amd64,
					Progress: func(puller.Progress) { f.reach("Progress") },
					Admit: func(context.Context, content.Admission) error {
						f.reach("Admit")
						return nil
					}}
				f.at.Store(at)
				rounds, callers := 6, 3
				if at == "Close" { // all bytes are kept by then, and no body is opened again
					rounds, callers = 1, 1
				}
				for range rounds {
					var pulls sync.WaitGroup
					for range callers {
						pulls.Go(func() {
							defer func() {
								err, _ := recover().(error)
								assert.ErrorIs(t, err, errBoom)
							}()
							_, err := rt.Pull(t.Context(), spec)
							assert.Fail(t, "the pull returned", "%v", err)
						})
					}
					pulls.Wait()
				}
				f.at.Store("")
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				_, err := rt.Pull(ctx, spec)
				require.NoError(t, err, "afterwards")
			})
		}
	}
}
