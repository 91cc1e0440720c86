package transfer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/registry/certsd"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
)

// A hostsServer is several hosts behind one listener, distinguished by their names. They
// have one image. The server counts the requests for blobs of each host.
type hostsServer struct {
	t     *testing.T
	hosts map[string]func(w http.ResponseWriter, r *http.Request, blob []byte)
	blobs map[string][]byte
	doc   []byte

	mu   sync.Mutex
	gets map[string]int
}

func newTown(t *testing.T, layers ...[]byte) *hostsServer {
	s := &hostsServer{t: t, blobs: map[string][]byte{}, gets: map[string]int{}, hosts: map[string]func(http.ResponseWriter, *http.Request, []byte){}}
	put := func(mediaType string, data []byte) ocispec.Descriptor {
		d := digestOf(data)
		s.blobs[d.String()] = data
		return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: put(ocispec.MediaTypeImageConfig, []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`))}
	for _, l := range layers {
		m.Layers = append(m.Layers, put(ocispec.MediaTypeImageLayer, l))
	}
	var err error
	s.doc, err = json.Marshal(m)
	require.NoError(t, err)
	return s
}

// honest answers with the blob, or the part of it that is asked for.
func honest(w http.ResponseWriter, r *http.Request, blob []byte) {
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blob))
}

func (s *hostsServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	if strings.Contains(r.URL.Path, "/manifests/") && r.Host == "r.example" {
		w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
		_, _ = w.Write(s.doc)
		return
	}
	if strings.Contains(r.URL.Path, "/blobs/") {
		s.mu.Lock()
		s.gets[r.Host]++
		s.mu.Unlock()
	}
	s.hosts[r.Host](w, r, s.blobs[name])
}

// client starts the server and returns a client of it. The client asks r.example over http,
// after the mirrors of hosts.
func (s *hostsServer) client(hosts string) *registry.Client {
	server := httptest.NewServer(s)
	s.t.Cleanup(server.Close)
	settings := registry.Config{PlainHTTP: []string{"r.example"}, StallTimeout: 2 * time.Second, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
	}}
	if hosts != "" {
		certs := s.t.TempDir()
		settings.HostsReader = certsd.Dir(certs)
		dir := filepath.Join(certs, "r.example")
		require.NoError(s.t, os.Mkdir(dir, 0o700))
		require.NoError(s.t, os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(hosts), 0o600))
	}
	c, err := registry.New(settings)
	require.NoError(s.t, err)
	s.t.Cleanup(c.CloseIdleConnections)
	return c
}

// pull pulls the image into a new store.
func (s *hostsServer) pull(c *registry.Client) error {
	store := newMemStore()
	_, err := newRuntime(s.t, transfer.Config{Source: c, Store: store}).Pull(s.t.Context(), spec(reference.MustParse("r.example/team/app:v1")))
	store.clean(s.t)
	if err == nil {
		for d, blob := range s.blobs {
			assert.Equal(s.t, len(blob), int(store.blobs[digest.Digest(d)]))
		}
	}
	return err
}

const oneMirror = "server = \"http://r.example\"\n[host.\"http://m.example\"]\n  capabilities = [\"pull\"]\n"

// The cases are from public reports.
func TestReportedCasesOfMirrorsWithOtherBytes(t *testing.T) {
	data, err := os.ReadFile("testdata/vectors/field/mirror-longer.json")
	require.NoError(t, err)
	var doc struct {
		Cases []struct {
			ID                 string
			Layers, Size, Page int
			Chunked, Mirror    bool
			Expect             struct {
				Outcome, Contains string
				Pulls             int
			}
		}
	}
	require.NoError(t, json.Unmarshal(data, &doc))
	require.Len(t, doc.Cases, 4)
	for _, tt := range doc.Cases {
		t.Run(tt.ID, func(t *testing.T) {
			var layers [][]byte
			for i := range tt.Layers {
				layers = append(layers, random(uint64(i), tt.Size))
			}
			s := newTown(t, layers...)
			page := strings.Repeat("<", tt.Page)
			liar := func(w http.ResponseWriter, _ *http.Request, _ []byte) {
				w.Header().Set("Content-Type", "text/html")
				if tt.Chunked {
					w.(http.Flusher).Flush()
				}
				fmt.Fprint(w, page)
			}
			s.hosts["r.example"], s.hosts["m.example"] = honest, liar
			hosts := oneMirror
			if !tt.Mirror {
				hosts, s.hosts["r.example"] = "", liar
			}
			c := s.client(hosts)
			pulls, err := 0, error(nil)
			for range max(tt.Expect.Pulls, 1) {
				pulls++
				if err = s.pull(c); err == nil {
					break
				}
			}
			if tt.Expect.Outcome == "ok" {
				require.NoError(t, err)
				assert.Equal(t, tt.Expect.Pulls, pulls)
				return
			}
			assert.ErrorContains(t, err, tt.Expect.Contains)
		})
	}
}

// A mirror gives other bytes than the blob, whole or in parts. Then the same pull asks the
// registry, and the next pull does not ask the mirror for that blob.
func TestTheRegistryIsAskedAfterAMirrorWithOtherBytes(t *testing.T) {
	page := []byte("<html>" + strings.Repeat("sign in ", 400) + "</html>")
	body := func(status int, data func(blob []byte) []byte) func(http.ResponseWriter, *http.Request, []byte) {
		return func(w http.ResponseWriter, _ *http.Request, blob []byte) {
			out := data(blob)
			w.Header().Set("Content-Length", strconv.Itoa(len(out)))
			w.WriteHeader(status)
			_, _ = w.Write(out)
		}
	}
	chunked := func(data func(blob []byte) []byte) func(http.ResponseWriter, *http.Request, []byte) {
		return func(w http.ResponseWriter, _ *http.Request, blob []byte) {
			w.(http.Flusher).Flush()
			_, _ = w.Write(data(blob))
		}
	}
	wrong := func(blob []byte) []byte {
		return append(bytes.Repeat([]byte{'x'}, min(10, len(blob))), blob[min(10, len(blob)):]...)
	}
	more := func(n int) func([]byte) []byte {
		return func(blob []byte) []byte { return append(bytes.Clone(blob), bytes.Repeat([]byte{'\n'}, n)...) }
	}
	fewer := func(blob []byte) []byte { return blob[:len(blob)/2] }
	whole := func([]byte) []byte { return page }
	lies := map[string]func(http.ResponseWriter, *http.Request, []byte){
		"a page":                               body(200, whole),
		"a page, chunked":                      chunked(whole),
		"one byte more":                        body(200, more(1)),
		"one byte more, chunked":               chunked(more(1)),
		"twice the blob":                       chunked(more(1 << 20)),
		"half of it":                           body(200, fewer),
		"half of it, chunked":                  chunked(fewer),
		"nothing":                              body(200, func([]byte) []byte { return nil }),
		"nothing, chunked":                     chunked(func([]byte) []byte { return nil }),
		"wrong bytes":                          body(200, wrong),
		"wrong bytes in parts":                 func(w http.ResponseWriter, r *http.Request, blob []byte) { honest(w, r, wrong(blob)) },
		"parts of something long":              func(w http.ResponseWriter, r *http.Request, blob []byte) { honest(w, r, more(1000)(blob)) },
		"a 206 without a range in the request": body(206, whole),
		"no content":                           func(w http.ResponseWriter, _ *http.Request, _ []byte) { w.WriteHeader(204) },
		"the right range, a page": func(w http.ResponseWriter, r *http.Request, blob []byte) {
			var a, b int
			if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &a, &b); n < 2 {
				honest(w, r, blob)
				return
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", a, b, len(blob)))
			w.WriteHeader(206)
			_, _ = w.Write(bytes.Repeat([]byte{'<'}, b-a+1))
		},
		"another range": func(w http.ResponseWriter, r *http.Request, blob []byte) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 1-%d/%d", len(blob)-1, len(blob)))
			w.WriteHeader(206)
			_, _ = w.Write(blob[1:])
		},
	}
	for name, lie := range lies {
		for _, size := range []int{1000, 6 << 20} {
			t.Run(fmt.Sprintf("%s, %d", name, size), func(t *testing.T) {
				s := newTown(t, random(1, size))
				s.hosts["m.example"], s.hosts["r.example"] = lie, honest
				c := s.client(oneMirror)
				require.NoError(t, s.pull(c))
				before := s.gets["m.example"]
				assert.Positive(t, before)
				require.NoError(t, s.pull(c))
				switch name {
				case "a 206 without a range in the request", "no content", "another range": // these are refusals and not other bytes, so the mirror is asked again
				case "the right range, a page": // it gives other bytes only if a range is asked for
				default:
					assert.Equal(t, before, s.gets["m.example"], "the mirror is remembered")
				}
			})
		}
	}
}

// All mirrors give other bytes. The pull leaves each of them, even if there are many, and
// ends with the registry's own answer.
func TestEveryMirrorWithOtherBytesIsLeft(t *testing.T) {
	s := newTown(t, random(1, 1000))
	longer := func(w http.ResponseWriter, _ *http.Request, blob []byte) {
		w.(http.Flusher).Flush()
		_, _ = w.Write(append(bytes.Clone(blob), '\n'))
	}
	hosts := "server = \"http://r.example\"\n"
	for i := range 20 {
		name := fmt.Sprintf("m%d.example", i)
		hosts += "[host.\"http://" + name + "\"]\n  capabilities = [\"pull\"]\n"
		s.hosts[name] = longer
	}
	s.hosts["r.example"] = honest
	require.NoError(t, s.pull(s.client(hosts)), "twenty mirrors, and then the registry")

	s.hosts["r.example"] = longer
	err := s.pull(s.client(hosts))
	assert.ErrorIs(t, err, content.ErrSizeMismatch)
	assert.ErrorContains(t, err, "size mismatch")
}
