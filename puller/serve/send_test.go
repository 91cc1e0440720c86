package serve_test

import (
	"bufio"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/serve"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pipes is a listener whose connections are pipes in memory without any buffer.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	close func()
}

func newPipes() *pipes {
	p := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.done) })
	return p
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }
func (p *pipes) Close() error   { p.close(); return nil }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// get sends a GET over a new connection and reads the header of the answer.
func (p *pipes) get(t *testing.T, path string) (*http.Response, net.Conn) {
	t.Helper()
	conn := p.dial()
	_, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 16), nil)
	require.NoError(t, err)
	return resp, conn
}

// startPipes serves the handler in a bubble of synctest.
func startPipes(t *testing.T, h http.Handler) *pipes {
	p := newPipes()
	srv := &http.Server{Handler: h}
	var served sync.WaitGroup
	served.Go(func() { _ = srv.Serve(p) })
	t.Cleanup(func() { _ = srv.Close(); served.Wait() })
	return p
}

// large returns a node that has a public image with a layer of that size, and the path of
// the layer.
func large(t *testing.T, size int64) (n node, host, path string, layer ocispec.Descriptor) {
	t.Helper()
	reg := startRegistry(t, pullertest.Config{})
	image := put(t, reg, "team/app:v1", pullertest.ImageSpec{Layers: []int64{size}})
	n = newNode(t, registry.Config{}, nil)
	n.pull(t, reg.Host()+"/team/app:v1", nil)
	return n, reg.Host(), under("team/app", "blobs", image.Blobs[1]), image.Blobs[1]
}

func (n node) handler(t *testing.T, host string, conf serve.Config) *serve.Handler {
	t.Helper()
	conf.Store, conf.Records, conf.DefaultRegistry = n.store, n.dir, host
	h, err := serve.New(conf)
	require.NoError(t, err)
	return h
}

// A client that reads has no time limit. The connection of a client that stops to read is
// cut after the time-out.
func TestOnlyAClientThatStopsIsCut(t *testing.T) {
	n, host, path, layer := large(t, 1<<20)
	synctest.Test(t, func(t *testing.T) {
		p := startPipes(t, n.handler(t, host, serve.Config{StallTimeout: 30 * time.Second}))
		resp, conn := p.get(t, path)
		began := time.Now()
		read := int64(0)
		for {
			time.Sleep(25 * time.Second)
			m, err := io.CopyN(io.Discard, resp.Body, 128<<10)
			read += m
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
		}
		assert.Equal(t, layer.Size, read)
		assert.Greater(t, time.Since(began), 3*time.Minute)
		conn.Close()

		resp, conn = p.get(t, path)
		_, err := io.CopyN(io.Discard, resp.Body, 1000)
		require.NoError(t, err)
		time.Sleep(31 * time.Second)
		m, err := io.Copy(io.Discard, resp.Body)
		assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
		assert.Less(t, m, layer.Size/2)
		conn.Close()
	})
}

// If all lanes are in use, a request gets 429, or it takes the lane of a client that reads
// slowly.
func TestASlowClientLosesItsLane(t *testing.T) {
	n, host, path, layer := large(t, 1<<20)
	synctest.Test(t, func(t *testing.T) {
		p := startPipes(t, n.handler(t, host, serve.Config{Parallel: 1}))
		slow, conn := p.get(t, path)
		busy, other := p.get(t, path)
		assert.Equal(t, http.StatusTooManyRequests, busy.StatusCode)
		assert.Equal(t, "1", busy.Header.Get("Retry-After"))
		other.Close()
		head, other := p.get(t, "/v2/")
		assert.Equal(t, http.StatusOK, head.StatusCode, "this needs no place")
		other.Close()

		time.Sleep(3 * time.Second)
		_, err := io.CopyN(io.Discard, slow.Body, 200<<10) // the client reads
		require.NoError(t, err)
		time.Sleep(3 * time.Second)
		busy, other = p.get(t, path)
		assert.Equal(t, http.StatusTooManyRequests, busy.StatusCode)
		other.Close()

		time.Sleep(3 * time.Second)
		quick, other := p.get(t, path)
		require.Equal(t, http.StatusOK, quick.StatusCode)
		m, err := io.Copy(io.Discard, quick.Body)
		require.NoError(t, err)
		assert.Equal(t, layer.Size, m)
		other.Close()
		_, err = io.Copy(io.Discard, slow.Body)
		assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
		conn.Close()

		synctest.Wait()
		again, other := p.get(t, path)
		assert.Equal(t, http.StatusOK, again.StatusCode, "the place is free again")
		other.Close()
	})
}

// A recorder is a ResponseWriter that notes what its ReadFrom gets.
type recorder struct {
	*httptest.ResponseRecorder
	files, others int
}

func (r *recorder) ReadFrom(src io.Reader) (int64, error) {
	r.others++
	if l, ok := src.(*io.LimitedReader); ok {
		if c, ok := l.R.(syscall.Conn); ok {
			if raw, err := c.SyscallConn(); err == nil && raw != nil {
				r.others--
				r.files++
			}
		}
	}
	return io.Copy(r.ResponseRecorder, src)
}

// The ResponseWriter gets the file itself, also for a part of a blob, so that the system
// copies the bytes (sendfile). Package net does that only for a file, or for an
// io.LimitedReader of a file.
func TestBlobsReachTheConnectionAsFiles(t *testing.T) {
	n, host, path, layer := large(t, 1<<20)
	h := n.handler(t, host, serve.Config{})
	f, err := n.store.FS().Open(strings.Replace(string(layer.Digest), ":", "/", 1))
	require.NoError(t, err)
	defer f.Close()
	whole, err := io.ReadAll(f)
	require.NoError(t, err)
	for header, want := range map[string]string{"": string(whole), "bytes=500000-": string(whole[500000:]), "bytes=7-300000": string(whole[7:300001])} {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody)
		if header != "" {
			req.Header.Set("Range", header)
		}
		w := &recorder{ResponseRecorder: httptest.NewRecorder()}
		h.ServeHTTP(w, req)
		assert.True(t, want == w.Body.String(), "%q", header)
		assert.Positive(t, w.files, "%q", header)
		assert.Zero(t, w.others, "%q", header)
	}
}

// A file that another program has shortened is not served. If a file becomes shorter while
// it is sent, the connection is cut, so that the client sees that bytes are missing.
func TestAFileThatIsTooShortIsNotServedAsComplete(t *testing.T) {
	n, host, path, layer := large(t, 4<<20)
	file := filepath.Join(n.store.Dir(), "blobs", "sha256", layer.Digest.Encoded())
	synctest.Test(t, func(t *testing.T) {
		p := startPipes(t, n.handler(t, host, serve.Config{}))
		resp, conn := p.get(t, path)
		assert.Equal(t, layer.Size, resp.ContentLength)
		_, err := io.CopyN(io.Discard, resp.Body, 100)
		require.NoError(t, err)
		require.NoError(t, os.Truncate(file, 1<<20))
		m, err := io.Copy(io.Discard, resp.Body)
		assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
		assert.Less(t, m, layer.Size-100)
		conn.Close()

		resp, conn = p.get(t, path)
		assert.Equal(t, http.StatusNotFound, resp.StatusCode)
		conn.Close()
	})
}

// If another program has written other bytes of the same length into a file, the blob is
// not served, because the layout hashes files that it has not written itself.
func TestAFileWithOtherBytesIsNotServed(t *testing.T) {
	n, host, path, layer := large(t, 100_000)
	file := filepath.Join(n.store.Dir(), "blobs", "sha256", layer.Digest.Encoded())
	s := n.serves(t, host, serve.Config{})
	assert.Equal(t, http.StatusOK, s.get(path))
	require.NoError(t, os.WriteFile(file, make([]byte, layer.Size), 0o600))
	assert.Equal(t, http.StatusNotFound, s.get(path))
}

// If a client leaves in the middle of an answer, its lane is free again.
func TestAClientThatLeavesFreesItsLane(t *testing.T) {
	n, host, path, _ := large(t, 4<<20)
	synctest.Test(t, func(t *testing.T) {
		p := startPipes(t, n.handler(t, host, serve.Config{Parallel: 1}))
		for range 10 {
			resp, conn := p.get(t, path)
			require.Equal(t, http.StatusOK, resp.StatusCode)
			_, err := io.CopyN(io.Discard, resp.Body, 1000)
			require.NoError(t, err)
			conn.Close()
			synctest.Wait()
		}
	})
}

// The body of a request is not read, and does not delay the answer.
func TestTheBodyOfARequestIsNotRead(t *testing.T) {
	n, host, path, layer := large(t, 1000)
	synctest.Test(t, func(t *testing.T) {
		p := startPipes(t, n.handler(t, host, serve.Config{}))
		conn := p.dial()
		_, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		data, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		assert.Len(t, data, int(layer.Size))
		assert.True(t, resp.Close)
		conn.Close()
		time.Sleep(time.Second) // the server waits a moment before it closes
	})
}

// The time-out holds for every answer, also for an answer without content. It also holds
// for the body of a request, which is not read. Without it a client could keep its
// connection for ever.
func TestAClientThatDoesNotReadARefusalIsCut(t *testing.T) {
	n, host, path, layer := large(t, 1000)
	synctest.Test(t, func(t *testing.T) {
		p := startPipes(t, n.handler(t, host, serve.Config{StallTimeout: 30 * time.Second}))
		for _, request := range []string{"GET /v2/", "GET /v2/x/manifests/none", "DELETE " + path, "HEAD " + path, "GET " + path,
			"GET " + path + " HTTP/1.1\r\nIf-None-Match: *\r\nX: ", "GET " + path + " HTTP/1.1\r\nRange: bytes=5000-\r\nX: "} {
			conn := p.dial()
			_, err := io.WriteString(conn, request+" HTTP/1.1\r\nHost: x\r\n\r\n")
			require.NoError(t, err)
			time.Sleep(31 * time.Second)
			got, err := bufio.NewReader(conn).ReadString('\n')
			assert.ErrorIs(t, err, io.EOF, request)
			assert.Empty(t, got, request)
			conn.Close()
		}
		for _, length := range []string{"Content-Length: 1000", "Transfer-Encoding: chunked", "Expect: 100-continue\r\nContent-Length: 10"} {
			conn := p.dial()
			require.NoError(t, conn.SetDeadline(time.Now().Add(time.Hour)))
			_, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n"+length+"\r\n\r\n")
			require.NoError(t, err)
			r := bufio.NewReader(conn)
			resp, err := http.ReadResponse(r, nil)
			require.NoError(t, err)
			data, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			assert.Len(t, data, int(layer.Size))
			began := time.Now()
			_, err = r.ReadByte()
			assert.ErrorIs(t, err, io.EOF, length)
			assert.LessOrEqual(t, time.Since(began), time.Minute, length)
			conn.Close()
		}
	})
}

// Several parts of a blob come in the order of the request. The largest part needs more
// than one chunk.
func TestSeveralPartsOfABlobAreSent(t *testing.T) {
	n, host, path, _ := large(t, 300_000)
	s := n.serves(t, host, serve.Config{})
	whole := s.ask(http.MethodGet, path).body
	a := s.ask(http.MethodGet, path, "Range", "bytes=100000-290000,0-9,-5")
	require.Equal(t, http.StatusPartialContent, a.StatusCode)
	require.NoError(t, a.err)
	_, params, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	require.NoError(t, err)
	parts := multipart.NewReader(strings.NewReader(a.body), params["boundary"])
	for _, want := range []string{whole[100_000:290_001], whole[:10], whole[len(whole)-5:]} {
		part, err := parts.NextPart()
		require.NoError(t, err)
		data, err := io.ReadAll(part)
		require.NoError(t, err)
		assert.True(t, want == string(data))
	}
}

// Over HTTP/2 a blob and its parts come complete. If a blob becomes too short, the stream
// is cut.
func TestBlobsComeOverHTTP2(t *testing.T) {
	n, host, path, layer := large(t, 8<<20)
	s := httptest.NewUnstartedServer(n.handler(t, host, serve.Config{}))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	get := func(header string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, http.NoBody)
		require.NoError(t, err)
		if header != "" {
			req.Header.Set("Range", header)
		}
		resp, err := s.Client().Do(req)
		require.NoError(t, err)
		t.Cleanup(func() { resp.Body.Close() })
		assert.Equal(t, 2, resp.ProtoMajor)
		return resp
	}
	resp := get("")
	data, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Equal(t, string(layer.Digest), sha256Of(string(data)))
	resp = get("bytes=1000000-")
	part, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.True(t, string(data[1000000:]) == string(part))

	// The server cannot send more than 4 MiB ahead, which is the window of the client.
	resp = get("")
	_, err = io.CopyN(io.Discard, resp.Body, 100)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(filepath.Join(n.store.Dir(), "blobs", "sha256", layer.Digest.Encoded()), 7<<20))
	_, err = io.Copy(io.Discard, resp.Body)
	assert.Error(t, err)
}
