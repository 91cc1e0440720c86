package containerd

import (
	"context"
	"testing"
	"time"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// A leaseBench is a Store with helpers for tests of its lease.
type leaseBench struct {
	*Store
	t   *testing.T
	ctx context.Context // has the namespace
}

func newLeaseBench(t *testing.T, program string) leaseBench {
	d := realtest.StartContainerd(t, program, nil)
	conn, err := grpc.NewClient("unix://"+d.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	s, err := New(conn, Config{})
	require.NoError(t, err)
	return leaseBench{s, t, s.client.header(t.Context(), "")}
}

func blobOf(text string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString(text), Size: int64(len(text))}
}

func (b leaseBench) hold() func() {
	release, err := b.Hold(b.t.Context())
	require.NoError(b.t, err)
	return release
}

func (b leaseBench) put(text string) ocispec.Descriptor {
	in, err := b.Ingest(b.t.Context(), blobOf(text))
	require.NoError(b.t, err)
	_, err = in.WriteAt([]byte(text), 0)
	require.NoError(b.t, err)
	require.NoError(b.t, in.Commit(b.t.Context()))
	return blobOf(text)
}

func (b leaseBench) has(desc ocispec.Descriptor) bool {
	has, err := b.Has(b.t.Context(), desc)
	require.NoError(b.t, err)
	return has
}

// resources returns the IDs of the content and ingests that the present lease keeps.
func (b leaseBench) resources() (ids []string) {
	resp, err := b.client.leases.ListResources(b.ctx, &leasesapi.ListResourcesRequest{ID: b.holder.lease.id})
	require.NoError(b.t, err)
	for _, r := range resp.Resources {
		ids = append(ids, r.ID)
	}
	return ids
}

func (b leaseBench) deleteLease() {
	_, err := b.client.leases.Delete(b.ctx, &leasesapi.DeleteRequest{ID: b.holder.lease.id, Sync: true})
	require.NoError(b.t, err)
}

func onBoth(t *testing.T, test func(t *testing.T, b leaseBench)) {
	for _, program := range []string{realtest.ContainerdProgram, realtest.Containerd2Program} {
		t.Run(program, func(t *testing.T) { test(t, newLeaseBench(t, program)) })
	}
}

// Another program deletes the lease between two pulls, and then during a pull. The Store makes
// another lease.
func TestADeletedLeaseIsReplaced(t *testing.T) {
	onBoth(t, func(t *testing.T, b leaseBench) {
		release := b.hold()
		b.put("left by a pull that failed")
		release()
		b.deleteLease()

		release = b.hold()
		early := b.put("stored before the deletion")
		first := b.holder.lease.id
		tagged := b.put("found later")
		b.deleteLease() // the content goes with it
		assert.False(t, b.has(tagged), "the content goes with the lease")
		assert.NoError(t, b.holder.look(t.Context()))
		b.put("found later")
		late := b.put("stored after the deletion")
		assert.NotEqual(t, first, b.holder.lease.id)
		assert.True(t, b.has(late))
		assert.Contains(t, b.resources(), string(late.Digest))
		assert.False(t, b.has(early))
		release()
	})
}

// A later lease does not keep the content that a failed pull has left. If it did, the content
// would stay as long as the process pulls.
func TestALaterLeaseDoesNotKeepWhatAFailedPullHasLeft(t *testing.T) {
	onBoth(t, func(t *testing.T, b leaseBench) {
		release := b.hold()
		left, found := b.put("left"), b.put("left, and found by a later pull")
		release()
		release = b.hold()
		require.True(t, b.has(found))
		old := b.holder.lease.id
		b.holder.lease.expires = time.Now().Add(b.holder.keepFor/2 - time.Second)
		next := b.put("stored by the later pull")
		require.NotEqual(t, old, b.holder.lease.id)
		assert.ElementsMatch(t, []string{string(found.Digest), string(next.Digest)}, b.resources())
		assert.NotContains(t, b.resources(), string(left.Digest))
		release()
	})
}

// A lease that stays after a failed pull does not keep the content of images, so that this
// content goes when the images are removed.
func TestALeaseThatStaysKeepsNoImage(t *testing.T) {
	onBoth(t, func(t *testing.T, b leaseBench) {
		release := b.hold()
		left, named := b.put("left"), b.put("named")
		require.NoError(t, b.Tag(t.Context(), reference.MustParse("registry.example/a:v1"), named))
		assert.Contains(t, b.resources(), string(named.Digest), "the pull has not ended")
		release()
		assert.Equal(t, []string{string(left.Digest)}, b.resources())
		entries, err := b.List(t.Context())
		require.NoError(t, err)
		removed, err := b.RemoveImage(t.Context(), entries, nil)
		require.NoError(t, err)
		assert.Equal(t, 1, removed.Blobs)
		assert.True(t, b.has(left))
	})
}

// Another client commits the blob under another name, and under a lease of its own. The Store
// keeps the blob under its own lease.
func TestABlobThatAnotherClientCommitsIsKept(t *testing.T) {
	onBoth(t, func(t *testing.T, b leaseBench) {
		defer b.hold()()
		const text = "stored twice"
		desc := blobOf(text)
		in, err := b.Ingest(t.Context(), desc)
		require.NoError(t, err)
		_, err = in.WriteAt([]byte(text), 0)
		require.NoError(t, err)

		_, err = b.client.leases.Create(b.ctx, &leasesapi.CreateRequest{ID: "of-another-client"})
		require.NoError(t, err)
		other, err := b.client.content.Write(b.client.header(t.Context(), "of-another-client"))
		require.NoError(t, err)
		require.NoError(t, other.Send(&contentapi.WriteContentRequest{
			Action: contentapi.WriteAction_COMMIT, Ref: "another-name", Total: desc.Size, Expected: string(desc.Digest), Data: []byte(text),
		}))
		_, err = other.Recv()
		require.NoError(t, err)

		require.NoError(t, in.Commit(t.Context()))
		assert.Contains(t, b.resources(), string(desc.Digest))
		_, err = b.client.leases.Delete(b.ctx, &leasesapi.DeleteRequest{ID: "of-another-client", Sync: true})
		require.NoError(t, err)
		assert.True(t, b.has(desc))
	})
}

// An answer without bytes ends the read. Otherwise the read might never end.
func TestAnEmptyAnswerEndsARead(t *testing.T) {
	r := &reader{caller: t.Context(), cancel: func(error) {}, stream: emptyStream{}, desc: blobOf("hello")}
	_, err := r.Read(make([]byte, 5))
	assert.ErrorContains(t, err, "it sent 0 bytes at offset 0, and 1 to 5 bytes at offset 0 were expected")
}

type emptyStream struct{ grpc.ClientStream }

func (emptyStream) Recv() (*contentapi.ReadContentResponse, error) {
	return &contentapi.ReadContentResponse{}, nil
}
