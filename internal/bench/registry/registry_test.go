package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func made(t *testing.T) (store, catalog) {
	dir := t.TempDir()
	require.NoError(t, makeImages(dir, []string{"plain=3x100000", "multi=index:1x5000", "tiny=tiny:2"}))
	c, err := store{dir}.load()
	require.NoError(t, err)
	return store{dir}, c
}

func TestImagesAreTheSameAgain(t *testing.T) {
	_, first := made(t)
	_, second := made(t)
	assert.Equal(t, first, second)
	assert.Len(t, first.Tags, 4)
	assert.Len(t, first.Manifests, 1+6+2)
	assert.Error(t, makeImages(t.TempDir(), []string{"plain=3xmany"}))
}

func get(t *testing.T, h http.Handler, method, path, byteRange string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, path, nil)
	if byteRange != "" {
		req.Header.Set("Range", "bytes="+byteRange)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w
}

func TestTheRegistryServesTheImagesThatWereMade(t *testing.T) {
	s, c := made(t)
	h, err := newHandler(s)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, get(t, h, "GET", "/v2/", "").Code)

	byTag := get(t, h, "GET", "/v2/plain/manifests/1", "")
	require.Equal(t, http.StatusOK, byTag.Code)
	assert.Equal(t, ocispec.MediaTypeImageManifest, byTag.Header().Get("Content-Type"))
	assert.Equal(t, c.Tags["plain:1"].String(), byTag.Header().Get("Docker-Content-Digest"))
	assert.Equal(t, byTag.Body.String(), get(t, h, "GET", "/v2/plain/manifests/"+c.Tags["plain:1"].String(), "").Body.String())
	assert.Zero(t, get(t, h, "HEAD", "/v2/multi/manifests/1", "").Body.Len())

	var manifest ocispec.Manifest
	require.NoError(t, json.Unmarshal(byTag.Body.Bytes(), &manifest))
	require.Len(t, manifest.Layers, 3)
	var config ocispec.Image
	require.NoError(t, json.Unmarshal(get(t, h, "GET", "/v2/plain/blobs/"+manifest.Config.Digest.String(), "").Body.Bytes(), &config))
	for i, desc := range manifest.Layers {
		blob := get(t, h, "GET", "/v2/plain/blobs/"+desc.Digest.String(), "").Body.Bytes()
		assert.Equal(t, desc.Size, int64(len(blob)))
		assert.Equal(t, desc.Digest, digest.FromBytes(blob))
		part := get(t, h, "GET", "/v2/plain/blobs/"+desc.Digest.String(), "10-19")
		assert.Equal(t, http.StatusPartialContent, part.Code)
		assert.Equal(t, blob[10:20], part.Body.Bytes())
		unpacked, err := gzip.NewReader(bytes.NewReader(blob))
		require.NoError(t, err)
		content, err := io.ReadAll(unpacked)
		require.NoError(t, err)
		assert.Equal(t, config.RootFS.DiffIDs[i], digest.FromBytes(content))
	}
	for _, path := range []string{"/v2/plain/manifests/2", "/v2/plain/blobs/sha256:../images.json", "/v2/plain/tags/list", "/v2/plain/blobs/" + digest.FromString("other").String()} {
		assert.Equal(t, http.StatusNotFound, get(t, h, "GET", path, "").Code, path)
	}
	h.counter.out = io.Discard
	assert.Equal(t, map[string]int{"GET ping": 1, "GET manifest": 3, "HEAD manifest": 1, "GET blob": 1 + 6 + 2, "GET other": 1}, h.counter.requests)
}

// start runs serve. ask asks it for the counts, and stop ends it.
func start(t *testing.T, s store, conf setup) (host string, lines <-chan string, ask, stop func()) {
	stdin, asks := io.Pipe()
	answers, stdout := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- serve(s.dir, conf, stdin, stdout)
		stdout.Close()
	}()
	printed := make(chan string, 100)
	go func() {
		defer close(printed)
		for {
			line := make([]byte, 1000)
			n, err := answers.Read(line)
			if err != nil {
				return
			}
			printed <- strings.TrimSpace(string(line[:n]))
		}
	}()
	return <-printed, printed, func() { fmt.Fprintln(asks) }, func() {
		require.NoError(t, asks.Close())
		require.NoError(t, <-ended)
	}
}

func TestConnectionsAreCutAfterTheirBytes(t *testing.T) {
	s, c := made(t)
	var manifest ocispec.Manifest
	h, err := newHandler(s)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(h.docs[c.Tags["plain:1"]].body, &manifest))
	layer := manifest.Layers[0]
	for _, tt := range []struct {
		reset bool
		want  error
	}{{false, io.ErrUnexpectedEOF}, {true, syscall.ECONNRESET}} {
		host, lines, ask, stop := start(t, s, setup{link: link{cut: 50_000, reset: tt.reset, tell: 20_000}})
		resp, err := http.Get("http://" + host + "/v2/plain/blobs/" + layer.Digest.String())
		if err == nil { // a reset may come before the headers were read
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		assert.ErrorIs(t, err, tt.want)
		ask()
		assert.Equal(t, []string{"sent", "sent"}, []string{<-lines, <-lines})
		var counts Counts
		require.NoError(t, json.Unmarshal([]byte(<-lines), &counts))
		assert.Equal(t, Counts{Requests: map[string]int{"GET blob": 1}, OneBlob: 1, Carriers: 1, Chains: map[string][]string{}, Bytes: 50_000, Connections: 1}, counts)
		stop()
	}
}

// TestAConnectionCarriesItsRate runs in a bubble of synctest, so it does not really wait.
func TestAConnectionCarriesItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		c := &linkConn{Conn: server, link: link{rate: 1_000_000, delay: 20 * time.Millisecond}, total: func(int64) {}}
		c.asked.Store(true)
		c.setUp.Store(true)
		began := time.Now()
		for round := range 2 {
			go func() { _, _ = io.WriteString(client, "please") }()
			buf := make([]byte, 3)
			for range 2 { // a request that is read in two parts is one request
				_, err := io.ReadFull(c, buf)
				require.NoError(t, err)
			}
			wait := 20 * time.Millisecond
			if round == 0 {
				wait *= 2 // the connection's set-up
			}
			assert.Equal(t, wait, time.Since(began))
			began = time.Now()
			go func() { _, _ = io.CopyN(io.Discard, client, 10_000_000) }()
			_, err := c.Write(make([]byte, 10_000_000))
			require.NoError(t, err)
			assert.InDelta(t, 10, time.Since(began).Seconds(), 0.15)
			time.Sleep(time.Second)
			began = time.Now()
		}
		require.NoError(t, errors.Join(client.Close(), server.Close()))
	})
}
