// Command ideal fetches one image as plainly as a Go program can, to show what a machine can
// do. For each blob it does a GET, SHA-256 and a write. It fetches as many blobs at a time as
// there are processors, or as -connections says. If an image has fewer layers than
// -connections, each layer is fetched in parts, and a connection that has fetched a part takes
// the next one. The program checks digests and nothing else, syncs nothing, and does not try
// again. With -unpack it does not write blobs: it fetches, decompresses and untars two layers
// at a time, each by one goroutine into a directory of its own, and compares both digests of
// each layer.
//
//	ideal [-plain-http] [-pipe] [-connections N] [-unpack] HOST/REPOSITORY:TAG DIR
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

func main() {
	pipe := flag.Bool("pipe", false, "hash in a second goroutine")
	plain := flag.Bool("plain-http", false, "use plain http")
	unpacks := flag.Bool("unpack", false, "unpack the layers instead of storing them")
	connections := flag.Int("connections", 0, "`number` of connections for blobs, which also fetch parts of layers (default: one for each processor, without parts)")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: ideal [-plain-http] [-pipe] [-connections N] [-unpack] HOST/REPOSITORY:TAG DIR")
		os.Exit(2)
	}
	f := fetcher{copy: copyInline, scheme: "https://", connections: runtime.GOMAXPROCS(0), parts: *connections > 0, unpacks: *unpacks}
	if *connections > 0 {
		f.connections = *connections
	}
	if *plain {
		f.scheme = "http://"
	}
	if *pipe {
		f.copy = copyPipe
	}
	if err := f.image(context.Background(), flag.Arg(0), flag.Arg(1)); err != nil {
		fmt.Fprintln(os.Stderr, "ideal:", err)
		os.Exit(1)
	}
}

// maxManifest is how many bytes of a manifest are read at most.
const maxManifest = 4 << 20

type fetcher struct {
	client http.Client
	copy   func(w, hash io.Writer, r io.Reader) error
	scheme string
	base   string
	blobs  string

	unpacks     bool
	connections int
	parts       bool // fetch layers in parts if there are fewer layers than connections
}

func (f *fetcher) image(ctx context.Context, image, dir string) error {
	host, rest, _ := strings.Cut(image, "/")
	repository, tag, _ := strings.Cut(rest, ":")
	var protocols http.Protocols
	protocols.SetHTTP1(true) // each request has a connection of its own
	f.client.Transport = &http.Transport{MaxIdleConnsPerHost: f.connections, DisableCompression: true, Protocols: &protocols}
	f.base = f.scheme + host + "/v2/" + repository
	f.blobs = filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(f.blobs, 0o755); err != nil {
		return err
	}
	body, err := f.get(ctx, "/manifests/"+tag, "")
	if err != nil {
		return err
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, maxManifest))
	if err != nil {
		return err
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(data, &manifest); err != nil {
		return err
	}
	if f.unpacks {
		return f.unpack(ctx, manifest, dir)
	}
	if err := os.WriteFile(f.path(digest.FromBytes(data)), data, 0o644); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(f.connections)
	share := 1 // of the connections, for each layer
	if f.parts {
		share = max(1, f.connections/max(1, len(manifest.Layers)))
	}
	for _, desc := range append(manifest.Layers, manifest.Config) {
		group.Go(func() error {
			if share > 1 && desc.Size > partSize {
				return f.inParts(ctx, desc, share)
			}
			return f.blob(ctx, desc)
		})
	}
	return group.Wait()
}

func (f *fetcher) path(d digest.Digest) string { return filepath.Join(f.blobs, d.Encoded()) }

// get requests a path, or only byteRange of it unless that is "".
func (f *fetcher) get(ctx context.Context, path, byteRange string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.base+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", ocispec.MediaTypeImageManifest)
	want := http.StatusOK
	if byteRange != "" {
		req.Header.Set("Range", byteRange)
		want = http.StatusPartialContent
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != want {
		return nil, errors.Join(fmt.Errorf("%s: %s", path, resp.Status), resp.Body.Close())
	}
	return resp.Body, nil
}

func (f *fetcher) blob(ctx context.Context, desc ocispec.Descriptor) error {
	body, err := f.get(ctx, "/blobs/"+desc.Digest.String(), "")
	if err != nil {
		return err
	}
	defer body.Close()
	file, err := os.Create(f.path(desc.Digest))
	if err != nil {
		return err
	}
	defer file.Close()
	hash := digest.SHA256.Hash()
	if err := f.copy(file, hash, body); err != nil {
		return err
	}
	if got := digest.NewDigest(digest.SHA256, hash); got != desc.Digest {
		return fmt.Errorf("blob %s: got %s", desc.Digest, got)
	}
	return file.Close()
}
