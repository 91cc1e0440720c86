package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"

	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/serve"
	"github.com/pullkit/pullkit/puller/transfer"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// demo starts a registry and a node that serves what it pulls. The registry stops, and a
// second node pulls from the first node.
func demo(ctx context.Context, stdout io.Writer) error {
	dir, err := os.MkdirTemp("", "serve")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	reg, err := pullertest.Start(pullertest.Config{})
	if err != nil {
		return err
	}
	defer reg.Close()
	if _, err := reg.PutImage("team/app:v1", pullertest.ImageSpec{Platforms: []ocispec.Platform{index.Host()}, Layers: []int64{1 << 20, 4096}}); err != nil {
		return err
	}
	image := reg.Host() + "/team/app:v1"

	one, err := newNode(filepath.Join(dir, "one"), registry.Config{})
	if err != nil {
		return err
	}
	defer one.close()
	img, err := one.puller.Pull(ctx, puller.Request{Image: image})
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "node 1 pulled %s from the registry: %d requests\n", image, reg.Counts().Total())
	h, err := serve.New(serve.Config{Store: one.store, Records: one.records})
	if err != nil {
		return err
	}
	var mu sync.Mutex // for stdout
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		fmt.Fprintf(stdout, "node 1 is asked: %s %s\n", r.Method, r.URL.Path)
		mu.Unlock()
		h.ServeHTTP(w, r)
	}))
	defer server.Close()
	if err := reg.Close(); err != nil {
		return err
	}

	hosts := registry.Hosts{Mirrors: []registry.Host{{URL: server.URL}}, Server: registry.Host{URL: reg.URL()}}
	two, err := newNode(filepath.Join(dir, "two"), registry.Config{Registries: map[string]registry.Hosts{reg.Host(): hosts}})
	if err != nil {
		return err
	}
	defer two.close()
	got, err := two.puller.Pull(ctx, puller.Request{Image: image})
	if err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	fmt.Fprintf(stdout, "node 2 has the same image: %t, although the registry has stopped\n", got.Digest == img.Digest && got.Manifest == img.Manifest)
	return nil
}

// A node pulls into a store of its own.
type node struct {
	store   *layout.Layout
	records *records.Dir
	puller  *puller.Puller
}

func newNode(dir string, client registry.Config) (n node, err error) {
	if n.store, err = layout.Open(dir, layout.Config{}); err != nil {
		return n, err
	}
	source, err1 := registry.New(client)
	rt, err2 := transfer.New(transfer.Config{Store: n.store, Source: source})
	if n.records, err = records.Open(dir + ".records"); errors.Join(err, err1, err2) != nil {
		return n, errors.Join(err, err1, err2)
	}
	n.puller, err = puller.New(puller.Config{Runtime: rt, Records: n.records})
	return n, err
}

func (n node) close() {
	n.store.Close()
	n.records.Close()
}
