package serve_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/puller/serve"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
)

// setUp makes a registry with the image team/app:v1, and a node with an empty store.
func setUp() (image, host string, p *puller.Puller, store *layout.Layout, recs *records.Dir, done func()) {
	reg, err1 := pullertest.Start(pullertest.Config{})
	_, err2 := reg.PutImage("team/app:v1", pullertest.ImageSpec{Layers: []int64{1000}})
	dir, err3 := os.MkdirTemp("", "serve")
	store, err4 := layout.Open(dir+"/images", layout.Config{})
	recs, err5 := records.Open(dir + "/records")
	rt, err6 := transfer.New(transfer.Config{Store: store})
	p, err7 := puller.New(puller.Config{Runtime: rt, Records: recs, Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}})
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7); err != nil {
		panic(err)
	}
	return reg.Host() + "/team/app:v1", reg.Host(), p, store, recs, func() {
		reg.Close()
		store.Close()
		recs.Close()
		os.RemoveAll(dir)
	}
}

// status asks a handler as a client does.
func status(h http.Handler, path string) int {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), http.MethodGet, path, http.NoBody))
	return w.Code
}

func ExampleNew() {
	image, host, p, store, recs, done := setUp()
	defer done()
	h, err := serve.New(serve.Config{Store: store, Records: recs})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(status(h, "/v2/team/app/manifests/v1?ns="+host))
	_, err = p.Pull(context.Background(), puller.Request{Image: image})
	fmt.Println(err, status(h, "/v2/team/app/manifests/v1?ns="+host))
	// Output:
	// 404
	// <nil> 200
}

// Allow accepts clients with a certificate. They get images that are not public.
func ExampleConfig() {
	_, _, _, store, recs, done := setUp()
	defer done()
	_, err := serve.New(serve.Config{
		Store: store, Records: recs, Parallel: 32,
		Allow: func(r *http.Request, image reference.Reference) error {
			if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || image.Registry() != "registry.example" {
				return errors.New("not a node of ours")
			}
			return nil
		},
	})
	fmt.Println(err)
	// Output: <nil>
}

// The Handler pulls images that clients ask for, like a cache in front of a registry.
func ExampleHandler() {
	_, host, p, store, recs, done := setUp()
	defer done()
	h, err := serve.New(serve.Config{Store: store, Records: recs, Puller: p, PullFrom: []string{host}, DefaultRegistry: host})
	if err != nil {
		fmt.Println(err)
		return
	}
	server := httptest.NewServer(h)
	defer server.Close()
	resp, err := http.Get(server.URL + "/v2/team/app/manifests/v1")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	fmt.Println(resp.Status, resp.Header.Get("Content-Type"), int64(len(data)) == resp.ContentLength, err)
	// Output: 200 OK application/vnd.oci.image.manifest.v1+json true <nil>
}
