package layout_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/require"
)

// someRounds returns how many rounds a test does: full, or raceRounds under the race
// detector, which makes kills and crashes of processes slow.
func someRounds(full, raceRounds int) int {
	if raced {
		return raceRounds
	}
	return rounds.Of(full)
}

// A testImage is an index with one image that is pulled and one that is not.
type testImage struct {
	ref      reference.Reference
	index    ocispec.Descriptor
	manifest ocispec.Descriptor
	all      []ocispec.Descriptor // in the order of a pull: blobs, manifest, index
	data     map[digest.Digest][]byte
}

func newTestImage(t testing.TB, name string, seed int, sizes ...int) *testImage {
	img := &testImage{ref: reference.MustParse(name), data: make(map[digest.Digest][]byte)}
	add := func(mediaType string, data []byte) ocispec.Descriptor {
		desc := descOf(mediaType, data)
		img.data[desc.Digest] = data
		img.all = append(img.all, desc)
		return desc
	}
	marshal := func(v any) []byte {
		data, err := json.Marshal(v)
		require.NoError(t, err)
		return data
	}
	config := add(ocispec.MediaTypeImageConfig, fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","seed":%d}`, seed))
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config}
	for i, size := range sizes {
		data, _ := blobOf(seed*100+i, size)
		manifest.Layers = append(manifest.Layers, add(ocispec.MediaTypeImageLayerGzip, data))
	}
	img.manifest = add(ocispec.MediaTypeImageManifest, marshal(manifest))
	img.manifest.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	other := descOf(ocispec.MediaTypeImageManifest, fmt.Appendf(nil, "arm64 %d", seed))
	other.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm64"}
	img.index = add(ocispec.MediaTypeImageIndex, marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{other, img.manifest},
	}))
	return img
}

// A testPuller uses a Layout as a transfer does.
type testPuller struct {
	l        *layout.Layout
	fetched  atomic.Int64 // bytes
	chunk    int          // of one write; 0 means 64 KiB
	oneByOne bool         // blob after blob
	wrote    func()       // called after each write
}

func (p *testPuller) pull(ctx context.Context, img *testImage) error {
	blobs := img.all[:len(img.all)-2]
	errs := make([]error, len(blobs))
	var wg sync.WaitGroup
	for i, desc := range blobs {
		if p.oneByOne {
			errs[i] = p.blob(ctx, desc, img.data[desc.Digest])
			continue
		}
		wg.Go(func() { errs[i] = p.blob(ctx, desc, img.data[desc.Digest]) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, desc := range []ocispec.Descriptor{img.manifest, img.index} {
		if err := p.blob(ctx, desc, img.data[desc.Digest]); err != nil {
			return err
		}
	}
	return p.l.Tag(ctx, img.ref, img.index)
}

func (p *testPuller) blob(ctx context.Context, desc ocispec.Descriptor, data []byte) error {
	if ok, err := p.l.Has(ctx, desc); ok || err != nil {
		return err
	}
	for try := 0; ; try++ {
		err := p.try(ctx, desc, data)
		if errors.Is(err, content.ErrDigestMismatch) && try == 0 {
			continue
		}
		return err
	}
}

func (p *testPuller) try(ctx context.Context, desc ocispec.Descriptor, data []byte) error {
	in, err := p.l.Ingest(ctx, desc)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	at := int64(0)
	for off, n := range in.Have() {
		if err := p.fetch(ctx, in, data, at, off); err != nil {
			return err
		}
		at = off + n
	}
	if err := p.fetch(ctx, in, data, at, desc.Size); err != nil {
		return err
	}
	got := make([]byte, desc.Size)
	if _, err := in.ReadAt(got, 0); err != nil && desc.Size > 0 {
		return err
	}
	if !verify.Bytes(desc.Digest, got) {
		if err := in.Discard(); err != nil {
			return err
		}
		return &content.Error{Reason: content.ErrDigestMismatch}
	}
	return in.Commit(ctx)
}

func (p *testPuller) fetch(ctx context.Context, in content.Ingest, data []byte, from, to int64) error {
	chunk := int64(p.chunk)
	if chunk == 0 {
		chunk = 64 << 10
	}
	for from < to {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := in.WriteAt(data[from:min(from+chunk, to)], from)
		p.fetched.Add(int64(n))
		if err != nil {
			return err
		}
		from += int64(n)
		if p.wrote != nil {
			p.wrote()
		}
	}
	return nil
}

// readFile returns the content of an open file.
func readFile(f disk.File) ([]byte, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(f, 0, fi.Size()))
}

// requireSound checks that every visible blob has the digest in its name, and that
// index.json is valid.
func requireSound(t testing.TB, fsys disk.FS, what string) {
	t.Helper()
	for _, a := range algorithms {
		entries, err := fsys.ReadDir(blobsDir + "/" + a)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		require.NoError(t, err, what)
		for _, e := range entries {
			f, err := fsys.OpenFile(blobsDir+"/"+a+"/"+e.Name(), 0)
			require.NoError(t, err, what)
			data, err := readFile(f)
			f.Close()
			require.NoError(t, err, what)
			require.True(t, verify.Bytes(digest.Digest(a+":"+e.Name()), data), "%s: blob %s is wrong", what, e.Name())
		}
	}
	f, err := fsys.OpenFile(indexName, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	require.NoError(t, err, what)
	defer f.Close()
	data, err := readFile(f)
	require.NoError(t, err, what)
	var index ocispec.Index
	require.NoError(t, json.Unmarshal(data, &index), "%s: %s is %q", what, indexName, data)
	require.Equal(t, 2, index.SchemaVersion, "%s: %s is %q", what, indexName, data)
}

// requirePulled checks that an image is stored with all its content.
func requirePulled(t testing.TB, l *layout.Layout, img *testImage, what string) {
	t.Helper()
	got, err := l.Lookup(t.Context(), img.ref)
	require.NoError(t, err, what)
	require.Equal(t, img.index.Digest, got.Digest, what)
	for _, desc := range img.all {
		ok, err := l.Has(t.Context(), desc)
		require.NoError(t, err, what)
		require.True(t, ok, "%s: blob %s is missing", what, desc.Digest)
	}
	for d, err := range l.Verify(t.Context()) {
		require.NoError(t, err, "%s: %s", what, d)
	}
}
