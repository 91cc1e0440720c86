package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
)

// pull pulls each image of o, or explains the pull if -explain is set. It returns the exit
// status.
func pull(ctx context.Context, o options, stdout, stderr io.Writer) int {
	fail := func(err error) int {
		fmt.Fprintln(stderr, "pull:", oneLine(err))
		return 1
	}
	node, err := nodeKeyring(o.config, stderr)
	if err != nil {
		return fail(err)
	}
	secrets, err := readSecrets(o.secrets, stderr)
	if err != nil {
		return fail(err)
	}
	store, err := layout.Open(o.dir, layout.Config{})
	if err != nil {
		return fail(err)
	}
	defer store.Close()
	out := newReport(stdout, stderr, o.json)
	source, err := registry.New(registry.Config{PlainHTTP: plainHosts(o), UserAgent: "pullkit-example-pull"})
	if err != nil {
		return fail(err)
	}
	rt, err := transfer.New(transfer.Config{Store: store, Source: source})
	if err != nil {
		return fail(err)
	}
	p, err := puller.New(puller.Config{
		Runtime:  rt,
		Keyring:  node,
		Platform: o.platform,
		Parser:   o.parser,
		Parallel: o.parallel,
		Events:   out.event,
	})
	if err != nil {
		return fail(err)
	}
	if o.explain {
		return explain(ctx, p, o, secrets, out)
	}
	defer out.showTotal(newTerminal(stdout), len(o.images))()
	failed := false
	pullAll := p.PullAll
	if o.wait {
		pullAll = p.PullAllWait
	}
	for req, res := range pullAll(ctx, slices.Values(requests(o, secrets))) {
		if res.Err != nil {
			failed = true
			out.failed(req.Image, res.Err)
			continue
		}
		out.pulled(res.Image)
	}
	if failed {
		return 1
	}
	return 0
}

// requests returns a request for each image.
func requests(o options, secrets credentials.Keyring) (list []puller.Request) {
	for _, image := range o.images {
		list = append(list, puller.Request{Image: image, Policy: o.policy, Keyring: secrets})
	}
	return list
}

func explain(ctx context.Context, p *puller.Puller, o options, secrets credentials.Keyring, out *report) int {
	code := 0
	for _, req := range requests(o, secrets) {
		decision, err := p.Explain(ctx, req)
		if err != nil {
			out.failed(req.Image, err)
			code = 1
			continue
		}
		out.decision(decision)
	}
	return code
}

// nodeKeyring returns the keyring of the node: the credentials in the config.json called
// name, and those of the credential helpers that the file names. If name is "", it reads the
// first of the usual files that exists. If none exists, the keyring is empty.
func nodeKeyring(name string, stderr io.Writer) (credentials.Keyring, error) {
	config, err := readConfig(name)
	if err != nil {
		return nil, fmt.Errorf("node credentials: %w", err)
	}
	ring := config.WithHelpers(credentials.Exec{})
	for _, problem := range credentials.Problems(ring) {
		fmt.Fprintln(stderr, "pull: warning:", oneLine(problem))
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
func readSecrets(names []string, stderr io.Writer) (credentials.Keyring, error) {
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
			fmt.Fprintf(stderr, "pull: warning: %s: %s\n", name, oneLine(err))
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
		if ref, err := o.parser.Parse(image); o.plainHTTP && err == nil {
			hosts = append(hosts, ref.Registry())
		}
	}
	return hosts
}
