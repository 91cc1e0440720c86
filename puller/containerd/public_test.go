package containerd_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/containerd"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// OnlyPublic does not take another page for the manifest. It does not accept a private manifest
// because its index is public.
func TestOnlyPublicIsNotMisled(t *testing.T) {
	secret := credentials.Static{{Username: "robot", Password: credentials.Conceal("hunter2")}}
	for name, test := range map[string]struct {
		serve func(w http.ResponseWriter, r *http.Request, top string, registry http.Handler)
		want  string
	}{
		"a login page for HEAD": {func(w http.ResponseWriter, r *http.Request, _ string, registry http.Handler) {
			if r.Method == http.MethodHead && r.Header.Get("Authorization") == "" {
				w.Header().Set("Content-Type", "text/html")
				w.Header().Set("Content-Length", "1234")
				return
			}
			registry.ServeHTTP(w, r)
		}, "only a credential opens this image"},
		"a login page for all": {func(w http.ResponseWriter, r *http.Request, _ string, registry http.Handler) {
			if strings.Contains(r.URL.Path, "/sha256:") && r.Header.Get("Authorization") == "" {
				w.Header().Set("Content-Type", "text/html")
				_, _ = w.Write([]byte("<html>Log in</html>"))
				return
			}
			registry.ServeHTTP(w, r)
		}, "cannot find out whether the image is public"},
		"a public index": {func(w http.ResponseWriter, r *http.Request, top string, registry http.Handler) {
			if strings.HasSuffix(r.URL.Path, top) {
				r.SetBasicAuth("robot", "hunter2")
			}
			registry.ServeHTTP(w, r)
		}, "only a credential opens this image"},
	} {
		t.Run(name, func(t *testing.T) {
			reg := startRegistry(t, pullertest.Config{Auth: pullertest.AuthBasic, Users: []pullertest.User{{Name: "robot", Password: "hunter2"}}})
			put, err := reg.PutImage("team/app:v1", pullertest.ImageSpec{Platforms: platforms, Layers: []int64{100}})
			require.NoError(t, err)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { test.serve(w, r, string(put.Descriptor.Digest), reg) }))
			defer server.Close()
			store := &pullertest.MemStore{}
			rt, err := transfer.New(transfer.Config{Store: store})
			require.NoError(t, err)
			p, err := puller.New(puller.Config{Runtime: rt, Keyring: secret, Platform: containerd.Platform(), Admission: containerd.OnlyPublic(nil)})
			require.NoError(t, err)
			_, err = p.Pull(t.Context(), puller.Request{Image: strings.TrimPrefix(server.URL, "http://") + "/team/app:v1"})
			assert.ErrorContains(t, err, test.want)
			assert.Zero(t, reg.Counts().BlobGet)
		})
	}
}
