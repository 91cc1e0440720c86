package archive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Import stores an OCI archive in a store that takes bytes only in order, also if an earlier
// try left bytes there. An old archive of docker save has files that must be read back, so
// its Import fails and leaves nothing.
func TestImportIntoAStoreThatAppends(t *testing.T) {
	from, to := new(pullertest.MemStore), &pullertest.MemStore{InOrder: true}
	img := newImage(t, from, "registry.example/team/one:v1", "a layer", "another")
	in, err := to.Ingest(t.Context(), img.layers[0])
	require.NoError(t, err)
	_, err = in.WriteAt([]byte("wrong"), 0)
	require.NoError(t, err)
	require.NoError(t, in.Close())
	_, err = Import(t.Context(), to, bytes.NewReader(exported(t, from, img.ref)), Config{})
	require.NoError(t, err)
	requireImage(t, to, img)

	_, err = Import(t.Context(), to, bytes.NewReader(tarOf(t, dockerFiles(t, "busybox:1.36")...)), Config{})
	assert.ErrorIs(t, err, errors.ErrUnsupported)
	assert.Equal(t, content.ErrStore, content.ReasonOf(err))
}

// A sharingStore is a MemStore in order that takes blobs of another store over without their
// bytes, as a namespace of containerd does with those of another namespace.
type sharingStore struct {
	pullertest.MemStore
	other content.Store
}

func (s *sharingStore) Ingest(ctx context.Context, desc ocispec.Descriptor) (content.Ingest, error) {
	in, err := s.MemStore.Ingest(ctx, desc)
	if err != nil {
		return nil, err
	}
	f, err := s.other.Open(ctx, desc)
	if err != nil {
		return in, nil
	}
	defer f.Close()
	_, err = io.Copy(io.NewOffsetWriter(in, 0), f)
	return in, err
}

func TestImportIntoAStoreThatSharesBlobs(t *testing.T) {
	from := new(pullertest.MemStore)
	img := newImage(t, from, "registry.example/team/one:v1", "a layer", "another")
	to := &sharingStore{pullertest.MemStore{InOrder: true}, from}
	_, err := Import(t.Context(), to, bytes.NewReader(exported(t, from, img.ref)), Config{})
	require.NoError(t, err)
	requireImage(t, to, img)
}

// A holdingStore is a MemStore that counts who holds its content.
type holdingStore struct {
	pullertest.MemStore
	held, calls int
	fail        error
}

func (s *holdingStore) Hold(context.Context) (func(), error) {
	if s.fail != nil {
		return nil, s.fail
	}
	s.held++
	s.calls++
	return func() { s.held-- }, nil
}

func TestImportHoldsContent(t *testing.T) {
	from, to := new(pullertest.MemStore), new(holdingStore)
	img := newImage(t, from, "registry.example/team/one:v1", "a layer")
	archive := exported(t, from, img.ref)
	_, err := Import(t.Context(), to, bytes.NewReader(archive), Config{})
	require.NoError(t, err)
	assert.Equal(t, []int{1, 0}, []int{to.calls, to.held})
	_, err = Import(t.Context(), to, bytes.NewReader(archive[:1000]), Config{})
	require.Error(t, err)
	assert.Equal(t, []int{2, 0}, []int{to.calls, to.held})
	to.fail = errors.New("no lease today")
	_, err = Import(t.Context(), to, bytes.NewReader(archive), Config{})
	assert.ErrorIs(t, err, to.fail)
}
