package registry_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/reference"
)

// A peerScene is a case of another project's tests. It has the servers of the case, and a
// check of the result.
type peerScene struct {
	servers map[string]http.HandlerFunc
	image   string
	cred    credentials.Credential
	have    digest.Digest
	hosts   map[string]registry.Hosts
	check   func(t *testing.T, err error, asked []string)
}

// peerScenes returns the scenes of testdata/vectors/field/peers-scenes.json, by ID.
func peerScenes() map[string]peerScene {
	const reg = "https://reg.example"
	manifest := `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":{"mediaType":"x/y","digest":"` +
		string(digest.FromString("c")) + `","size":1},"layers":[]}`
	answer := func(status int, header, value, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(header, value)
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	return map[string]peerScene{
		"bearer-relative-realm": {
			servers: map[string]http.HandlerFunc{reg: answer(401, "WWW-Authenticate", `Bearer realm="/token",service="r"`, "")},
			cred:    robot,
			check: func(t *testing.T, err error, asked []string) {
				assert.ErrorIs(t, err, content.ErrForbiddenURL)
				assert.ErrorContains(t, err, "/token", "the error names the realm")
				assert.Len(t, asked, 1, "the realm is not asked")
			},
		},
		"head-404-then-get": {
			servers: map[string]http.HandlerFunc{reg: answer(404, "X", "y", "")},
			have:    digest.FromString("known"),
			check: func(t *testing.T, err error, asked []string) {
				assert.ErrorIs(t, err, fs.ErrNotExist)
				require.Len(t, asked, 2)
				assert.True(t, strings.HasPrefix(asked[0], "HEAD ") && strings.HasPrefix(asked[1], "GET "), "%q", asked)
			},
		},
		"cross-class-content-type": {
			servers: map[string]http.HandlerFunc{reg: answer(200, "Content-Type", ocispec.MediaTypeImageIndex, manifest)},
			check: func(t *testing.T, err error, _ []string) {
				var invalid *index.InvalidError
				require.ErrorAs(t, err, &invalid)
				assert.Equal(t, index.ErrBadManifest, invalid.Reason)
			},
		},
		"query-that-is-one-word": {
			servers: map[string]http.HandlerFunc{
				reg:                       answer(307, "Location", "https://storage.example/a?OPAQUETOKEN", ""),
				"https://storage.example": answer(403, "X", "y", ""),
			},
			check: func(t *testing.T, err error, asked []string) {
				assert.Len(t, asked, 2)
				assert.ErrorContains(t, err, "https://storage.example/a?[redacted]")
				assert.NotContains(t, err.Error(), "OPAQUETOKEN")
			},
		},
		"ns-is-no-secret": {
			servers: map[string]http.HandlerFunc{
				"https://m.example":            answer(404, "X", "y", ""),
				"https://registry-1.docker.io": answer(404, "X", "y", ""),
			},
			image: "docker.io/library/busybox:1",
			hosts: map[string]registry.Hosts{"docker.io": {Mirrors: []registry.Host{{URL: "https://m.example"}}}},
			check: func(t *testing.T, err error, _ []string) {
				assert.ErrorContains(t, err, "ns=docker.io")
			},
		},
		"redirected-registry-anonymous-token": {
			servers: map[string]http.HandlerFunc{
				reg:                     answer(307, "Location", "https://other.example/v2/app/manifests/v1", ""),
				"https://other.example": answer(401, "WWW-Authenticate", `Bearer realm="https://other.example/token"`, ""),
			},
			check: func(t *testing.T, err error, asked []string) {
				assert.ErrorIs(t, err, content.ErrUnauthorized)
				assert.ErrorContains(t, err, "no token was requested, because a redirect led away from")
				assert.Len(t, asked, 2)
			},
		},
	}
}

func TestScenesOfOtherProjects(t *testing.T) {
	data, err := os.ReadFile("testdata/vectors/field/peers-scenes.json")
	require.NoError(t, err)
	var file struct{ Cases []struct{ ID string } }
	require.NoError(t, json.Unmarshal(data, &file))
	scenes := peerScenes()
	require.Len(t, file.Cases, len(scenes))
	for _, c := range file.Cases {
		t.Run(c.ID, func(t *testing.T) {
			scene, ok := scenes[c.ID]
			require.True(t, ok, "no scene for this case")
			if scene.image == "" {
				scene.image = "reg.example/app:v1"
			}
			w := newWorld(scene.servers)
			client := newClient(t, registry.Config{WrapTransport: instead(w), Retries: -1, Registries: scene.hosts})
			doc, err := client.Manifest(t.Context(), content.Repo{Ref: reference.MustParse(scene.image), Cred: scene.cred}, scene.have)
			if err == nil { // package index judges the document and its Content-Type
				_, err = index.Parse(doc.Desc.MediaType, doc.Body)
			}
			require.Error(t, err)
			scene.check(t, err, w.asked())
		})
	}
}
