package puller_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A front is a registry with one image, team/app:v1. Its fields say which password opens
// the image and how HEAD is answered.
type front struct {
	mu   sync.Mutex
	seen []string

	body     []byte
	head     int  // status of HEAD; 0 = that of GET
	noDigest bool // the answer has no Docker-Content-Digest
	password string
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.seen = append(f.seen, r.Method)
	f.mu.Unlock()
	name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	_, password, _ := r.BasicAuth()
	switch {
	case f.password != "" && password != f.password:
		w.Header().Set("WWW-Authenticate", `Basic realm="front"`)
		w.WriteHeader(http.StatusUnauthorized)
	case r.Method == http.MethodHead && f.head != 0:
		w.WriteHeader(f.head)
	case name != "v1" && name != string(digest.FromBytes(f.body)):
		w.WriteHeader(http.StatusNotFound)
	default:
		w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
		w.Header().Set("Content-Length", fmt.Sprint(len(f.body)))
		if !f.noDigest {
			w.Header().Set("Docker-Content-Digest", string(digest.FromBytes(f.body)))
		}
		if r.Method == http.MethodGet {
			_, _ = w.Write(f.body)
		}
	}
}

func (f *front) took() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := f.seen
	f.seen = nil
	return seen
}

// finder returns a Puller without a Store, and the host of f.
func finder(t *testing.T, f *front) (*puller.Puller, string) {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "layers": []any{},
		"config": map[string]any{"mediaType": ocispec.MediaTypeImageConfig, "digest": digest.FromString("{}"), "size": 2},
	})
	require.NoError(t, err)
	f.body = body
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	client, err := registry.New(registry.Config{PlainHTTP: []string{host}, Retries: -1})
	require.NoError(t, err)
	t.Cleanup(client.CloseIdleConnections)
	rt, err := transfer.New(transfer.Config{Source: client})
	require.NoError(t, err)
	p, err := puller.New(puller.Config{Runtime: rt})
	require.NoError(t, err)
	return p, host
}

// Resolve and Find send one HEAD. A GET follows only if the answer to the HEAD has no
// digest, or if the HEAD is refused.
func TestResolveAndFindSendOneHEAD(t *testing.T) {
	for _, tt := range []struct {
		name  string
		front *front
		want  []string
	}{
		{"good", &front{}, []string{"HEAD"}},
		{"no digest in the answer", &front{noDigest: true}, []string{"HEAD", "GET"}},
		{"HEAD is not known", &front{head: 405}, []string{"HEAD", "GET"}},
		{"HEAD is denied", &front{head: 403}, []string{"HEAD", "GET"}},
		{"HEAD finds nothing", &front{head: 404}, []string{"HEAD", "GET"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := tt.front
			p, host := finder(t, f)
			pinned, err := p.Resolve(t.Context(), puller.Request{Image: host + "/team/app:v1"})
			require.NoError(t, err)
			assert.Equal(t, host+"/team/app:v1@"+string(digest.FromBytes(f.body)), pinned.String())
			assert.Equal(t, tt.want, f.took())

			found, err := p.Find(t.Context(), puller.Request{Image: host + "/team/app:v1"})
			require.NoError(t, err)
			assert.Equal(t, pinned, found.Ref)
			assert.Zero(t, found.Origin)
			assert.Equal(t, tt.want, f.took())

			again, err := p.Resolve(t.Context(), puller.Request{Image: pinned.String()})
			require.NoError(t, err)
			assert.Equal(t, pinned, again)
			assert.Empty(t, f.took(), "a name that has a digest is not asked about")
			_, err = p.Find(t.Context(), puller.Request{Image: pinned.String()})
			require.NoError(t, err)
			assert.Equal(t, "HEAD", f.took()[0], "but Find asks whether it exists")
		})
	}
	f := &front{head: http.StatusTooManyRequests}
	p, host := finder(t, f)
	_, err := p.Find(t.Context(), puller.Request{Image: host + "/team/app:v1"})
	assert.Equal(t, credentials.VerdictUnavailable, credentials.VerdictOf(err))
	assert.NotContains(t, f.took(), "GET", "a registry that asks to wait is not asked by GET")
}

// Find names the credential that opens the image. If no credential opens it, the error
// says whether the image is missing or the credentials were refused.
func TestFindNamesTheCredentialThatOpensTheImage(t *testing.T) {
	f := &front{password: "right"}
	p, host := finder(t, f)
	ring := func(passwords ...string) credentials.Static {
		var s credentials.Static
		for _, password := range passwords {
			s = append(s, credentials.Credential{Username: "robot", Password: credentials.Conceal(password),
				Origin: credentials.Origin{Kind: credentials.KindFile, Name: password}})
		}
		return s
	}
	find := func(image string, passwords ...string) (puller.Found, error) {
		return p.Find(t.Context(), puller.Request{Image: host + image, Keyring: ring(passwords...)})
	}
	found, err := find("/team/app:v1", "stale", "right", "other")
	require.NoError(t, err)
	assert.Equal(t, "right", found.Origin.Name)
	require.Len(t, found.Answers, 2)
	assert.Equal(t, 401, found.Answers[0].Status)
	assert.Empty(t, found.Answers[1].Error)
	_, err = reference.Parse(found.Ref.String())
	assert.NoError(t, err)

	_, err = find("/team/app:nope", "stale", "right")
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.NotErrorIs(t, err, fs.ErrPermission)
	_, err = find("/team/app:v1", "stale", "older")
	assert.ErrorIs(t, err, fs.ErrPermission)
	assert.NotErrorIs(t, err, fs.ErrNotExist)
	_, err = p.Find(t.Context(), puller.Request{Image: "127.0.0.1:1/team/app:v1"})
	assert.Equal(t, credentials.VerdictUnavailable, credentials.VerdictOf(err))
	_, err = find("/team/app@"+string(digest.FromString("another")), "right")
	assert.ErrorIs(t, err, fs.ErrNotExist, "also for a name with a digest")
	_, err = find("/TEAM")
	assert.ErrorIs(t, err, puller.ErrInvalidImageName)
	none, err := puller.New(puller.Config{Runtime: brokenRuntime{}})
	require.NoError(t, err)
	_, err = none.Find(t.Context(), puller.Request{Image: "busybox"})
	assert.ErrorIs(t, err, errors.ErrUnsupported)
}
