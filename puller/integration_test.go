package puller_test

import (
	"context"
	"io"
	"io/fs"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A gate is a Source whose large blobs stop in the middle until open is closed.
type gate struct {
	content.Source
	once    sync.Once
	reached chan struct{} // closed when a blob has stopped
	open    chan struct{}
}

func (g *gate) Blob(ctx context.Context, repo content.Repo, desc ocispec.Descriptor, off, n int64) (content.Body, error) {
	body, err := g.Source.Blob(ctx, repo, desc, off, n)
	if err != nil || desc.Size < 100_000 {
		return content.Body{ReadCloser: body, Start: body.Start}, err
	}
	return content.Body{ReadCloser: &gatedBody{ReadCloser: body, gate: g, ctx: ctx}, Start: body.Start}, nil
}

type gatedBody struct {
	io.ReadCloser
	gate *gate
	ctx  context.Context
	read int
}

func (b *gatedBody) Read(p []byte) (int, error) {
	if b.read > 0 {
		b.gate.once.Do(func() { close(b.gate.reached) })
		select {
		case <-b.gate.open:
		case <-b.ctx.Done():
			return 0, b.ctx.Err()
		}
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), 10_000)])
	b.read += n
	return n, err
}

// built returns a Puller with the built-in Runtime, the name of an image in a private
// registry, the image's digests, and the registry. The password is "right".
func built(t *testing.T, source func(content.Source) content.Source, config puller.Config) (*puller.Puller, string, pullertest.PutResult, *pullertest.Registry) {
	t.Helper()
	reg, err := pullertest.Start(pullertest.Config{Auth: pullertest.AuthBasic, Users: []pullertest.User{{Name: "robot", Password: "right"}}})
	require.NoError(t, err)
	t.Cleanup(func() { reg.Close() })
	put, err := reg.PutImage("team/app:v1", pullertest.ImageSpec{
		Platforms: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64", Variant: "v8"}},
		Layers:    []int64{200_000, 1000},
	})
	require.NoError(t, err)
	store, err := layout.Open(t.TempDir(), layout.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { store.Close() })
	client, err := registry.New(registry.Config{})
	require.NoError(t, err)
	t.Cleanup(client.CloseIdleConnections)
	rt, err := transfer.New(transfer.Config{Store: store, Source: source(client)})
	require.NoError(t, err)
	config.Runtime = rt
	config.Platform = ocispec.Platform{OS: "linux", Architecture: "arm64"}
	p, err := puller.New(config)
	require.NoError(t, err)
	return p, reg.Host() + "/team/app:v1", put, reg
}

// While one Pod's pull is in the middle of a blob, a Pod with a wrong secret gets its own
// 401 for the same image. A third Pod, with the secret of the first, shares the pull.
func TestEachPodGetsItsOwnAnswerWhileAnotherPullsABlob(t *testing.T) {
	g := &gate{reached: make(chan struct{}), open: make(chan struct{})}
	var mu sync.Mutex
	shared := 0
	joined := make(chan struct{})
	p, image, put, _ := built(t, func(s content.Source) content.Source {
		g.Source = s
		return g
	}, puller.Config{Parallel: 4, Events: func(e puller.Event) {
		if e.Reason == puller.EventPulling && e.Shared {
			mu.Lock()
			shared++
			mu.Unlock()
			close(joined)
		}
	}})
	host := reference.MustParse(image).Registry()
	pull := func(uid, password string) (puller.Image, error) {
		return p.Pull(t.Context(), puller.Request{Image: image, Pod: credentials.Pod{UID: uid}, Keyring: pullSecret("", host, password)})
	}
	var pods sync.WaitGroup
	good := func(uid string) {
		pods.Go(func() {
			img, err := pull(uid, "right")
			assert.NoError(t, err)
			assert.Equal(t, put.Descriptor.Digest, img.Digest)
		})
	}
	good("1")
	<-g.reached
	_, err := pull("2", "wrong")
	var e *puller.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, puller.ErrImagePull, e.Reason)
	answers := e.Answers()
	require.Len(t, answers, 1)
	assert.Equal(t, 401, answers[0].Status)
	assert.Equal(t, host, answers[0].Host)
	assert.Equal(t, []string{"UNAUTHORIZED"}, answers[0].Codes)
	_, err = p.Pull(t.Context(), puller.Request{Image: image, Pod: credentials.Pod{UID: "3"}})
	assert.ErrorIs(t, err, puller.ErrImagePull, "a Pod without a secret")
	good("4")
	<-joined
	close(g.open)
	pods.Wait()
	assert.Equal(t, 1, shared)
}

// Explain reads the index from the registry and lists the blobs that Pull would fetch. When
// the image is present, neither Pull nor Explain sends a request.
func TestExplainListsWhatTheBuiltInRuntimeFetches(t *testing.T) {
	p, image, put, reg := built(t, func(s content.Source) content.Source { return s }, puller.Config{})
	req := puller.Request{Image: image, Keyring: pullSecret("", reference.MustParse(image).Registry(), "right")}
	d, err := p.Explain(t.Context(), req)
	require.NoError(t, err)
	assert.Equal(t, puller.ActionPull, d.Action)
	assert.Equal(t, put.Descriptor.Digest, d.Resolved)
	assert.Equal(t, put.Manifests[1].Digest, d.Manifest)
	require.Len(t, d.Index, 2)
	assert.False(t, d.Index[0].Chosen)
	assert.True(t, d.Index[1].Chosen)
	assert.Equal(t, "linux/arm64/v8", d.Index[1].Platform)
	assert.Len(t, d.Fetch, 3, "config and two layers")
	assert.Empty(t, d.Present)
	assert.Zero(t, reg.Counts().BlobGet, "nothing is fetched")

	reg.ResetCounts()
	elsewhere := req
	elsewhere.Platform = ocispec.Platform{OS: "plan9", Architecture: "mips"}
	pinned, err := p.Resolve(t.Context(), elsewhere)
	require.NoError(t, err, "a name is resolved even if the index has no image for the platform")
	assert.Equal(t, 1, reg.Counts().ManifestGet+reg.Counts().ManifestHead)
	assert.Equal(t, put.Descriptor.Digest, pinned.Digest())
	img, err := p.Pull(t.Context(), puller.Request{Image: pinned.String(), Keyring: req.Keyring})
	require.NoError(t, err)
	assert.Equal(t, d.Manifest, img.Manifest)

	_, err = p.Pull(t.Context(), req)
	require.NoError(t, err)
	reg.ResetCounts()
	for _, policy := range []pullpolicy.Policy{pullpolicy.IfNotPresent, pullpolicy.Never} {
		again, err := p.Pull(t.Context(), puller.Request{Image: image, Policy: policy})
		require.NoError(t, err)
		assert.Equal(t, img.Digest, again.Digest)
	}
	d, err = p.Explain(t.Context(), req)
	require.NoError(t, err)
	assert.Equal(t, puller.ActionUse, d.Action)
	assert.Zero(t, reg.Counts().Total(), "a present image needs no registry")
	_, err = p.Pull(t.Context(), puller.Request{Image: image, Policy: pullpolicy.Always})
	assert.ErrorIs(t, err, puller.ErrImagePull, "under Always the registry checks each use")
}

// A caller finds the text of an image's manifest in the layout by Image.Manifest.
func TestImageManifestNamesABlobOfTheLayout(t *testing.T) {
	reg, err := pullertest.Start(pullertest.Config{})
	require.NoError(t, err)
	defer reg.Close()
	put, err := reg.PutImage("team/app:v1", pullertest.ImageSpec{Platforms: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}})
	require.NoError(t, err)
	layout, err := layout.Open(t.TempDir(), layout.Config{})
	require.NoError(t, err)
	defer layout.Close()
	rt, err := transfer.New(transfer.Config{Store: layout})
	require.NoError(t, err)
	p, err := puller.New(puller.Config{Runtime: rt})
	require.NoError(t, err)
	img, err := p.Pull(t.Context(), puller.Request{Image: reg.Host() + "/team/app:v1", Platform: ocispec.Platform{OS: "linux", Architecture: "arm64"}})
	require.NoError(t, err)
	text, err := fs.ReadFile(layout.FS(), "sha256/"+img.Manifest.Encoded())
	require.NoError(t, err)
	assert.Equal(t, put.Manifests[1].Digest, digest.FromBytes(text))
}

// A repaired secret is tried within the back-off window. The secret that has failed is not.
func TestTheBuiltInRuntimeTriesARepairedSecretAtOnce(t *testing.T) {
	p, image, put, reg := built(t, func(s content.Source) content.Source { return s }, puller.Config{
		Keyring: credentials.Join(pullSecret("", "other.example", "x")),
	})
	host := reference.MustParse(image).Registry()
	pull := func(password string) (puller.Image, error) {
		return p.Pull(t.Context(), puller.Request{Image: image, Pod: credentials.Pod{Namespace: "team", UID: "1"}, Keyring: pullSecret("team", host, password)})
	}
	_, err := pull("wrong")
	assert.ErrorIs(t, err, puller.ErrImagePull)
	reg.ResetCounts()
	_, err = pull("wrong")
	assert.ErrorIs(t, err, puller.ErrImagePullBackOff)
	assert.Zero(t, reg.Counts().Total())
	img, err := pull("right")
	require.NoError(t, err)
	assert.Equal(t, put.Manifests[1].Digest, img.Manifest)
}
