package transfer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTheRuntimeKeepsTheContractOfPullertest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network pullertest.Network
		var clients []*registry.Client
		err := pullertest.TestRuntime(&network, func(host string) (puller.Runtime, error) {
			client, err := registry.New(registry.Config{PlainHTTP: []string{host}, DialContext: network.DialContext})
			clients = append(clients, client)
			if err != nil {
				return nil, err
			}
			return newRuntime(t, transfer.Config{Source: client, Store: &pullertest.MemStore{}}), nil
		})
		assert.NoError(t, err)
		for _, c := range clients {
			c.CloseIdleConnections()
		}
	})
}

// A gauge is a Source that counts how many of its answers are in use at the same time.
type gauge struct {
	content.Source
	mu                       sync.Mutex
	manifests, mostManifests int
	bodies, mostBodies       int
}

func (g *gauge) add(now, most *int, n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	*now += n
	*most = max(*most, *now)
}

func (g *gauge) Manifest(ctx context.Context, repo content.Repo, have digest.Digest) (content.Document, error) {
	g.add(&g.manifests, &g.mostManifests, 1)
	defer g.add(&g.manifests, &g.mostManifests, -1)
	return g.Source.Manifest(ctx, repo, have)
}

func (g *gauge) Blob(ctx context.Context, repo content.Repo, desc ocispec.Descriptor, off, n int64) (content.Body, error) {
	g.add(&g.bodies, &g.mostBodies, 1)
	body, err := g.Source.Blob(ctx, repo, desc, off, n)
	if err != nil {
		g.add(&g.bodies, &g.mostBodies, -1)
		return content.Body{}, err
	}
	return content.Body{ReadCloser: &gaugedBody{ReadCloser: body, close: sync.OnceFunc(func() { g.add(&g.bodies, &g.mostBodies, -1) })}, Start: body.Start}, nil
}

type gaugedBody struct {
	io.ReadCloser
	close func()
}

func (b *gaugedBody) Close() error {
	defer b.close()
	return b.ReadCloser.Close()
}

// pullThousand makes a thousand pulls of names with the real client, over a network in memory.
func pullThousand(t *testing.T, images int) {
	var network pullertest.Network
	reg, err := pullertest.Start(pullertest.Config{Network: &network})
	require.NoError(t, err)
	defer reg.Close()
	blobs := map[string]bool{}
	var refs []reference.Reference
	for i := range images {
		name := fmt.Sprintf("app-%d:v1", i)
		put, err := reg.PutImage(name, pullertest.ImageSpec{Layers: []int64{1000}, Seed: uint64(i)})
		require.NoError(t, err)
		for _, b := range put.Blobs {
			blobs[string(b.Digest)] = true
		}
		refs = append(refs, reference.MustParse(reg.Host()+"/"+name))
	}
	if images == 1 {
		layer := reg.PutBlob("app-0", ocispec.MediaTypeImageLayer, random(1, 3<<20))
		blobs = map[string]bool{string(layer.Digest): true}
		manifest, err := json.Marshal(ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{layer},
		})
		require.NoError(t, err)
		reg.PutManifest("app-0:v1", ocispec.MediaTypeImageManifest, manifest)
	}
	client, err := registry.New(registry.Config{PlainHTTP: []string{reg.Host()}, DialContext: network.DialContext})
	require.NoError(t, err)
	source := &gauge{Source: client}
	rt := newRuntime(t, transfer.Config{Source: source, Store: &pullertest.MemStore{}})
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Go(func() {
			_, err := rt.Pull(t.Context(), spec(refs[i%len(refs)]))
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	client.CloseIdleConnections()
	assert.Equal(t, len(blobs), reg.Counts().BlobGet, "each blob once")
	// The promise is about requests at the same time. The number of connections is up to
	// net/http: it may dial for a request that another connection then serves.
	assert.LessOrEqual(t, source.mostManifests, 10, "manifests at once")
	assert.LessOrEqual(t, source.mostBodies, 10+1, "blobs at once, and a small one in addition to large ones")
	assert.Zero(t, source.manifests+source.bodies)
}

func TestAThousandPullsOfOneImageFetchItOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { pullThousand(t, 1) })
}

func TestAThousandPullsOfAThousandImagesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { pullThousand(t, 1000) })
}

// The pulls go over loopback into a layout on disk, as those of programs. The requests of each
// pull are counted. No layer is large, because a large one is split if the machine is slow.
func TestPullsIntoALayoutMakeFewRequests(t *testing.T) {
	reg, err := pullertest.Start(pullertest.Config{})
	require.NoError(t, err)
	defer reg.Close()
	_, err = reg.PutImage("one:v1", pullertest.ImageSpec{Layers: []int64{1 << 20}})
	require.NoError(t, err)
	_, err = reg.PutImage("many:v1", pullertest.ImageSpec{Platforms: []ocispec.Platform{amd64, arm64}, Layers: []int64{1000}, Seed: 1})
	require.NoError(t, err)
	store, err := layout.Open(t.TempDir(), layout.Config{})
	require.NoError(t, err)
	defer store.Close()
	client, err := registry.New(registry.Config{PlainHTTP: []string{reg.Host()}})
	require.NoError(t, err)
	defer client.CloseIdleConnections()
	rt := newRuntime(t, transfer.Config{Source: client, Store: store})
	for name, cold := range map[string]int{"one:v1": 3, "many:v1": 4} {
		s := spec(reference.MustParse(reg.Host() + "/" + name))
		reg.ResetCounts()
		image, err := rt.Pull(t.Context(), s)
		require.NoError(t, err)
		assert.Equal(t, cold, reg.Counts().Total(), "%s cold", name)
		assert.Len(t, image.Public, cold, "%s: each request brought something", name)
		image.Public = nil // only a Pull that fetches sets it
		reg.ResetCounts()
		got, err := rt.Status(t.Context(), s)
		require.NoError(t, err)
		assert.Equal(t, image, got)
		assert.Zero(t, reg.Counts().Total(), "%s present", name)
		got, err = rt.Pull(t.Context(), s)
		require.NoError(t, err)
		assert.Equal(t, image, got)
		assert.Equal(t, 1, reg.Counts().Total(), "%s present under Always", name)
		assert.Equal(t, 1, reg.Counts().ManifestHead, "%s present under Always", name)
	}
	for d, err := range store.Verify(t.Context()) {
		assert.NoError(t, err, "%s", d)
	}
}
