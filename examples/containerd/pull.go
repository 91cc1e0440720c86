package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/containerd"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// pull pulls each image of o, or explains the pull if -explain is set. ok reports whether all
// images are complete in containerd.
func pull(ctx context.Context, o options, stdout, stderr io.Writer) (ok bool, err error) {
	out := &report{stdout: stdout, stderr: stderr, json: o.json}
	node, err := nodeKeyring(o.config, out)
	if err != nil {
		return false, err
	}
	secrets, err := readSecrets(o.secrets, out)
	if err != nil {
		return false, err
	}
	// The dialer has the path of the socket. In a target of gRPC, which is a URL, some
	// characters of a path would mean something else.
	conn, err := grpc.NewClient("passthrough:///localhost", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", o.address)
		}))
	if err != nil {
		return false, err
	}
	defer conn.Close()
	store, err := containerd.New(conn, containerd.Config{
		Namespace: o.namespace,
		Pin:       func(reference.Reference) bool { return o.pin },
	})
	if err != nil {
		return false, err
	}
	source, err := registry.New(registry.Config{PlainHTTP: plainHosts(o), UserAgent: "pullkit-example-containerd"})
	if err != nil {
		return false, err
	}
	rt, err := transfer.New(transfer.Config{Store: store, Source: source})
	if err != nil {
		return false, err
	}
	settings := puller.Config{Runtime: rt, Keyring: node, Platform: o.platform, Parallel: o.parallel, Events: out.event}
	ofKubelet := o.namespace == containerd.KubernetesNamespace
	if ofKubelet && !o.private {
		settings.Admission = containerd.OnlyPublic(nil)
		settings.TrustPresent = true // the program does not put a present image there
	}
	p, err := puller.New(settings)
	if err != nil {
		return false, err
	}
	if o.explain {
		return explain(ctx, p, requests(o, secrets), out), nil
	}
	if ofKubelet {
		out.warn("note: the kubelet treats images that this program puts into containerd as preloaded, so every Pod of this node may use them without a secret")
	}
	pullAll := p.PullAll
	if o.wait {
		pullAll = p.PullAllWait
	}
	ok = true
	for req, res := range pullAll(ctx, slices.Values(requests(o, secrets))) {
		err := res.Err
		if err == nil && o.pin {
			err = pin(ctx, store, res.Image.Ref)
		}
		if err != nil {
			ok = false
			out.failed(req.Image, err)
			continue
		}
		out.pulled(res.Image)
	}
	return ok, nil
}

// pin pins an image that was in containerd before the pull. A pull does not tag such an image,
// so it does not pin it.
func pin(ctx context.Context, store *containerd.Store, ref reference.Reference) error {
	name := ref
	if name.Digest() != "" {
		name = name.WithoutTag()
	}
	pinned, err := store.Pinned(ctx, content.Entry{Name: name.String()})
	if err != nil || pinned {
		return err
	}
	desc, err := store.Lookup(ctx, ref)
	if err != nil {
		return err
	}
	return store.Tag(ctx, ref, desc)
}

func requests(o options, secrets credentials.Keyring) []puller.Request {
	var all []puller.Request
	for _, image := range o.images {
		all = append(all, puller.Request{Image: image, Policy: o.policy, Keyring: secrets})
	}
	return all
}

func explain(ctx context.Context, p *puller.Puller, all []puller.Request, out *report) (ok bool) {
	ok = true
	for _, req := range all {
		decision, err := p.Explain(ctx, req)
		if err != nil {
			ok = false
			out.failed(req.Image, err)
			continue
		}
		out.decision(decision)
	}
	return ok
}

// nodeKeyring returns the keyring of the node: the credentials in the config.json called
// name, and those of the credential helpers that the file names. If name is "", it reads the
// first of the usual files that exists. If none exists, the keyring is empty.
func nodeKeyring(name string, out *report) (credentials.Keyring, error) {
	config, err := readConfig(name)
	if err != nil {
		return nil, fmt.Errorf("node credentials: %w", err)
	}
	ring := config.WithHelpers(credentials.Exec{})
	for _, problem := range credentials.Problems(ring) {
		out.warn("warning: " + oneLine(problem))
	}
	return ring, nil
}

func readConfig(name string) (*credentials.File, error) {
	if name != "" {
		return credentials.ReadFile(name, credentials.Rules{})
	}
	return credentials.FindFile(slices.Concat(credentials.DockerPaths(), credentials.ContainersPaths()), credentials.Rules{})
}

// errNoSecret is the reason for a manifest that was probably named by mistake.
var errNoSecret = errors.New("it has no Secret")

// readSecrets reads the named manifests. It prints a warning for a Secret that cannot be
// read. A manifest in which no Secret can be read is an error.
func readSecrets(names []string, out *report) (credentials.Keyring, error) {
	var all []credentials.Secret
	for _, name := range names {
		data, err := readManifest(name)
		if err != nil {
			return nil, fmt.Errorf("pull secrets: %w", err)
		}
		secrets, err := credentials.ParseSecrets(data)
		if len(secrets) == 0 {
			return nil, fmt.Errorf("pull secrets: %s: %w", name, cmp.Or(err, errNoSecret))
		}
		if err != nil {
			out.warn(fmt.Sprintf("warning: %s: %s", name, oneLine(err)))
		}
		all = append(all, secrets...)
	}
	return credentials.FromSecrets(all, credentials.Rules{}), nil
}

// maxManifest is the longest manifest that ParseSecrets accepts, in bytes. readManifest reads
// one more byte, so that ParseSecrets refuses a longer file.
const maxManifest = 8 << 20

func readManifest(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxManifest+1))
}

// plainHosts returns the registries of the named images if -plain-http is set.
func plainHosts(o options) []string {
	var hosts []string
	for _, image := range o.images {
		if ref, err := reference.Parse(image); o.plainHTTP && err == nil {
			hosts = append(hosts, ref.Registry())
		}
	}
	return hosts
}
