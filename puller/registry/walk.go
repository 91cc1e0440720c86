package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// A walk asks the hosts of a registry, the registry last, within one patience.
type walk struct {
	client   *Client
	ref      reference.Reference
	cred     credentials.Credential
	hosts    []*endpoint
	failed   []error // what each host answered last
	patience patience
	release  func() // to be called at the end
}

func (c *Client) walk(ctx context.Context, ref reference.Reference, cred credentials.Credential, need Capability) (*walk, error) {
	hosts, release, err := c.candidates(ctx, ref.Registry(), need, "")
	if err != nil {
		return nil, err
	}
	return &walk{client: c, ref: ref, cred: cred, hosts: hosts, failed: make([]error, len(hosts)), patience: c.patience(), release: release}, nil
}

// each asks one host after another until one answers. A mirror is asked once; the
// last host, the registry, is asked again as far as patience goes.
func (w *walk) each(ctx context.Context, try attempt) error {
	for i := range w.hosts {
		if err := w.one(ctx, i, try); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return w.err()
}

// one asks one host.
func (w *walk) one(ctx context.Context, i int, try attempt) error {
	for {
		err := w.hosts[i].withCredentials(ctx, w.ref, w.cred, try)
		if err == nil || ctx.Err() != nil {
			return err
		}
		w.failed[i] = err
		if i < len(w.hosts)-1 {
			w.client.mirrorFailed(ctx, w.hosts[i], err)
			return err
		}
		if err = w.patience.next(ctx, err); err != nil {
			return err
		}
	}
}

func (w *walk) err() error {
	last := len(w.hosts) - 1
	return afterMirrors(w.failed[last], w.failed[:last])
}

// candidates lists the hosts to ask for something, leaving out mirrors that
// lately did not answer, or gave wrong bytes for the digest. The hosts are in use
// until release is called.
func (c *Client) candidates(ctx context.Context, registry string, need Capability, dgst digest.Digest) (hosts []*endpoint, release func(), err error) {
	all, err := c.of(ctx, registry)
	if err != nil {
		return nil, nil, err
	}
	release = sync.OnceFunc(func() { c.endpoints.release(all) })
	for i, ep := range all.list {
		last := i == len(all.list)-1
		if ep.can(need) && (last || ep.health.well() && !c.rejected.has(ep, dgst)) {
			hosts = append(hosts, ep)
		}
	}
	if len(hosts) == 0 {
		release()
		return nil, nil, failf(content.ErrConfig, registry, "no host is configured that may be asked for it")
	}
	return hosts, release, nil
}

func (c *Client) mirrorFailed(ctx context.Context, ep *endpoint, err error) {
	ep.health.failed(err)
	c.logger().InfoContext(ctx, "next host", "registry", ep.registry, "after", redact.URL(ep.base), "error", err)
}

// named is the image's name as it would be at the mirror itself: its host, and
// the path under which it keeps the registry's images.
func (ep *endpoint) named(ref reference.Reference) reference.Reference {
	if name := ep.repository(ref.Repository()); name != ref.Repository() {
		if r, err := reference.Parse(ep.base.Host + "/" + name); err == nil {
			return r
		}
	}
	if r, err := ref.WithRegistry(ep.base.Host); err == nil {
		return r
	}
	return ref
}

// repository is a repository's name at the host, with the path under which the
// host keeps it.
func (ep *endpoint) repository(name string) string {
	if prefix := strings.Trim(strings.TrimPrefix(strings.TrimSuffix(ep.base.Path, "/v2"), "/v2"), "/"); prefix != "" {
		return prefix + "/" + name
	}
	return name
}

// A mirrorsError is the last host's error together with what the hosts before
// it said. Only the last one's decides what kind of error it is.
type mirrorsError struct {
	err     error
	mirrors []error
}

func (e *mirrorsError) Error() string {
	texts := make([]string, len(e.mirrors))
	for i, m := range e.mirrors {
		texts[i] = m.Error()
	}
	text := strings.Join(texts, "; ")
	if e.err != nil {
		text = fmt.Sprintf("%v (before: %s)", e.err, text)
	}
	return redact.Text(text)
}

func (e *mirrorsError) Unwrap() error { return e.err }

func afterMirrors(err error, failed []error) error {
	var e *content.Error
	if len(failed) == 0 || !errors.As(err, &e) {
		return err
	}
	with := *e
	with.Err = &mirrorsError{e.Err, failed}
	return &with
}
