package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
)

// A nodeConfig has the settings of a node.
type nodeConfig struct {
	dir       string   // of its images and records
	listen    string   // host:port for the other nodes; the port may be 0
	join      []string // addresses of members
	key       []byte   // encrypts the gossip; nil = plain
	registry  string   // whose images other nodes may make this node pull
	plainHTTP bool     // of that registry
	mirror    string   // the URL of a mirror or cache of that registry; "" = none
	alone     bool     // asks no other node
	wrong     bool     // serves wrong bytes, to show that the other nodes leave it
}

// A node pulls images, and serves their blobs to other nodes.
type node struct {
	nodeConfig
	name    string // its address for other nodes, which is also its name in the gossip
	members *memberlist.Memberlist
	store   *layout.Layout
	records *records.Dir
	source  *registry.Client
	puller  *puller.Puller
	server  *http.Server

	fromOrigin, fromPeers, toPeers atomic.Int64 // bytes of blobs

	mu      sync.Mutex
	pulling map[reference.Reference]int // pulls under way
	has     map[blobKey]blob            // blobs in the store, of these and earlier pulls
	changed chan struct{}               // closed when pulling or has changes
}

// A blob is a blob in the store.
type blob struct {
	ocispec.Descriptor
	public bool // any client may have it
}

// A blobKey names a blob in a repository.
type blobKey struct {
	repository string // with the registry
	digest     digest.Digest
}

func startNode(conf nodeConfig) (n *node, err error) {
	n = &node{nodeConfig: conf, pulling: map[reference.Reference]int{}, has: map[blobKey]blob{}, changed: make(chan struct{})}
	defer func() {
		if err != nil {
			_ = n.close()
		}
	}()
	if n.store, err = layout.Open(filepath.Join(conf.dir, "images"), layout.Config{}); err != nil {
		return n, err
	}
	if n.records, err = records.Open(filepath.Join(conf.dir, "records")); err != nil {
		return n, err
	}
	client := registry.Config{
		WrapTransport: n.counting,
		// A node that is asked for a blob answers that it is busy, while the blob is on its
		// way to it. MaxWait is how long the other nodes wait for the blob.
		MaxWait: 10 * time.Minute,
	}
	if conf.plainHTTP {
		client.PlainHTTP = []string{conf.registry}
	}
	if conf.mirror != "" {
		client.Registries = map[string]registry.Hosts{conf.registry: {Mirrors: []registry.Host{{URL: conf.mirror}}}}
	}
	if !conf.alone {
		client.Find = n.find
	}
	if n.source, err = registry.New(client); err != nil {
		return n, err
	}
	rt, err := transfer.New(transfer.Config{
		Store: n.store, Source: n.source,
		MaxConnsPerBlob: 1, // a blob comes from one node, and different blobs from different nodes
	})
	if err != nil {
		return n, err
	}
	if n.puller, err = puller.New(puller.Config{Runtime: rt, Records: n.records, Parallel: -1, Events: n.event}); err != nil {
		return n, err
	}
	return n, n.serve()
}

// serve starts the server for other nodes, and makes the node a member.
func (n *node) serve() error {
	listener, err := net.Listen("tcp", n.listen)
	if err != nil {
		return err
	}
	n.name = listener.Addr().String()
	handler, err := n.handler()
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	n.server = &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	go func() { _ = n.server.Serve(listener) }()

	host, _, err := net.SplitHostPort(n.name)
	if err != nil {
		return err
	}
	conf := memberlist.DefaultLANConfig()
	if ip := net.ParseIP(host); ip.IsLoopback() {
		conf = memberlist.DefaultLocalConfig()
	}
	conf.Name, conf.SecretKey = n.name, n.key
	conf.BindAddr, conf.AdvertiseAddr = host, host
	conf.BindPort, conf.AdvertisePort = 0, 0 // any free port
	conf.LogOutput = io.Discard
	if n.members, err = memberlist.Create(conf); err != nil {
		return err
	}
	if len(n.join) > 0 {
		_, err = n.members.Join(n.join)
	}
	return err
}

// gossip is the address at which other nodes join.
func (n *node) gossip() string { return n.members.LocalNode().Address() }

// close ends the node. The other members learn that it leaves.
func (n *node) close() error {
	var errs []error
	if n.members != nil {
		_ = n.members.Leave(time.Second) // an error means that the other members did not get the message in time
		errs = append(errs, n.members.Shutdown())
	}
	if n.server != nil {
		errs = append(errs, n.server.Close())
	}
	if n.source != nil {
		n.source.CloseIdleConnections()
	}
	if n.records != nil {
		errs = append(errs, n.records.Close())
	}
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	return errors.Join(errs...)
}

// names returns the names of all members.
func (n *node) names() []string {
	var names []string
	for _, m := range n.members.Members() {
		names = append(names, m.Name)
	}
	return names
}

// find is the function of registry.Config.Find. The path of each host says whether the request
// waits for the blob there. It also has the tag, so that the first node for the digest can pull
// the image.
func (n *node) find(_ context.Context, ref reference.Reference, d digest.Digest) iter.Seq[registry.Host] {
	return func(yield func(registry.Host) bool) {
		if n.members == nil {
			return
		}
		version := url.PathEscape(cmp.Or(string(ref.Digest()), ref.Tag()))
		before, after := nodesToAsk(n.names(), n.name, d)
		for _, name := range before {
			if !yield(registry.Host{URL: "http://" + name + waitPath + version + "/v2"}) {
				return
			}
		}
		for _, name := range after {
			if !yield(registry.Host{URL: "http://" + name + havePath + version + "/v2"}) {
				return
			}
		}
	}
}

// first reports whether this node is the first one for a digest.
func (n *node) first(d digest.Digest) bool {
	names := order(n.names(), d)
	return len(names) > 0 && names[0] == n.name
}

// pull pulls an image, without a credential.
func (n *node) pull(ctx context.Context, ref reference.Reference) (puller.Image, error) {
	defer n.begin(ref)()
	return n.puller.Pull(ctx, puller.Request{Image: ref.String(), Policy: pullpolicy.IfNotPresent})
}

// begin notes that a pull starts. The returned function notes that it has ended.
func (n *node) begin(ref reference.Reference) (end func()) {
	if ref.Digest() != "" {
		ref = ref.WithoutTag()
	}
	n.change(func() { n.pulling[ref]++ })
	return func() {
		n.change(func() {
			if n.pulling[ref]--; n.pulling[ref] == 0 {
				delete(n.pulling, ref)
			}
		})
	}
}

// event notes which blobs of a pull are in the store, so that they are served before the pull
// ends.
func (n *node) event(e puller.Event) {
	p := e.Progress
	if p == nil || p.State != puller.BlobStored && p.State != puller.BlobPresent {
		return
	}
	ref, err := reference.Parse(e.Image)
	if err != nil {
		return // a name that does not parse is not pulled
	}
	n.change(func() {
		key := blobKey{ref.Name(), p.Blob.Digest}
		n.has[key] = blob{p.Blob, p.Public || n.has[key].public}
	})
}

// change calls fn, which changes pulling or has, and wakes the requests that wait for that.
func (n *node) change(fn func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	fn()
	close(n.changed)
	n.changed = make(chan struct{})
}

// counting returns a RoundTripper that counts the bytes of blobs that come from the registry
// and from other nodes.
func (n *node) counting(base http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		resp, err := base.RoundTrip(req)
		if err != nil || !strings.Contains(req.URL.Path, "/blobs/") {
			return resp, err
		}
		count := &n.fromOrigin
		if strings.HasPrefix(req.URL.Path, peerPath) {
			count = &n.fromPeers
		}
		resp.Body = countedBody{resp.Body, count}
		return resp, nil
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

type countedBody struct {
	io.ReadCloser
	count *atomic.Int64
}

func (b countedBody) Read(p []byte) (int, error) {
	got, err := b.ReadCloser.Read(p)
	b.count.Add(int64(got))
	return got, err
}

// readKey reads the key of the gossip: 16, 24 or 32 bytes.
func readKey(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	key, err := io.ReadAll(io.LimitReader(f, 33))
	if err != nil {
		return nil, err
	}
	switch len(key) {
	case 16, 24, 32:
		return key, nil
	}
	return nil, fmt.Errorf("%s has %d bytes, and a key of the gossip has 16, 24 or 32", path, len(key))
}
