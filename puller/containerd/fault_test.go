package containerd_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/containerd"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/puller/verify"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// faults makes one call of containerd, or one message of its streams, fail.
type faults struct {
	mu   sync.Mutex
	n    int
	at   int // number of the call that fails
	err  error
	seen map[string]bool
}

func (f *faults) next(what string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n++; f.n != f.at {
		return nil
	}
	f.seen[what] = true
	return f.err
}

func (f *faults) options() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			if err := f.next(method); err != nil {
				return err
			}
			return invoker(ctx, method, req, reply, cc, opts...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			if err := f.next("open " + method); err != nil {
				return nil, err
			}
			s, err := streamer(ctx, desc, cc, method, opts...)
			return &faultyStream{s, f, method}, err
		}),
	}
}

type faultyStream struct {
	grpc.ClientStream
	f      *faults
	method string
}

func (s *faultyStream) RecvMsg(m any) error {
	if err := s.f.next("receive " + s.method); err != nil {
		return err
	}
	return s.ClientStream.RecvMsg(m)
}

// Each call of containerd fails in turn. The pull fails with that error, or succeeds. The next
// pull succeeds, and the image is complete.
func TestAPullSurvivesAFaultOfEachCall(t *testing.T) {
	d := realtest.StartContainerd(t, realtest.ContainerdProgram, nil)
	reg, r := startRegistry(t, pullertest.Config{}), newRaw(t, d, "k8s.io")
	broken := status.Error(codes.Internal, "broken on purpose\nsecond line")
	f := &faults{err: broken, seen: map[string]bool{}}
	for k := 1; ; k++ {
		f.n, f.at = 0, k
		image := putImage(t, reg, "app:v1", pullertest.ImageSpec{Platforms: platforms[1:], Layers: []int64{1 << 20, 300}, Seed: uint64(k)})
		store := open(t, d, containerd.Config{}, f.options()...)
		_, err := newPuller(t, store).Pull(t.Context(), puller.Request{Image: image, Policy: "Always"})
		if err != nil {
			require.ErrorIs(t, err, content.ErrStore, "call %d", k)
			require.ErrorContains(t, err, `broken on purpose\x0asecond line`, "call %d", k)
		}
		if f.n < k {
			break // there is no k-th call
		}
		_, err = newPuller(t, store).Pull(t.Context(), puller.Request{Image: image, Policy: "Always"})
		require.NoError(t, err, "after call %d", k)
		r.dropLeases(t)
		require.Contains(t, d.Ctr(t, "k8s.io", "images", "check", "name=="+image), "complete (", "call %d", k)
	}
	for _, what := range []string{
		"/containerd.services.leases.v1.Leases/Create", "/containerd.services.leases.v1.Leases/Delete",
		"/containerd.services.content.v1.Content/Info", "/containerd.services.content.v1.Content/Update",
		"open /containerd.services.content.v1.Content/Write", "receive /containerd.services.content.v1.Content/Write",
		"/containerd.services.images.v1.Images/Get", "/containerd.services.images.v1.Images/Create", "/containerd.services.images.v1.Images/Update",
		"receive /containerd.services.content.v1.Content/Read",
	} {
		assert.Contains(t, f.seen, what)
	}
}

// If nothing listens at the socket, the error says what to do. If containerd does not answer,
// each call ends with its context.
func TestAContainerdThatDoesNotAnswerIsAnError(t *testing.T) {
	dial := func(path string) *containerd.Store {
		conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		s, err := containerd.New(conn, containerd.Config{})
		require.NoError(t, err)
		return s
	}
	name := reference.MustParse("registry.example/app:v1")
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("hello"), Size: 5}

	_, err := dial(filepath.Join(t.TempDir(), "none.sock")).Lookup(t.Context(), name)
	assert.ErrorContains(t, err, "is it running, and is this its socket?")
	assert.Equal(t, content.ErrStore, content.ReasonOf(err))

	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go io.Copy(io.Discard, conn)
		}
	}()
	s := dial(socket)
	for what, call := range map[string]func(context.Context) error{
		"Lookup": func(ctx context.Context) error { _, err := s.Lookup(ctx, name); return err },
		"Has":    func(ctx context.Context) error { _, err := s.Has(ctx, desc); return err },
		"Open":   func(ctx context.Context) error { _, err := s.Open(ctx, desc); return err },
		"Kept":   func(ctx context.Context) error { _, err := s.Kept(ctx, desc); return err },
		"Ingest": func(ctx context.Context) error { _, err := s.Ingest(ctx, desc); return err },
		"Hold":   func(ctx context.Context) error { _, err := s.Hold(ctx); return err },
		"Tag":    func(ctx context.Context) error { return s.Tag(ctx, name, desc) },
		"List":   func(ctx context.Context) error { _, err := s.List(ctx); return err },
		"Pinned": func(ctx context.Context) error { _, err := s.Pinned(ctx, content.Entry{Name: "a"}); return err },
	} {
		ended := errors.New("no time")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, ended)
		assert.ErrorIs(t, call(ctx), ended, what)
		cancel()
	}
}

func TestMistakesAreRefused(t *testing.T) {
	conn, err := grpc.NewClient("unix:///nowhere", grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	for want, conf := range map[string]containerd.Config{
		`Config.Namespace is "k8s/io"`:        {Namespace: "k8s/io"},
		`Config.Namespace is "-"`:             {Namespace: "-"},
		`Config.Namespace is "a--b"`:          {Namespace: "a--b"},
		`Config.Namespace is "a."`:            {Namespace: "a."},
		"Config.KeepUnnamed is -1s":           {KeepUnnamed: -time.Second},
		"Config.KeepUnnamed is 1s: give 1m0s": {KeepUnnamed: time.Second},
	} {
		_, err := containerd.New(conn, conf)
		assert.ErrorContains(t, err, want)
	}
	_, err = containerd.New(nil, containerd.Config{})
	assert.ErrorContains(t, err, "the connection is nil")
	s, err := containerd.New(conn, containerd.Config{Namespace: "a-b_c.9"})
	require.NoError(t, err)
	bad := ocispec.Descriptor{Digest: "sha256:../../etc", Size: 1}
	_, err = s.Has(t.Context(), bad)
	assert.ErrorIs(t, err, content.ErrBadDigest)
	_, err = s.Ingest(t.Context(), bad)
	assert.ErrorIs(t, err, content.ErrBadDigest)
	_, err = s.Open(t.Context(), bad)
	assert.ErrorIs(t, err, content.ErrBadDigest)
	assert.ErrorIs(t, s.Tag(t.Context(), reference.MustParse("a"), bad), content.ErrBadDigest)
	_, err = s.Has(t.Context(), ocispec.Descriptor{Digest: digest.FromString("a"), Size: -1})
	assert.ErrorIs(t, err, content.ErrSizeMismatch)
}

// OnlyPublic accepts a public image even if the pull used a credential. It refuses every other
// image before a blob is fetched.
func TestOnlyPublic(t *testing.T) {
	users := []pullertest.User{{Name: "robot", Password: "hunter2"}}
	ring := credentials.Static{{Username: "robot", Password: credentials.Conceal("hunter2")}}
	pull := func(conf pullertest.Config, ring credentials.Keyring, settings registry.Config, next content.Check) (*pullertest.Registry, puller.Image, error) {
		reg := startRegistry(t, conf)
		image := putImage(t, reg, "team/app:v1", pullertest.ImageSpec{Platforms: platforms, Layers: []int64{100}})
		source, err := registry.New(settings)
		require.NoError(t, err)
		rt, err := transfer.New(transfer.Config{Source: source, Store: &pullertest.MemStore{}})
		require.NoError(t, err)
		p, err := puller.New(puller.Config{Runtime: rt, Keyring: ring, Platform: containerd.Platform(), Admission: containerd.OnlyPublic(next)})
		require.NoError(t, err)
		img, err := p.Pull(t.Context(), puller.Request{Image: image})
		return reg, img, err
	}
	for _, auth := range []pullertest.AuthMode{pullertest.AuthBasic, pullertest.AuthBearer} {
		reg, _, err := pull(pullertest.Config{Auth: auth, Users: users}, ring, registry.Config{}, nil)
		assert.ErrorIs(t, err, containerd.ErrPrivate)
		assert.ErrorIs(t, err, puller.ErrSignatureValidation)
		assert.Zero(t, reg.Counts().BlobGet)
		assert.NotContains(t, err.Error(), "hunter2")
	}
	_, img, err := pull(pullertest.Config{}, ring, registry.Config{}, nil)
	require.NoError(t, err)
	assert.Equal(t, "the registry shows it without a credential", img.AdmittedBy)
	_, _, err = pull(pullertest.Config{}, nil, registry.Config{}, nil)
	assert.NoError(t, err)

	// A check follows.
	_, img, err = pull(pullertest.Config{}, nil, registry.Config{}, verify.Accept())
	require.NoError(t, err)
	assert.NotEmpty(t, img.AdmittedBy)
	reg, _, err := pull(pullertest.Config{}, nil, registry.Config{}, verify.Reject())
	assert.ErrorIs(t, err, puller.ErrSignatureValidation)
	assert.NotErrorIs(t, err, containerd.ErrPrivate)
	assert.Zero(t, reg.Counts().BlobGet)
	only, both := containerd.OnlyPublic(nil), containerd.OnlyPublic(verify.Accept())
	assert.NotEmpty(t, only.Fingerprint())
	assert.NotEqual(t, only.Fingerprint(), both.Fingerprint())
	assert.Empty(t, containerd.OnlyPublic(verify.Func("changing", "", nil)).Fingerprint())
	name := reference.MustParse("registry.example/a:v1")
	assert.Equal(t, "only if the registry shows it without a credential", only.(content.CheckExplainer).Explain(name))

	// The registry cannot be asked the second time.
	_, _, err = pull(pullertest.Config{}, nil, registry.Config{Retries: -1, WrapTransport: func(rt http.RoundTripper) http.RoundTripper {
		return headless{rt}
	}}, nil)
	assert.ErrorContains(t, err, "cannot find out whether the image is public")
	assert.ErrorIs(t, err, content.ErrCheckFailed)

	// The Source does not say where a document is from.
	desc := ocispec.Descriptor{Digest: digest.FromString("a")}
	_, err = only.Admit(t.Context(), content.Admission{
		Repo: content.Repo{Ref: reference.MustParse("registry.example/a@" + desc.Digest.String())}, Top: desc, Source: silentSource{doc: content.Document{Desc: desc}},
	})
	assert.ErrorIs(t, err, containerd.ErrPrivate)
}

// headless is a transport on which requests by HEAD fail.
type headless struct{ http.RoundTripper }

func (h headless) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method == http.MethodHead {
		return nil, errors.New("HEAD fails")
	}
	return h.RoundTripper.RoundTrip(req)
}

// A silentSource returns one document, without its Provenance.
type silentSource struct {
	content.Source
	doc content.Document
}

func (s silentSource) Manifest(context.Context, content.Repo, digest.Digest) (content.Document, error) {
	return s.doc, nil
}
