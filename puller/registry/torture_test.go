package registry_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
)

var errInjected = errors.New("injected fault")

// faults makes the operation number at fail, and also all operations after it if forever
// is set.
type faults struct {
	count   atomic.Int64
	at      int64
	forever bool
}

func (f *faults) now() bool {
	n := f.count.Add(1)
	return n == f.at || f.forever && n > f.at && f.at > 0
}

// smallRead is the largest number of bytes that one read returns, so that there are more
// reads that can fail.
const smallRead = 2 << 10

// A faultyTransport fails requests and reads of bodies.
type faultyTransport struct {
	*faults
	next http.RoundTripper
}

func (tr *faultyTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if tr.now() {
		return nil, errInjected
	}
	resp, err := tr.next.RoundTrip(req)
	if err == nil {
		resp.Body = &faultyBody{ReadCloser: resp.Body, faults: tr.faults}
	}
	return resp, err
}

type faultyBody struct {
	io.ReadCloser
	*faults
}

func (b *faultyBody) Read(p []byte) (int, error) {
	p = p[:min(len(p), smallRead)]
	if !b.now() {
		return b.ReadCloser.Read(p)
	}
	if len(p) < 2 {
		return 0, errInjected
	}
	n, _ := b.ReadCloser.Read(p[:len(p)/2]) // some bytes come along with the error
	return n, errInjected
}

// A faultyConn fails reads and writes of a connection.
type faultyConn struct {
	net.Conn
	*faults
}

func (c *faultyConn) Read(p []byte) (int, error) {
	p = p[:min(len(p), smallRead)]
	if c.now() {
		return 0, errInjected
	}
	return c.Conn.Read(p)
}

func (c *faultyConn) Write(p []byte) (int, error) {
	if c.now() {
		return 0, errInjected
	}
	return c.Conn.Write(p)
}

// stride returns the distance between two faults that a test tries: 1 with all rounds, and
// otherwise 5.
func stride() int64 {
	if rounds.All() {
		return 1
	}
	return 5
}

// An image is pulled from a registry with tokens, many times. In each pull another
// request, read of a body or operation of a connection fails. Each pull is right or ends
// with an error that has a reason. No goroutine is left, because the synctest bubble
// would not end, and no connection is left.
func TestTortureOfRequestsAndConnections(t *testing.T) {
	for _, layer := range []string{"transport", "connection"} {
		for _, forever := range []bool{false, true} {
			points, failed := int64(1), 0
			for at := int64(1); at <= points; at += stride() {
				synctest.Test(t, func(t *testing.T) {
					f := &faults{at: at, forever: forever}
					err := tortured(t, layer, f)
					if at == 1 {
						points = max(points, tortureLength(t, layer))
					}
					if err != nil {
						failed++
						assert.NotEmpty(t, content.ReasonOf(err), "%s, point %d: %v", layer, at, err)
					}
				})
			}
			t.Logf("%s, for ever %v: %d points, %d of them fail the pull", layer, forever, points, failed)
			assert.Greater(t, points, int64(100))
			if !forever {
				assert.Zero(t, failed, "a single fault does not fail a pull")
			}
		}
	}
}

func tortureLength(t *testing.T, layer string) int64 {
	f := &faults{}
	require.NoError(t, tortured(t, layer, f))
	return f.count.Load()
}

func tortured(t *testing.T, layer string, f *faults) error {
	var network pullertest.Network
	reg, put, ref := start(t, pullertest.Config{Network: &network, Auth: pullertest.AuthBearer})
	cfg := registry.Config{PlainHTTP: []string{reg.Host()}}
	open := atomic.Int64{}
	dial := func(ctx context.Context, network_, addr string) (net.Conn, error) {
		conn, err := network.DialContext(ctx, network_, addr)
		if err == nil {
			open.Add(1)
			conn = &countedConn{Conn: conn, open: &open}
		}
		return conn, err
	}
	closeAll := func() {}
	if layer == "transport" {
		tr := &http.Transport{DialContext: dial, DisableCompression: true}
		cfg.WrapTransport = instead(&faultyTransport{f, tr})
		closeAll = tr.CloseIdleConnections
	} else {
		cfg.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if f.now() {
				return nil, errInjected
			}
			conn, err := dial(ctx, network, addr)
			return &faultyConn{conn, f}, err
		}
	}
	c := newClient(t, cfg)
	err := pull(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, put.Blobs)
	c.CloseIdleConnections()
	closeAll()
	require.NoError(t, reg.Close())
	synctest.Wait()
	assert.Zero(t, open.Load(), "no connection is left")
	return err
}

// This is TestTortureOfRequestsAndConnections for a pull into a layout on disk. After
// each pull with a fault, a pull without faults succeeds, and the layout then has the
// same files as a layout without any fault.
func TestTortureOfAWholePull(t *testing.T) {
	var clean []string
	none := &faults{}
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		require.NoError(t, pullInto(t, dir, none, nil))
		clean = filesIn(t, dir)
	})
	for _, forever := range []bool{false, true} {
		points, failed := none.count.Load(), 0
		for at := int64(1); at <= points; at += stride() {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				f := &faults{at: at, forever: forever}
				err := pullInto(t, dir, f, func() {
					for _, name := range filesIn(t, dir) {
						if d, ok := strings.CutPrefix(name, "blobs/sha256/"); ok {
							data, err := os.ReadFile(filepath.Join(dir, name))
							require.NoError(t, err)
							assert.True(t, verify.Bytes(digest.Digest("sha256:"+d), data), "point %d: a wrong blob is visible", at)
						}
					}
				})
				if err != nil {
					failed++
					assert.NotEmpty(t, content.ReasonOf(err), "point %d: %v", at, err)
				}
				points = max(points, f.count.Load())
				require.NoError(t, pullInto(t, dir, &faults{}, nil), "point %d: the pull after it", at)
				assert.Equal(t, clean, filesIn(t, dir), "point %d", at)
			})
		}
		t.Logf("for ever %v: %d points, %d of them fail the pull", forever, points, failed)
		assert.Greater(t, points, int64(15))
		if !forever {
			assert.Zero(t, failed, "a single fault does not fail a pull")
		}
	}
}

// pullInto pulls one image into a layout. after is called when the pull is over.
func pullInto(t *testing.T, dir string, f *faults, after func()) error {
	var network pullertest.Network
	reg, err := pullertest.Start(pullertest.Config{Network: &network, Addr: "reg.example:80", Auth: pullertest.AuthBearer, Users: []pullertest.User{{Name: "robot", Password: "s3cret-pass"}}})
	require.NoError(t, err)
	put, err := reg.PutImage("team/app:v1", pullertest.ImageSpec{Layers: []int64{16_000, 8_000}, Seed: 1})
	require.NoError(t, err)
	store, err := layout.Open(dir, layout.Config{})
	require.NoError(t, err)
	tr := &http.Transport{DialContext: network.DialContext, DisableCompression: true}
	c := newClient(t, registry.Config{PlainHTTP: []string{"reg.example:80"}, WrapTransport: instead(&faultyTransport{f, tr})})
	rt, err := transfer.New(transfer.Config{Store: store, Source: c})
	require.NoError(t, err)
	image, err := rt.Pull(t.Context(), puller.Spec{Ref: reference.MustParse("reg.example:80/team/app:v1"), Credential: robot})
	if err == nil {
		assert.Equal(t, put.Descriptor.Digest, image.Digest)
	}
	tr.CloseIdleConnections()
	require.NoError(t, store.Close())
	require.NoError(t, reg.Close())
	synctest.Wait()
	if after != nil {
		after()
	}
	return err
}

func filesIn(t *testing.T, dir string) []string {
	var names []string
	require.NoError(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, name)
			names = append(names, filepath.ToSlash(rel))
		}
		return err
	}))
	return names
}

type countedConn struct {
	net.Conn
	open   *atomic.Int64
	closed atomic.Bool
}

func (c *countedConn) Close() error {
	if c.closed.CompareAndSwap(false, true) {
		c.open.Add(-1)
	}
	return c.Conn.Close()
}
