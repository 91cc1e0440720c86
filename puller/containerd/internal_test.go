package containerd

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// A lease is replaced when less than half of its time is left. The next lease keeps all content
// that has no name, so that nothing is removed when the first lease expires.
func TestALeaseIsReplacedBeforeItExpires(t *testing.T) {
	d := realtest.StartContainerd(t, realtest.ContainerdProgram, nil)
	conn, err := grpc.NewClient("unix://"+d.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	s, err := New(conn, Config{})
	require.NoError(t, err)
	release, err := s.Hold(t.Context())
	require.NoError(t, err)
	ingest := func(text string, commit bool) (ocispec.Descriptor, content.Ingest) {
		desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString(text), Size: int64(len(text))}
		in, err := s.Ingest(t.Context(), desc)
		require.NoError(t, err)
		n := len(text)
		if !commit {
			n /= 2
		}
		_, err = in.WriteAt([]byte(text)[:n], 0)
		require.NoError(t, err)
		if commit {
			require.NoError(t, in.Commit(t.Context()))
		}
		return desc, in
	}
	stored, _ := ingest("a blob that is stored", true)
	part, in := ingest("a blob of which a half is written", false)
	require.NoError(t, in.Close())
	open, running := ingest("a blob that is being written", false)
	first := s.holder.lease.id
	s.holder.lease.expires = time.Now().Add(s.holder.keepFor/2 - time.Second)
	late, _ := ingest("a blob that comes later", true)
	assert.NotEqual(t, first, s.holder.lease.id)
	_, err = running.WriteAt([]byte("a blob that is being written")[14:], 14)
	require.NoError(t, err)
	require.NoError(t, running.Commit(t.Context()))

	call := s.client.header(t.Context(), "")
	_, err = s.client.leases.Delete(call, &leasesapi.DeleteRequest{ID: first, Sync: true})
	require.NoError(t, err)
	for _, desc := range []ocispec.Descriptor{stored, open, late} {
		has, err := s.Has(t.Context(), desc)
		require.NoError(t, err)
		assert.True(t, has)
	}
	kept, err := s.Kept(t.Context(), part)
	require.NoError(t, err)
	assert.Equal(t, part.Size/2, kept)
	release()
}

// Headers of the caller's context stay, except those that choose the namespace and the lease.
func TestOnlyTheHeadersOfNamespaceAndLeaseAreReplaced(t *testing.T) {
	c := &client{namespace: "k8s.io"}
	ctx := metadata.AppendToOutgoingContext(t.Context(), namespaceHeader, "other", leaseHeader, "another", "traceparent", "1")
	for _, lease := range []string{"", "mine"} {
		md, ok := metadata.FromOutgoingContext(c.header(ctx, lease))
		require.True(t, ok)
		assert.Equal(t, []string{"k8s.io"}, md.Get(namespaceHeader))
		assert.Equal(t, []string{"1"}, md.Get("traceparent"))
		assert.Equal(t, lease, strings.Join(md.Get(leaseHeader), ","))
	}
}

func TestErrorsOfContainerdSayWhatToDo(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	assert.NoError(t, fail(t.Context(), nil, "do"))
	assert.ErrorIs(t, fail(ended, status.Error(codes.Internal, "x"), "do"), context.Canceled)
	for _, text := range []string{
		"write /var/lib/x: no space left on device", "write data: disk quota exceeded",
		"There is not enough space on the disk.",
	} {
		err := fail(t.Context(), status.Error(codes.Unknown, text), "write")
		assert.ErrorIs(t, err, content.ErrNoSpace)
		assert.ErrorIs(t, err, content.ErrStore)
	}
	err := fail(t.Context(), status.Error(codes.Unknown, strings.Repeat("x", 1000)+"\n"), "write")
	assert.Less(t, len(err.Error()), 500)
	err = fail(t.Context(), status.Error(codes.Canceled, "context canceled"), "write %s", "a")
	assert.EqualError(t, err, "store failure: containerd: write a: context canceled: no answer within the time limit")
	for text, is := range map[string]error{
		"run this as root":                    status.Error(codes.Unavailable, "dial unix /s: connect: permission denied"),
		"another program than containerd":     status.Error(codes.Unimplemented, "unknown service containerd.services.leases.v1.Leases"),
		"is it running, and is this its sock": status.Error(codes.Unavailable, "connection refused"),
	} {
		assert.ErrorContains(t, fail(t.Context(), is, "make a lease"), text)
	}
	assert.True(t, locked(status.Error(codes.Unavailable, "ref k8s.io/1/layer-sha256:aa locked for 1s (since now): unavailable")))
	assert.False(t, locked(status.Error(codes.Unavailable, "connection error")))
}

// An answer with an offset that cannot be right ends the ingest.
func TestAWrongOffsetEndsTheIngest(t *testing.T) {
	in := &ingest{caller: t.Context(), desc: ocispec.Descriptor{Digest: digest.FromString("hello"), Size: 5}, stream: &scriptedStream{offset: 3}, cancel: func(error) {}}
	_, err := in.WriteAt([]byte("hello"), 0)
	assert.ErrorContains(t, err, "it says that it has 3 bytes, not 5")
	_, again := in.WriteAt([]byte("hello"), 0)
	assert.Equal(t, err, again)
	assert.Equal(t, err, in.Commit(t.Context()))
}

// A scriptedStream answers each message with one offset.
type scriptedStream struct {
	grpc.ClientStream
	offset int64
}

func (s *scriptedStream) Send(*contentapi.WriteContentRequest) error { return nil }
func (s *scriptedStream) Recv() (*contentapi.WriteContentResponse, error) {
	return &contentapi.WriteContentResponse{Offset: s.offset}, nil
}

func TestARepositoryIsAddedToItsLabelInOrder(t *testing.T) {
	for list, want := range map[string]string{"": "team/app", "team/app": "team/app", "a,z": "a,team/app,z", "z": "team/app,z"} {
		assert.Equal(t, want, withRepository(list, "team/app"))
	}
	for image, want := range map[string]string{
		"busybox": "containerd.io/distribution.source.docker.io", "reg.example:5000/a": "containerd.io/distribution.source.reg.example",
		"[::1]:5000/a": "containerd.io/distribution.source.::1", "localhost/a": "containerd.io/distribution.source.localhost",
	} {
		assert.Equal(t, want, sourceKey(reference.MustParse(image)))
	}
}

func FuzzRepositoriesOfALabel(f *testing.F) {
	f.Add("a,b", "c")
	f.Add("", "team/app")
	f.Add(",,", "x")
	f.Fuzz(func(t *testing.T, list, repository string) {
		if strings.Contains(repository, ",") || repository == "" {
			return // no reference has such a repository
		}
		got := withRepository(list, repository)
		assert.Equal(t, got, withRepository(got, repository), "when it is added again")
		all := strings.Split(got, ",")
		assert.Contains(t, all, repository)
		if list != "" {
			for _, old := range strings.Split(list, ",") {
				assert.True(t, slices.Contains(all, old), "%q is lost", old)
			}
		}
	})
}

// The name of a record is a Ref only if Lookup finds the record by it. The filter for the records
// of a repository matches only names in this repository.
func FuzzNamesOfRecords(f *testing.F) {
	for _, name := range []string{"docker.io/library/busybox:1.36", "sha256:" + strings.Repeat("a", 64), "a", "[::1]:5000/a.b/c:v1",
		"reg.example/a@sha256:" + strings.Repeat("0", 64), "reg.example/a:v1@sha256:" + strings.Repeat("0", 64)} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		ref, ok := wholeName(name)
		if !ok {
			assert.True(t, ref.IsZero())
			return
		}
		assert.Equal(t, name, recordName(ref))
		assert.False(t, isDigest(name))
		pattern, err := regexp.Compile(namesOf(ref))
		require.NoError(t, err)
		assert.True(t, pattern.MatchString(name))
		assert.False(t, pattern.MatchString("x"+name))
		assert.False(t, pattern.MatchString(ref.Name()+"/more:v1"))
	})
}
