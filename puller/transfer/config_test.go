package transfer_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// configOf returns the descriptor of an image's config.
func (s *fakeSource) configOf(t *testing.T, image ocispec.Descriptor) ocispec.Descriptor {
	var m ocispec.Manifest
	require.NoError(t, json.Unmarshal(s.docs[image.Digest], &m))
	return m.Config
}

// twoStores is a store with blobs that another process stored, without waiting for the
// end of this process' ingests.
type twoStores struct {
	*memStore
	elsewhere *memStore
}

func (s twoStores) Has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if has, err := s.elsewhere.Has(ctx, desc); has || err != nil {
		return has, err
	}
	return s.memStore.Has(ctx, desc)
}

func (s twoStores) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if body, err := s.elsewhere.Open(ctx, desc); err == nil {
		return body, nil
	}
	return s.memStore.Open(ctx, desc)
}

func (s twoStores) Ingest(ctx context.Context, desc ocispec.Descriptor) (content.Ingest, error) {
	if has, err := s.elsewhere.Has(ctx, desc); has || err != nil {
		return nil, cmp.Or(err, fs.ErrExist)
	}
	return s.memStore.Ingest(ctx, desc)
}

// Bytes that were not verified tell no platform: those of a host that gave wrong
// ones, even if the right ones came from another process, or another host, or one
// part of them was kept, or the server ignores ranges.
func TestConfigThatIsNotTheOneNamed(t *testing.T) {
	right := ocispec.Platform{OS: "linux", Architecture: "amd64"}
	wrong := ocispec.Platform{OS: "linux", Architecture: "mips6"} // as many bytes
	for _, strict := range []bool{false, true} {
		for name, tt := range map[string]struct {
			again, stored, kept, good, noRanges bool // good: the part that was kept is
			gets                                int
			err                                 error
		}{
			"refused":                               {gets: 1, err: content.ErrDigestMismatch},
			"another host has it":                   {again: true, gets: 2},
			"another process stored it":             {again: true, stored: true, gets: 1},
			"another process stored it, refused":    {stored: true, gets: 1, err: content.ErrDigestMismatch},
			"a part was kept":                       {kept: true, gets: 2},
			"a good part was kept":                  {kept: true, good: true, gets: 1},
			"a part was kept, stored meanwhile":     {kept: true, stored: true, gets: 1},
			"a part was kept, but all came":         {again: true, kept: true, noRanges: true, gets: 2},
			"a part was kept, but all came, stored": {again: true, kept: true, noRanges: true, stored: true, gets: 1},
		} {
			src, store, elsewhere := newFakeSource(), newMemStore(), newMemStore()
			image := src.image(t, right, random(1, 100))
			ref := src.name(appName, image)
			config := src.configOf(t, image)
			body := src.blobs[config.Digest]
			bad := bytes.Replace(body, []byte("amd64"), []byte("mips6"), 1)
			require.Len(t, bad, len(body))
			require.NotEqual(t, body, bad)
			if tt.kept {
				kept := bad
				if tt.good {
					kept = body
				}
				store.keepAs(t, config.Digest, kept, [2]int64{0, int64(len(kept)) - 1}) // the rest is the same
			}
			gets := 0
			src.blob = func(desc ocispec.Descriptor, _ credentials.Credential, off, n int64) (io.ReadCloser, int64, error) {
				if desc.Digest != config.Digest {
					return nil, 0, nil
				}
				if tt.noRanges {
					off = 0
				}
				from := body
				if gets++; gets == 1 {
					from = bad
					if tt.stored {
						elsewhere.put(t, body)
					}
				}
				rejected := 0
				return &rejectable{bytes.NewReader(from[off:]), tt.again, &rejected}, off, nil
			}
			got, err := transfer.New(transfer.Config{Source: src, Store: twoStores{store, elsewhere}, RequirePlatform: strict}).Pull(t.Context(), spec(ref))
			assert.Equal(t, tt.gets, gets, name)
			store.clean(t)
			if tt.err != nil {
				assert.ErrorIs(t, err, tt.err, name)
				continue
			}
			require.NoError(t, err, name)
			assert.Equal(t, right, got.Platform, name)
			assert.NotEqual(t, wrong, got.Platform, name)
		}
	}
}

// A layer that its manifest calls a config says nothing of the platform, whichever comes first.
func TestLayerThatIsCalledAConfig(t *testing.T) {
	for _, order := range [][2]time.Duration{{1, 2}, {2, 1}} {
		synctest.Test(t, func(t *testing.T) {
			src, store := newFakeSource(), newMemStore()
			m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
			late := map[digest.Digest]time.Duration{}
			put := func(p ocispec.Platform, latency time.Duration) ocispec.Descriptor {
				config, err := json.Marshal(ocispec.Image{Platform: p})
				require.NoError(t, err)
				desc := src.putBlob(ocispec.MediaTypeImageConfig, config)
				late[desc.Digest] = latency
				return desc
			}
			m.Config, m.Layers = put(amd64, order[0]), []ocispec.Descriptor{put(arm64, order[1])}
			ref := src.name(appName, src.putDoc(t, ocispec.MediaTypeImageManifest, m))
			slow := hookSource{src, func(ctx context.Context, d ocispec.Descriptor, _ int64) error { return pause(ctx, late[d.Digest]) }}
			image, err := transfer.New(transfer.Config{Source: slow, Store: store}).Pull(t.Context(), spec(ref))
			require.NoError(t, err)
			assert.Equal(t, amd64, image.Platform)
			store.clean(t)
		})
	}
}

// A manifest that calls thousands of its blobs configs makes no Runtime keep them.
func TestManyConfigsAreNotKept(t *testing.T) {
	const blobs, size = 300, 64 << 10
	src, store := newFakeSource(), newMemStore()
	config, err := json.Marshal(ocispec.Image{Platform: amd64})
	require.NoError(t, err)
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: src.putBlob(ocispec.MediaTypeImageConfig, config),
	}
	for i := range uint64(blobs) {
		m.Layers = append(m.Layers, src.putBlob(ocispec.MediaTypeImageConfig, random(i, size)))
	}
	ref := src.name(appName, src.putDoc(t, ocispec.MediaTypeImageManifest, m))
	heap := func() int64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return int64(s.HeapAlloc)
	}
	var during int64
	store.onTag = func() { during = heap() }
	_, err = transfer.New(transfer.Config{Source: src, Store: store}).Pull(t.Context(), spec(ref))
	require.NoError(t, err)
	assert.Less(t, during-heap(), int64(blobs*size/4), "bytes that end with the pull")
	runtime.KeepAlive(src)
	runtime.KeepAlive(store)
	store.clean(t)
}
