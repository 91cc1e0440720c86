package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// errDisk is the error of a faultyStore.
var errDisk = errors.New("the disk fails")

// A faultyStore is a spyStore whose operation number fail fails once.
type faultyStore struct {
	spyStore
	ops, fail int
}

func (s *faultyStore) step(what string) error {
	s.ops++
	if s.ops-1 != s.fail {
		return nil
	}
	return fmt.Errorf("%s: %w", what, errDisk)
}

func (s *faultyStore) Lookup(ctx context.Context, ref reference.Reference) (ocispec.Descriptor, error) {
	if err := s.step("lookup"); err != nil {
		return ocispec.Descriptor{}, err
	}
	return s.spyStore.Lookup(ctx, ref)
}

func (s *faultyStore) Has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if err := s.step("has"); err != nil {
		return false, err
	}
	return s.spyStore.Has(ctx, desc)
}

func (s *faultyStore) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if err := s.step("open"); err != nil {
		return nil, err
	}
	r, err := s.spyStore.Open(ctx, desc)
	if err != nil {
		return nil, err
	}
	return faultyReader{r, s}, nil
}

func (s *faultyStore) Tag(ctx context.Context, ref reference.Reference, desc ocispec.Descriptor) error {
	if err := s.step("tag"); err != nil {
		return err
	}
	return s.spyStore.Tag(ctx, ref, desc)
}

func (s *faultyStore) Ingest(ctx context.Context, desc ocispec.Descriptor) (content.Ingest, error) {
	if err := s.step("ingest"); err != nil {
		return nil, err
	}
	in, err := s.spyStore.Ingest(ctx, desc)
	if err != nil {
		return nil, err
	}
	return faultyIngest{in, s}, nil
}

type faultyReader struct {
	io.ReadCloser
	s *faultyStore
}

func (r faultyReader) Read(p []byte) (int, error) {
	if err := r.s.step("read"); err != nil {
		return 0, err
	}
	return r.ReadCloser.Read(p)
}

type faultyIngest struct {
	content.Ingest
	s *faultyStore
}

func (in faultyIngest) WriteAt(p []byte, off int64) (int, error) {
	if err := in.s.step("write"); err != nil {
		return 0, err
	}
	return in.Ingest.WriteAt(p, off)
}

func (in faultyIngest) ReadAt(p []byte, off int64) (int, error) {
	if err := in.s.step("read back"); err != nil {
		return 0, err
	}
	return in.Ingest.ReadAt(p, off)
}

func (in faultyIngest) Commit(ctx context.Context) error {
	if err := in.s.step("commit"); err != nil {
		return err
	}
	return in.Ingest.Commit(ctx)
}

// If any operation of the store fails, Import returns its error. It tags no image of the
// archive before all content is stored. The next Import succeeds.
func TestImportIntoAFaultyStoreReturnsTheError(t *testing.T) {
	from := new(pullertest.MemStore)
	one, two := newImage(t, from, "registry.example/one:v1", "a layer"), newImage(t, from, "registry.example/two:v1", "another")
	for name, archive := range map[string][]byte{
		"oci":         exported(t, from, one.ref, two.ref),
		"docker save": tarOf(t, dockerFiles(t, "registry.example/one:v1", "registry.example/two:v1")...),
	} {
		for fail, done := 0, false; !done; fail++ {
			store := &faultyStore{fail: fail}
			entries, err := Import(t.Context(), store, bytes.NewReader(archive), Config{})
			if done = store.ops <= fail; done {
				require.NoError(t, err, name)
				assert.Len(t, entries, 2, name)
				assert.Greater(t, fail, 20, "more than 20 operations can fail")
				break
			}
			if err == nil { // the failed operation was the clean-up of one file
				require.Len(t, entries, 2, "%s, operation %d", name, fail)
				continue
			}
			require.ErrorIs(t, err, errDisk, "%s, operation %d", name, fail)
			assert.NotErrorIs(t, err, content.ErrBadIndex, "%s, operation %d: %v", name, fail, err)
			if store.tags > 0 {
				for _, img := range []string{"registry.example/one:v1", "registry.example/two:v1"} {
					if desc, err := store.spyStore.Lookup(t.Context(), reference.MustParse(img)); err == nil {
						exported(t, &store.spyStore, reference.MustParse(img))
						assert.NotEmpty(t, desc.Digest)
					}
				}
			}
			_, err = Import(t.Context(), &store.spyStore, bytes.NewReader(archive), Config{})
			require.NoError(t, err, "%s, after operation %d", name, fail)
		}
	}
}

// If any operation of the store fails, Export returns its error and does not write a
// complete archive.
func TestExportFromAFaultyStoreReturnsTheError(t *testing.T) {
	store := &faultyStore{fail: -1}
	img := newImage(t, store, "registry.example/one:v1", "a layer", "another")
	whole := exported(t, store, img.ref)
	for fail := 0; ; fail++ {
		store.ops, store.fail = 0, fail
		var b bytes.Buffer
		err := Export(t.Context(), store, &b, img.ref)
		if store.ops <= fail {
			require.NoError(t, err)
			assert.Equal(t, whole, b.Bytes())
			assert.Greater(t, fail, 20, "more than 20 operations can fail")
			return
		}
		require.ErrorIs(t, err, errDisk, "operation %d", fail)
		_, err = Import(t.Context(), new(pullertest.MemStore), &b, Config{})
		assert.Error(t, err, "operation %d: the archive is not complete", fail)
	}
}
