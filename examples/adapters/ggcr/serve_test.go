package ggcr

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/records"
	pullserve "github.com/pullkit/pullkit/puller/serve"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// go-containerregistry, and so crane, reads a whole image from puller/serve, and gets 404
// for what is not served.
func TestCraneReadsFromAServer(t *testing.T) {
	reg, err := pullertest.Start(pullertest.Config{})
	require.NoError(t, err)
	defer reg.Close()
	amd64 := ocispec.Platform{OS: "linux", Architecture: "amd64"}
	put, err := reg.PutImage("team/app:v1", pullertest.ImageSpec{Platforms: []ocispec.Platform{amd64}, Layers: []int64{100_000, 10}})
	require.NoError(t, err)
	store, err := layout.Open(t.TempDir(), layout.Config{})
	require.NoError(t, err)
	defer store.Close()
	recs, err := records.Open(t.TempDir())
	require.NoError(t, err)
	defer recs.Close()
	rt, err := transfer.New(transfer.Config{Store: store})
	require.NoError(t, err)
	p, err := puller.New(puller.Config{Runtime: rt, Records: recs, Platform: amd64})
	require.NoError(t, err)
	_, err = p.Pull(t.Context(), puller.Request{Image: reg.Host() + "/team/app:v1"})
	require.NoError(t, err)
	h, err := pullserve.New(pullserve.Config{Store: store, Records: recs, DefaultRegistry: reg.Host()})
	require.NoError(t, err)
	server := httptest.NewServer(h)
	defer server.Close()

	host := strings.TrimPrefix(server.URL, "http://")
	ref, err := name.ParseReference(host + "/team/app:v1")
	require.NoError(t, err)
	head, err := remote.Head(ref, remote.WithContext(t.Context()))
	require.NoError(t, err)
	assert.Equal(t, string(put.Descriptor.Digest), head.Digest.String())
	img, err := remote.Image(ref, remote.WithContext(t.Context()), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: "amd64"}))
	require.NoError(t, err)
	require.NoError(t, validate.Image(img), "every digest and size")
	layer, err := remote.Layer(ref.Context().Digest(string(put.Blobs[1].Digest)), remote.WithContext(t.Context()))
	require.NoError(t, err)
	r, err := layer.Compressed()
	require.NoError(t, err)
	n, err := io.Copy(io.Discard, r)
	require.NoError(t, err)
	assert.Equal(t, put.Blobs[1].Size, n)

	absent, err := name.ParseReference(host + "/team/app:v2")
	require.NoError(t, err)
	_, err = remote.Image(absent, remote.WithContext(t.Context()))
	var refused *transport.Error
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, http.StatusNotFound, refused.StatusCode)
	require.Len(t, refused.Errors, 1)
	assert.Equal(t, transport.ManifestUnknownErrorCode, refused.Errors[0].Code)

	err = remote.Write(absent, img, remote.WithContext(t.Context()))
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, http.StatusMethodNotAllowed, refused.StatusCode, "nothing can be pushed")
}
