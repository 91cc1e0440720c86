package registry_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/reference"
)

// BenchmarkBlob reads blobs over loopback through the client and, for comparison, by
// net/http only. The buffer has the size of package transfer's.
func BenchmarkBlob(b *testing.B) {
	zeros := make([]byte, 1<<20)
	for _, size := range []int64{16 << 10, 1 << 20, 64 << 20} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
			chunk := zeros
			for left := size; left > 0; left -= int64(len(chunk)) {
				chunk = chunk[:min(left, int64(len(chunk)))]
				_, _ = w.Write(chunk)
			}
		}))
		defer server.Close()
		host := strings.TrimPrefix(server.URL, "http://")
		buf := make([]byte, 256<<10)
		drain := func(b *testing.B, body io.ReadCloser, err error) {
			require.NoError(b, err)
			n, err := io.CopyBuffer(onlyWriter{}, onlyReader{body}, buf)
			require.NoError(b, err)
			require.Equal(b, size, n)
			require.NoError(b, body.Close())
		}
		b.Run("client/"+strconv.FormatInt(size, 10), func(b *testing.B) {
			c := newClient(b, registry.Config{PlainHTTP: []string{host}})
			defer c.CloseIdleConnections()
			ref := reference.MustParse(host + "/app:v1")
			desc := ocispec.Descriptor{Digest: digestOf("x"), Size: size}
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				body, err := c.Blob(b.Context(), content.Repo{Ref: ref, Cred: noCredential}, desc, 0, -1)
				drain(b, body, err)
			}
		})
		b.Run("net-http/"+strconv.FormatInt(size, 10), func(b *testing.B) {
			tr := &http.Transport{}
			defer tr.CloseIdleConnections()
			req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, server.URL+"/v2/app/blobs/x", nil)
			require.NoError(b, err)
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				resp, err := tr.RoundTrip(req)
				require.NoError(b, err)
				drain(b, resp.Body, err)
			}
		})
	}
}

// The two types have no ReadFrom and no WriteTo, so that io.CopyBuffer uses the buffer.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{}
)

func (onlyWriter) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkParallelTLS reads four blobs at a time over TLS, through the client and, for
// comparison, by net/http only, which uses one HTTP/2 connection for all of them.
func BenchmarkParallelTLS(b *testing.B) {
	const size, parallel = 64 << 20, 4
	zeros := make([]byte, 1<<20)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(size))
		for range size / len(zeros) {
			_, _ = w.Write(zeros)
		}
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	host := strings.TrimPrefix(server.URL, "https://")
	all := func(b *testing.B, open func() (io.ReadCloser, error)) {
		b.SetBytes(size * parallel)
		for b.Loop() {
			var wg sync.WaitGroup
			for range parallel {
				wg.Go(func() {
					body, err := open()
					if !assert.NoError(b, err) {
						return
					}
					n, err := io.CopyBuffer(onlyWriter{}, onlyReader{body}, make([]byte, 256<<10))
					assert.NoError(b, err)
					assert.EqualValues(b, size, n)
					assert.NoError(b, body.Close())
				})
			}
			wg.Wait()
		}
	}
	b.Run("client", func(b *testing.B) {
		c := newClient(b, registry.Config{RootCAs: roots})
		defer c.CloseIdleConnections()
		ref := reference.MustParse(host + "/app:v1")
		all(b, func() (io.ReadCloser, error) {
			body, err := c.Blob(b.Context(), content.Repo{Ref: ref, Cred: noCredential}, ocispec.Descriptor{Digest: digestOf("x"), Size: size}, 0, -1)
			return body, err
		})
	})
	b.Run("net-http", func(b *testing.B) {
		tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
		defer tr.CloseIdleConnections()
		all(b, func() (io.ReadCloser, error) {
			req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, server.URL, nil)
			if err != nil {
				return nil, err
			}
			resp, err := tr.RoundTrip(req)
			if err != nil {
				return nil, err
			}
			return resp.Body, nil
		})
	})
}
