package serve_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/serve"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A server answers as the registry of pullertest, which the tests of the clients use. For
// each request about an image that both have, status, headers and bytes are the same.
func TestAServerAnswersAsTheRegistryDoes(t *testing.T) {
	reg := startRegistry(t, pullertest.Config{})
	image := put(t, reg, "team/app:v1", pullertest.ImageSpec{Layers: []int64{50_000}})
	n := newNode(t, registry.Config{}, nil)
	n.pull(t, reg.Host()+"/team/app:v1", nil)
	s := n.serves(t, reg.Host(), serve.Config{})
	theirs := server{&httptest.Server{URL: reg.URL(), Config: s.Config}, t}
	paths := []string{"/v2/", under("team/app", "manifests", "v1"), under("team/app", "manifests", image.Descriptor), under("team/app", "blobs", image.Blobs[0]),
		under("team/app", "blobs", image.Blobs[1]), under("team/app", "manifests", "v2"), under("team/app", "blobs", sha256Of("x")), under("team/none", "blobs", image.Blobs[1])}
	ask := func(s server, method, path string, header []string) answer {
		req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, http.NoBody)
		require.NoError(t, err)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		return answer{resp, string(data), err}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range rounds.Of(300) {
		path, method := paths[random.IntN(len(paths))], []string{http.MethodGet, http.MethodHead}[random.IntN(2)]
		var header []string
		switch random.IntN(5) {
		case 0:
			header = []string{"Range", fmt.Sprintf("bytes=%d-", random.IntN(60_000))}
		case 1:
			header = []string{"Range", fmt.Sprintf("bytes=%d-%d", random.IntN(60_000), random.IntN(60_000))}
		case 2:
			header = []string{"Range", fmt.Sprintf("bytes=-%d", random.IntN(60_000))}
		case 3:
			header = []string{"If-None-Match", `"` + string(image.Blobs[random.IntN(2)].Digest) + `"`}
		}
		ours, want := ask(s, method, path, header), ask(theirs, method, path, header)
		what := fmt.Sprint(method, " ", path, " ", header)
		require.Equal(t, want.StatusCode, ours.StatusCode, what)
		if ours.StatusCode/100 != 2 || path == "/v2/" {
			continue
		}
		require.True(t, want.body == ours.body, what)
		for _, name := range []string{"Content-Type", "Content-Length", "Content-Range", "Docker-Content-Digest", "Etag", "Accept-Ranges"} {
			require.Equal(t, want.Header.Get(name), ours.Header.Get(name), "%s: %s", what, name)
		}
	}
}

// pullkit's client can use a server for all that a Source must do: read documents, check a
// digest that it has, read parts of blobs, read many blobs at once, and stop in the middle
// of a blob.
func TestAClientReadsEverythingFromAServer(t *testing.T) {
	reg := startRegistry(t, pullertest.Config{})
	image := put(t, reg, "team/app:v1", pullertest.ImageSpec{Platforms: []ocispec.Platform{amd64}, Layers: []int64{300_000}})
	n := newNode(t, registry.Config{}, nil)
	n.pull(t, reg.Host()+"/team/app:v1", nil)
	s := n.serves(t, reg.Host(), serve.Config{})
	host := strings.TrimPrefix(s.URL, "http://")
	client, err := registry.New(registry.Config{PlainHTTP: []string{host}})
	require.NoError(t, err)
	defer client.CloseIdleConnections()
	repo := content.Repo{Ref: mustParse(host + "/team/app:v1")}
	doc, err := client.Manifest(t.Context(), repo, "")
	require.NoError(t, err)
	assert.Equal(t, image.Descriptor.Digest, doc.Desc.Digest)
	assert.Equal(t, image.Descriptor.MediaType, doc.Desc.MediaType)
	have, err := client.Manifest(t.Context(), repo, doc.Desc.Digest)
	require.NoError(t, err)
	assert.Nil(t, have.Body)
	desc, err := client.Resolve(t.Context(), repo)
	require.NoError(t, err)
	assert.Equal(t, image.Descriptor.Size, desc.Size)
	_, err = client.Manifest(t.Context(), content.Repo{Ref: mustParse(host + "/team/app:v2")}, "")
	assert.ErrorIs(t, err, fs.ErrNotExist)
	var e *content.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, []string{"MANIFEST_UNKNOWN"}, e.Codes)

	layer := image.Blobs[1]
	whole, err := client.Blob(t.Context(), repo, layer, 0, -1)
	require.NoError(t, err)
	data, err := io.ReadAll(whole)
	require.NoError(t, err)
	require.NoError(t, whole.Close())
	var readers sync.WaitGroup
	for i := range int64(50) {
		readers.Go(func() {
			part, err := client.Blob(t.Context(), repo, layer, 5000*i, 5000)
			if assert.NoError(t, err) {
				got, err := io.ReadAll(part)
				assert.NoError(t, err)
				assert.Equal(t, 5000*i, part.Start)
				assert.True(t, string(data[5000*i:5000*i+5000]) == string(got))
				assert.NoError(t, part.Close())
			}
		})
	}
	readers.Wait()
}

// Requests that no client sends are refused, and the server goes on.
func TestAHostileClientGetsNothing(t *testing.T) {
	n, host, path, layer := large(t, 100_000)
	s := n.serves(t, host, serve.Config{Parallel: 4})
	addr := strings.TrimPrefix(s.URL, "http://")
	end := "Host: x\r\nConnection: close\r\n\r\n"
	raw := func(text string) string {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
		_, _ = io.WriteString(conn, text)
		if !strings.HasSuffix(text, end) {
			_ = conn.(*net.TCPConn).CloseWrite() // the server must not wait for the rest of half a request
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "cut"
		}
		return strings.TrimSpace(line)
	}
	many := "Range: bytes=" + strings.TrimSuffix(strings.Repeat("0-99999,", 10_000), ",") + "\r\n"
	assert.Equal(t, "HTTP/1.1 200 OK", raw("GET "+path+" HTTP/1.1\r\n"+many+end), "parts that are more than the whole are answered with the whole")
	for _, text := range []string{
		"GET " + path + " HTTP/1.1\r\nRange: bytes=99999999999999999999999-\r\n" + end,
		"GET " + path + " HTTP/1.1\r\nRange: bytes=-\r\n" + end,
		"GET " + path + " HTTP/1.1\r\nRange: lines=1-2\r\n" + end,
		"GET " + path + "%00 HTTP/1.1\r\n" + end,
		"GET " + strings.ReplaceAll(path, "team", "team/..") + " HTTP/1.1\r\n" + end,
		"GET /v2/" + strings.Repeat("a/", 100_000) + "manifests/v1 HTTP/1.1\r\n" + end,
		"GET http://other.example" + strings.ReplaceAll(path, "sha256", "sha999") + " HTTP/1.1\r\n" + end,
		"TRACE " + path + " HTTP/1.1\r\n" + end,
		"CONNECT other.example:443 HTTP/1.1\r\n" + end,
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
	} {
		line := raw(text)
		assert.False(t, strings.HasPrefix(line, "HTTP/1.1 2"), "%.300q: %s", text, line)
	}
	resp := s.ask(http.MethodGet, path, "Authorization", "Basic cm9ib3Q6cmlnaHQ=", "Cookie", "a=b", "X-Forwarded-For", "127.0.0.1")
	assert.Len(t, resp.body, int(layer.Size))
}

// FuzzNames holds that the server answers every path and ns, and that it serves content
// only under the name that the image has.
func FuzzNames(f *testing.F) {
	reg, err := pullertest.Start(pullertest.Config{})
	require.NoError(f, err)
	f.Cleanup(func() { reg.Close() })
	put(f, reg, "team/app:v1", oneLayer)
	n := newNode(f, registry.Config{}, nil)
	n.pull(f, reg.Host()+"/team/app:v1", nil)
	h, err := serve.New(serve.Config{Store: n.store, Records: n.dir, DefaultRegistry: reg.Host()})
	require.NoError(f, err)
	_, port, _ := strings.Cut(reg.Host(), ":")
	for _, path := range []string{"/v2/team/app/manifests/v1", "/v2/127.0.0.1_1/team/app/manifests/v1", "/v2/team/app/blobs/sha256:00", "/v2/a/b/blobs/manifests/x", "/v2//", "/v2/team/app/tags/list"} {
		f.Add(path, "")
		f.Add(path, "docker.io")
		f.Add(path, "127.0.0.1:5000")
	}
	f.Fuzz(func(t *testing.T, path, ns string) {
		r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: path}, Header: http.Header{}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody}
		if ns != "" {
			r.URL.RawQuery = url.Values{"ns": {ns}}.Encode()
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r.WithContext(t.Context()))
		switch {
		case !slices.Contains([]int{200, 400, 404, 405}, w.Code):
			t.Errorf("status %d", w.Code)
		case w.Code == 200 && path != "/v2" && path != "/v2/":
			name := strings.TrimSuffix(strings.TrimPrefix(path, "/v2/"), "/manifests/v1")
			if !slices.Contains([]string{"team/app", "127.0.0.1_" + port + "/team/app"}, name) || ns != "" && ns != reg.Host() {
				t.Errorf("%q under %q has content", path, ns)
			}
		}
	})
}
