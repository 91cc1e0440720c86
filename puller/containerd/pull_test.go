package containerd_test

import (
	"context"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/containerd"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/metadata"
)

// platforms are another platform, and the platform of this machine.
var platforms = []ocispec.Platform{{OS: "linux", Architecture: "s390x"}, containerd.Platform()}

func startRegistry(t *testing.T, conf pullertest.Config) *pullertest.Registry {
	reg, err := pullertest.Start(conf)
	require.NoError(t, err)
	t.Cleanup(func() { reg.Close() })
	return reg
}

func putImage(t *testing.T, reg *pullertest.Registry, name string, spec pullertest.ImageSpec) string {
	_, err := reg.PutImage(name, spec)
	require.NoError(t, err)
	return reg.Host() + "/" + name
}

func newPuller(t *testing.T, store content.Store) *puller.Puller {
	rt, err := transfer.New(transfer.Config{Store: store})
	require.NoError(t, err)
	p, err := puller.New(puller.Config{Runtime: rt, Platform: containerd.Platform()})
	require.NoError(t, err)
	return p
}

// raw calls containerd without the Store.
type raw struct {
	content contentapi.ContentClient
	images  imagesapi.ImagesClient
	leases  leasesapi.LeasesClient
	ctx     context.Context
}

func newRaw(t *testing.T, d *realtest.Containerd, namespace string) raw {
	conn := dial(t, d)
	return raw{contentapi.NewContentClient(conn), imagesapi.NewImagesClient(conn), leasesapi.NewLeasesClient(conn),
		metadata.AppendToOutgoingContext(t.Context(), "containerd-namespace", namespace)}
}

// collect runs containerd's garbage collection.
func (r raw) collect(t *testing.T) {
	_, err := r.leases.Create(r.ctx, &leasesapi.CreateRequest{ID: "test-gc"})
	require.NoError(t, err)
	_, err = r.leases.Delete(r.ctx, &leasesapi.DeleteRequest{ID: "test-gc", Sync: true})
	require.NoError(t, err)
}

// leaseIDs returns the IDs of all leases.
func (r raw) leaseIDs(t *testing.T) []string {
	resp, err := r.leases.List(r.ctx, &leasesapi.ListRequest{})
	require.NoError(t, err)
	var ids []string
	for _, l := range resp.Leases {
		ids = append(ids, l.ID)
		expires, err := time.Parse(time.RFC3339, l.Labels["containerd.io/gc.expire"])
		require.NoError(t, err)
		assert.WithinDuration(t, time.Now().Add(24*time.Hour), expires, time.Hour)
	}
	return ids
}

// dropLeases deletes all leases, as containerd does when they expire.
func (r raw) dropLeases(t *testing.T) {
	for _, id := range r.leaseIDs(t) {
		_, err := r.leases.Delete(r.ctx, &leasesapi.DeleteRequest{ID: id, Sync: true})
		require.NoError(t, err)
	}
}

// records returns the image records by name.
func (r raw) records(t *testing.T) map[string]*imagesapi.Image {
	resp, err := r.images.List(r.ctx, &imagesapi.ListImagesRequest{})
	require.NoError(t, err)
	all := map[string]*imagesapi.Image{}
	for _, image := range resp.Images {
		all[image.Name] = image
	}
	return all
}

// stored returns the labels of all stored content by digest.
func (r raw) stored(t *testing.T) map[digest.Digest]map[string]string {
	stream, err := r.content.List(r.ctx, &contentapi.ListContentRequest{})
	require.NoError(t, err)
	all := map[digest.Digest]map[string]string{}
	for {
		resp, err := stream.Recv()
		if err == io.EOF {
			return all
		}
		require.NoError(t, err)
		for _, info := range resp.Info {
			all[digest.Digest(info.Digest)] = info.Labels
		}
	}
}

// A pull leaves the same image records and labels as containerd's own pull, and no lease. The
// image survives a garbage collection, and ctr finds it complete.
func TestAPullLeavesWhatContainerdsOwnPullLeaves(t *testing.T) {
	onEach(t, func(t *testing.T, d *realtest.Containerd) {
		reg, r := startRegistry(t, pullertest.Config{}), newRaw(t, d, "k8s.io")
		put, err := reg.PutImage("team/app:v1", pullertest.ImageSpec{Platforms: platforms, Layers: []int64{3 << 20, 200 << 10}})
		require.NoError(t, err)
		image := reg.Host() + "/team/app:v1"
		store := open(t, d, containerd.Config{Pin: func(ref reference.Reference) bool { return ref.Tag() == "v1" }})
		p := newPuller(t, store)
		img, err := p.Pull(t.Context(), puller.Request{Image: image})
		require.NoError(t, err)
		assert.Equal(t, put.Descriptor.Digest, img.Digest)
		assert.Equal(t, put.Manifests[1].Digest, img.Manifest)

		assert.Empty(t, r.leaseIDs(t), "all content has a name, so the lease is not needed")
		r.collect(t)
		assert.Contains(t, d.Ctr(t, "k8s.io", "images", "check", "name=="+image), "complete (")
		again, err := p.Pull(t.Context(), puller.Request{Image: image, Policy: pullpolicy.Never})
		require.NoError(t, err)
		assert.Equal(t, []any{img.ID, img.Digest, img.Manifest, img.Size}, []any{again.ID, again.Digest, again.Manifest, again.Size})
		_, err = p.Pull(t.Context(), puller.Request{Image: reg.Host() + "/team/app@" + string(img.Manifest), Policy: pullpolicy.Never})
		require.NoError(t, err, "by the digest of the manifest, as the kubelet may ask")

		var m ocispec.Manifest
		decodeStored(t, store, put.Manifests[1], &m)
		labels := r.stored(t)
		assert.Len(t, labels, 5, "index, manifest, config and two layers; nothing of the other platform")
		for d, l := range labels {
			assert.Equal(t, "team/app", l["containerd.io/distribution.source.127.0.0.1"], "%s", d)
		}
		assert.Equal(t, string(img.Manifest), labels[img.Digest]["containerd.io/gc.ref.content.m.1"])
		assert.NotContains(t, labels[img.Digest], "containerd.io/gc.ref.content.m.0", "the manifest of the other platform is not stored")
		assert.Equal(t, string(m.Config.Digest), labels[img.Manifest]["containerd.io/gc.ref.content.config"])
		assert.Equal(t, string(m.Layers[1].Digest), labels[img.Manifest]["containerd.io/gc.ref.content.l.1"])

		records := r.records(t)
		names := []string{image, reg.Host() + "/team/app@" + string(img.Digest), string(m.Config.Digest)}
		assert.ElementsMatch(t, names, slices.Collect(maps.Keys(records)))
		for _, name := range names {
			assert.Equal(t, string(img.Digest), records[name].Target.Digest)
			assert.Equal(t, map[string]string{"io.cri-containerd.image": "managed", "io.cri-containerd.pinned": "pinned"}, records[name].Labels)
		}

		// The other platform is pulled for another machine. It is complete too, but CRI cannot use
		// it on this machine.
		_, err = p.Pull(t.Context(), puller.Request{Image: image, Policy: pullpolicy.Always, Platform: platforms[0]})
		require.NoError(t, err)
		r.collect(t)
		assert.Contains(t, r.stored(t)[img.Digest], "containerd.io/gc.ref.content.m.0")
		assert.Len(t, r.stored(t), 9)
		assert.Len(t, r.records(t), 3)
	})
}

func decodeStored(t *testing.T, store content.Store, desc ocispec.Descriptor, into any) {
	f, err := store.Open(t.Context(), desc)
	require.NoError(t, err)
	defer f.Close()
	data, err := io.ReadAll(f)
	require.NoError(t, err)
	require.NoError(t, jsonUnmarshal(data, into))
}

// In a namespace other than that of Kubernetes, each name has one record. Content that another
// namespace has is not fetched.
func TestAnotherNamespaceHasOneRecordAndSharesContent(t *testing.T) {
	onEach(t, func(t *testing.T, d *realtest.Containerd) {
		reg, r := startRegistry(t, pullertest.Config{}), newRaw(t, d, "other")
		image := putImage(t, reg, "app:v1", pullertest.ImageSpec{Platforms: platforms, Layers: []int64{5 << 20, 10}})
		_, err := newPuller(t, open(t, d, containerd.Config{})).Pull(t.Context(), puller.Request{Image: image})
		require.NoError(t, err)
		before := reg.Counts().BlobGet
		_, err = newPuller(t, open(t, d, containerd.Config{Namespace: "other"})).Pull(t.Context(), puller.Request{Image: image})
		require.NoError(t, err)
		assert.Equal(t, before, reg.Counts().BlobGet, "containerd has the blobs")
		r.collect(t)
		assert.Contains(t, d.Ctr(t, "other", "images", "check"), "complete (")
		records := r.records(t)
		require.Len(t, records, 1)
		assert.Empty(t, records[image].Labels)
	})
}

// Two images have a layer in common. The layer is fetched once.
func TestBlobsThatContainerdHasAreNotFetched(t *testing.T) {
	onEach(t, func(t *testing.T, d *realtest.Containerd) {
		reg := startRegistry(t, pullertest.Config{})
		one := putImage(t, reg, "one:v1", pullertest.ImageSpec{Layers: []int64{3 << 20, 1 << 20}})
		two := putImage(t, reg, "two:v1", pullertest.ImageSpec{Layers: []int64{3 << 20, 2 << 20}})
		p := newPuller(t, open(t, d, containerd.Config{}))
		_, err := p.Pull(t.Context(), puller.Request{Image: one})
		require.NoError(t, err)
		reg.ResetCounts()
		_, err = p.Pull(t.Context(), puller.Request{Image: two})
		require.NoError(t, err)
		assert.EqualValues(t, 2, reg.Counts().BlobGet, "the config and the other layer")
		assert.Less(t, reg.Counts().BlobBytes, int64(2<<20+10<<10))
		reg.ResetCounts()
		_, err = p.Pull(t.Context(), puller.Request{Image: two, Policy: pullpolicy.Always})
		require.NoError(t, err)
		assert.EqualValues(t, 1, reg.Counts().Total())
	})
}

// A cutter is a transport that calls cut when so many bytes of a larger blob were read, and then
// passes on one byte at a time.
type cutter struct {
	http.RoundTripper
	after int64
	cut   func()
}

func (c *cutter) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.RoundTripper.RoundTrip(req)
	if err == nil && strings.Contains(req.URL.Path, "/blobs/") && resp.ContentLength > c.after {
		resp.Body = &cutBody{ReadCloser: resp.Body, left: c.after, cut: c.cut}
	}
	return resp, err
}

type cutBody struct {
	io.ReadCloser
	left int64
	cut  func()
}

func (b *cutBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		b.cut()
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), max(1, b.left))])
	b.left -= int64(n)
	return n, err
}

// A pull ends in the middle of a blob. The garbage collection keeps the bytes that have arrived
// as long as the lease lasts, and a Store of another process goes on with them. After the end of
// the lease they are gone.
func TestAPullGoesOnAfterAGarbageCollection(t *testing.T) {
	onEach(t, func(t *testing.T, d *realtest.Containerd) {
		for _, expired := range []bool{false, true} {
			reg, r := startRegistry(t, pullertest.Config{}), newRaw(t, d, "k8s.io")
			image := putImage(t, reg, "app:v1", pullertest.ImageSpec{Seed: seedOf(expired), Layers: []int64{20 << 20, 1000}})
			ctx, cancel := context.WithCancel(t.Context())
			_, err := cutPuller(t, open(t, d, containerd.Config{}), 12<<20, cancel).Pull(ctx, puller.Request{Image: image})
			require.ErrorIs(t, err, context.Canceled)
			require.Len(t, r.leaseIDs(t), 1, "it keeps content without a name")
			if expired {
				r.dropLeases(t)
			}
			r.collect(t)
			reg.ResetCounts()
			store := open(t, d, containerd.Config{})
			_, err = newPuller(t, store).Pull(t.Context(), puller.Request{Image: image})
			require.NoError(t, err)
			if expired {
				assert.Greater(t, reg.Counts().BlobBytes, int64(20<<20))
			} else {
				assert.Less(t, reg.Counts().BlobBytes, int64(9<<20), "12 of 20 MiB have arrived before")
			}
			r.collect(t)
			assert.Contains(t, d.Ctr(t, "k8s.io", "images", "check", "name=="+image), "complete (")
			r.dropLeases(t)
			assert.Contains(t, d.Ctr(t, "k8s.io", "images", "check", "name=="+image), "complete (", "the labels keep it")
		}
	})
}

func seedOf(b bool) uint64 {
	if b {
		return 1
	}
	return 2
}

// Content that Has has found stays until the caller releases it, even if its image is removed and
// the garbage collection runs.
func TestHoldKeepsWhatIsFound(t *testing.T) {
	onEach(t, func(t *testing.T, d *realtest.Containerd) {
		reg, r := startRegistry(t, pullertest.Config{}), newRaw(t, d, "k8s.io")
		image := putImage(t, reg, "app:v1", pullertest.ImageSpec{Layers: []int64{1000}})
		store := open(t, d, containerd.Config{})
		img, err := newPuller(t, store).Pull(t.Context(), puller.Request{Image: image})
		require.NoError(t, err)
		manifest, err := store.Lookup(t.Context(), img.Ref)
		require.NoError(t, err)
		var m ocispec.Manifest
		decodeStored(t, store, manifest, &m)

		has, err := store.Has(t.Context(), m.Layers[0])
		require.NoError(t, err)
		require.True(t, has)
		assert.Empty(t, r.leaseIDs(t), "Has without Hold does not make a lease")
		release, err := store.Hold(t.Context())
		require.NoError(t, err)
		has, err = store.Has(t.Context(), m.Layers[0])
		require.NoError(t, err)
		require.True(t, has)
		for name := range r.records(t) {
			_, err := r.images.Delete(r.ctx, &imagesapi.DeleteImageRequest{Name: name, Sync: true})
			require.NoError(t, err)
		}
		has, err = store.Has(t.Context(), m.Layers[0])
		require.NoError(t, err)
		assert.True(t, has)
		has, err = store.Has(t.Context(), m.Config)
		require.NoError(t, err)
		assert.False(t, has, "only the layer is held")

		// The image is not complete any more, so Tag is an error.
		err = store.Tag(t.Context(), img.Ref, manifest)
		assert.ErrorIs(t, err, fs.ErrNotExist)
		release()
		release()
		assert.Len(t, r.leaseIDs(t), 1, "the layer has no name, and a later pull may need it")
		r.dropLeases(t)
		assert.Empty(t, r.stored(t))
	})
}

// A program that ignores leases removes content during a pull. Tag returns an error.
func TestTagFindsThatContentWasRemoved(t *testing.T) {
	onEach(t, func(t *testing.T, d *realtest.Containerd) {
		reg, r := startRegistry(t, pullertest.Config{}), newRaw(t, d, "k8s.io")
		put, err := reg.PutImage("app:v1", pullertest.ImageSpec{Layers: []int64{1000}})
		require.NoError(t, err)
		store := open(t, d, containerd.Config{})
		_, err = newPuller(t, &beforeTag{Store: store, do: func(desc ocispec.Descriptor) {
			var m ocispec.Manifest
			decodeStored(t, store, desc, &m)
			_, err := r.content.Delete(r.ctx, &contentapi.DeleteContentRequest{Digest: string(m.Layers[0].Digest)})
			require.NoError(t, err)
		}}).Pull(t.Context(), puller.Request{Image: reg.Host() + "/app:v1"})
		assert.ErrorContains(t, err, "another program has removed it during the pull; pull the image again")
		assert.Empty(t, r.records(t))
		_, err = newPuller(t, store).Pull(t.Context(), puller.Request{Image: reg.Host() + "/app:v1"})
		require.NoError(t, err)
		assert.Equal(t, string(put.Descriptor.Digest), r.records(t)[reg.Host()+"/app:v1"].Target.Digest)
	})
}

// beforeTag is a Store that calls do before each Tag.
type beforeTag struct {
	*containerd.Store
	do func(ocispec.Descriptor)
}

func (s *beforeTag) Tag(ctx context.Context, ref reference.Reference, desc ocispec.Descriptor) error {
	s.do(desc)
	return s.Store.Tag(ctx, ref, desc)
}

// Stores of several processes pull the same image at the same time. Each blob is fetched once.
func TestProcessesThatPullAtOnceFetchEachBlobOnce(t *testing.T) {
	onEach(t, func(t *testing.T, d *realtest.Containerd) {
		reg, r := startRegistry(t, pullertest.Config{}), newRaw(t, d, "k8s.io")
		image := putImage(t, reg, "app:v1", pullertest.ImageSpec{Platforms: platforms, Layers: []int64{12 << 20, 5 << 20, 1000, 10}})
		var all sync.WaitGroup
		for range 4 {
			store := open(t, d, containerd.Config{})
			all.Go(func() {
				_, err := newPuller(t, store).Pull(t.Context(), puller.Request{Image: image})
				assert.NoError(t, err)
			})
		}
		all.Wait()
		assert.EqualValues(t, 5, reg.Counts().BlobGet)
		assert.Empty(t, r.leaseIDs(t))
		r.collect(t)
		assert.Contains(t, d.Ctr(t, "k8s.io", "images", "check", "name=="+image), "complete (")
	})
}

// A name moves to another image. The image that had the name keeps its record by digest, as after
// a pull of CRI, until it is removed with all its names.
func TestAnImageIsRemovedByAllItsNames(t *testing.T) {
	onEach(t, func(t *testing.T, d *realtest.Containerd) {
		reg, r := startRegistry(t, pullertest.Config{}), newRaw(t, d, "k8s.io")
		store := open(t, d, containerd.Config{Pin: func(ref reference.Reference) bool { return ref.Tag() == "pinned" }})
		p := newPuller(t, store)
		pull := func(name string, seed uint64) puller.Image {
			image := putImage(t, reg, name, pullertest.ImageSpec{Platforms: platforms, Layers: []int64{1 << 20}, Seed: seed})
			img, err := p.Pull(t.Context(), puller.Request{Image: image, Policy: pullpolicy.Always})
			require.NoError(t, err)
			return img
		}
		old := pull("app:v1", 1)
		pull("app:stable", 1)
		now := pull("app:v1", 2)
		list := func(of puller.Image) (entries []content.Entry) {
			all, err := store.List(t.Context())
			require.NoError(t, err)
			for _, e := range all {
				require.Equal(t, e.Name, e.Ref.String(), "List leaves out the records by ID")
				desc, err := store.Lookup(t.Context(), e.Ref)
				require.NoError(t, err)
				assert.Equal(t, e.Descriptor, desc)
				if e.Manifest.Digest == of.Manifest {
					entries = append(entries, e)
				}
			}
			return entries
		}
		names := func(entries []content.Entry) (names []string) {
			for _, e := range entries {
				names = append(names, strings.TrimPrefix(e.Name, reg.Host()+"/"))
			}
			return names
		}
		entries := list(old)
		assert.Equal(t, []string{"app:stable", "app@" + string(old.Digest)}, names(entries))
		assert.Equal(t, []string{"app:v1", "app@" + string(now.Digest)}, names(list(now)))

		_, err := store.RemoveImage(t.Context(), entries[:1], nil)
		assert.ErrorIs(t, err, content.ErrChanged, "these are not all its names")
		pull("app:pinned", 1)
		_, err = store.RemoveImage(t.Context(), entries, nil)
		assert.ErrorIs(t, err, content.ErrChanged, "it has another name now")
		assert.Len(t, list(old), 3)
		for of, want := range map[string]bool{"old": true, "now": false} {
			pinned, err := store.Pinned(t.Context(), map[string][]content.Entry{"old": list(old), "now": list(now)}[of]...)
			require.NoError(t, err)
			assert.Equal(t, want, pinned, of)
		}

		for what, d := range map[string]digest.Digest{"index": old.Digest, "manifest": old.Manifest} {
			removed, err := store.RemoveImage(t.Context(), list(old), []digest.Digest{now.Digest, d})
			assert.ErrorContains(t, err, string(d), what)
			assert.Zero(t, removed)
			assert.Len(t, list(old), 3)
			assert.Len(t, r.stored(t), 8)
		}
		removed, err := store.RemoveImage(t.Context(), list(old), []digest.Digest{now.Digest, digest.FromString("not stored")})
		require.NoError(t, err)
		assert.Equal(t, 4, removed.Blobs, "index, manifest, config, layer")
		assert.Greater(t, removed.Bytes, int64(1<<20))
		assert.Empty(t, list(old))
		assert.Len(t, r.stored(t), 4)
		_, err = store.RemoveImage(t.Context(), entries, nil)
		assert.ErrorIs(t, err, content.ErrChanged)
		removed, err = store.RemoveImage(t.Context(), nil, nil)
		require.NoError(t, err)
		assert.Zero(t, removed)
		_, err = store.RemoveImage(t.Context(), list(now), nil)
		require.NoError(t, err)
		assert.Empty(t, r.records(t), "the records by ID are removed too")
		assert.Empty(t, r.stored(t))
	})
}

// A record of another client with an odd name is listed, but its name is not taken for a whole
// name.
func TestOddRecordsOfOtherClientsAreListedWithoutARef(t *testing.T) {
	onEach(t, func(t *testing.T, d *realtest.Containerd) {
		reg, r := startRegistry(t, pullertest.Config{}), newRaw(t, d, "k8s.io")
		image := putImage(t, reg, "app:v1", pullertest.ImageSpec{Layers: []int64{10}})
		store := open(t, d, containerd.Config{})
		img, err := newPuller(t, store).Pull(t.Context(), puller.Request{Image: image})
		require.NoError(t, err)
		for _, name := range []string{"busybox", "import-2026-11-29@" + string(img.Digest), "docker.io/library/busybox:1.36"} {
			_, err := r.images.Create(r.ctx, &imagesapi.CreateImageRequest{Image: &imagesapi.Image{Name: name, Target: r.records(t)[image].Target}})
			require.NoError(t, err)
		}
		entries, err := store.List(t.Context())
		require.NoError(t, err)
		whole := map[string]bool{}
		for _, e := range entries {
			whole[e.Name] = !e.Ref.IsZero()
		}
		assert.Equal(t, map[string]bool{
			"busybox": false, "import-2026-11-29@" + string(img.Digest): false, "docker.io/library/busybox:1.36": true,
			image: true, reg.Host() + "/app@" + string(img.Digest): true,
		}, whole)
		_, err = store.Lookup(t.Context(), reference.MustParse("busybox:1.36"))
		require.NoError(t, err, "Docker Hub's whole name")
		_, err = store.Lookup(t.Context(), reference.MustParse("busybox:latest"))
		assert.ErrorIs(t, err, fs.ErrNotExist)
		_, err = store.Lookup(t.Context(), reference.MustParse("other.example/app@"+string(img.Digest)))
		assert.ErrorIs(t, err, fs.ErrNotExist, "another repository")

		// The characters of these names have a meaning in containerd's filters.
		odd := reference.MustParse("[::1]:5000/a.b-c_d/app:v1")
		manifest, err := store.Lookup(t.Context(), img.Ref)
		require.NoError(t, err)
		require.NoError(t, store.Tag(t.Context(), odd, manifest))
		_, err = r.images.Delete(r.ctx, &imagesapi.DeleteImageRequest{Name: "[::1]:5000/a.b-c_d/app@" + string(img.Digest)})
		require.NoError(t, err)
		_, err = store.Lookup(t.Context(), reference.MustParse("[::1]:5000/a.b-c_d/app@"+string(img.Digest)))
		require.NoError(t, err)
		_, err = store.Lookup(t.Context(), reference.MustParse("[::1]:5000/axb-c_d/app@"+string(img.Digest)))
		assert.ErrorIs(t, err, fs.ErrNotExist)
		_, err = r.images.Delete(r.ctx, &imagesapi.DeleteImageRequest{Name: odd.String()})
		require.NoError(t, err)

		// A record leads to content that is not stored.
		_, err = r.images.Create(r.ctx, &imagesapi.CreateImageRequest{Image: &imagesapi.Image{Name: "gone.example/app:v1",
			Target: withDigest(r.records(t)[image].Target, digest.FromString("gone"))}})
		require.NoError(t, err)
		_, err = store.List(t.Context())
		require.NoError(t, err)
		_, err = newPuller(t, store).Pull(t.Context(), puller.Request{Image: "gone.example/app:v1", Policy: pullpolicy.Never})
		assert.ErrorIs(t, err, puller.ErrImageNeverPull)
	})
}

// The transfer verifies SHA-512, because containerd before version 2.1 cannot. Such a containerd
// refuses the blob, with an error that says why.
func TestSHA512NeedsANewContainerd(t *testing.T) {
	onEach(t, func(t *testing.T, d *realtest.Containerd) {
		data := []byte("hello")
		desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.SHA512.FromBytes(data), Size: 5}
		store := open(t, d, containerd.Config{})
		for _, text := range []string{"he", "hello"} {
			in, err := store.Ingest(t.Context(), desc)
			require.NoError(t, err)
			assert.False(t, in.(content.VerifyingIngest).Verifies())
			assert.Zero(t, in.(content.OrderedIngest).Offset(), "bytes of an earlier ingest cannot be verified")
			_, err = in.WriteAt([]byte(text), 0)
			require.NoError(t, err)
			if text == "hello" {
				err = in.Commit(t.Context())
				has, herr := store.Has(t.Context(), desc)
				require.NoError(t, herr)
				if err != nil {
					assert.ErrorContains(t, err, "before version 2.1, containerd stores only blobs with a digest of sha256")
					assert.Equal(t, content.ErrStore, content.ReasonOf(err))
				}
				assert.Equal(t, strings.HasSuffix(t.Name(), realtest.Containerd2Program), err == nil)
				assert.Equal(t, err == nil, has)
			}
			require.NoError(t, in.Close())
			kept, err := store.Kept(t.Context(), desc)
			require.NoError(t, err)
			assert.Zero(t, kept)
		}
	})
}
