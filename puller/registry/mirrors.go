package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/puller/content"
)

// A hostWalk asks the hosts of a registry for one call: the mirrors in their order, each
// once, and then the registry, as often as patience allows. All requests of the Client
// for documents and blobs go through it.
type hostWalk struct {
	client  *Client
	repo    content.Repo  // its credential is for the registry
	digest  digest.Digest // of the blob; "" for a document
	hosts   []*endpoint   // the last one is the registry
	release func()        // ends the use of hosts; may be called again

	at       int       // the host being asked
	since    time.Time // when it was asked first
	failed   []error   // what each host answered last
	patience patience
}

// newHostWalk begins with the hosts that may be asked for something. It leaves out
// mirrors that lately did not answer, or gave wrong bytes for the digest. The caller calls
// release.
func newHostWalk(ctx context.Context, c *Client, repo content.Repo, need Capability, dgst digest.Digest) (*hostWalk, error) {
	all, err := c.hostsFor(ctx, repo.Ref.Registry())
	if err != nil {
		return nil, err
	}
	w := &hostWalk{client: c, repo: repo, digest: dgst, patience: c.patience(), since: time.Now(),
		release: sync.OnceFunc(func() { c.hosts.release(all) })}
	for i, ep := range all.hosts {
		last := i == len(all.hosts)-1
		if ep.can(need) && (last || ep.well() && !ep.rejected(dgst)) {
			w.hosts = append(w.hosts, ep)
		}
	}
	if len(w.hosts) == 0 {
		w.release()
		return nil, failf(content.ErrConfig, repo.Ref.Registry(), "the configuration has no host that may be asked for it")
	}
	w.failed = make([]error, len(w.hosts))
	return w, nil
}

// An attempt asks a host with one credential.
type attempt func(context.Context, *endpoint, credentials.Credential) error

// ask makes attempts from the host being asked on, until one succeeds. Hosts that skip
// names are not asked; it may be nil. Otherwise the error is that of the registry,
// together with those of the mirrors, or of ctx.
func (w *hostWalk) ask(ctx context.Context, skip func(host int) bool, try attempt) error {
	for {
		if skip == nil || !skip(w.at) {
			if err := w.askHost(ctx, try); err == nil || ctx.Err() != nil {
				return err
			}
		}
		if !w.mirror() {
			if ctx.Err() != nil {
				return canceled(ctx, "")
			}
			return w.err()
		}
		w.next()
	}
}

// askHost makes attempts at one host: one at a mirror, and at the registry as many as
// patience allows.
func (w *hostWalk) askHost(ctx context.Context, try attempt) error {
	for {
		err := w.withCredentials(ctx, try)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if err = w.wait(ctx, err); err != nil {
			return err
		}
	}
}

// host is the host being asked.
func (w *hostWalk) host() *endpoint { return w.hosts[w.at] }

// mirror reports whether the host being asked is a mirror, so that another one follows.
func (w *hostWalk) mirror() bool { return w.at < len(w.hosts)-1 }

// wait decides what follows after the host being asked has failed with err. It returns
// nil, after a wait, if the host is to be asked again.
func (w *hostWalk) wait(ctx context.Context, err error) error {
	w.failed[w.at] = err
	if w.mirror() {
		w.mirrorFailed(ctx, err)
		return err
	}
	return w.patience.next(ctx, err)
}

// mirrorFailed leaves the mirror being asked out of later calls, as err suggests: for a
// while, if it could not be reached, or for the digest, if it has other content for that.
func (w *hostWalk) mirrorFailed(ctx context.Context, err error) {
	ep := w.host()
	ep.leaveOut(err)
	if w.digest != "" && content.ReasonOf(err) == content.ErrSizeMismatch {
		ep.reject(w.digest)
	}
	w.client.cfg.Logger.InfoContext(ctx, "next host", "registry", ep.registry, "after", redact.URL(ep.base), "error", err)
}

// next turns to the next host.
func (w *hostWalk) next() {
	w.at++
	w.since = time.Now()
}

// err is what the last host answered, together with what the hosts before it did.
func (w *hostWalk) err() error { return w.afterMirrors(w.failed[len(w.hosts)-1]) }

// afterMirrors adds to the registry's error what the mirrors before it answered. The
// registry's error alone decides the Reason.
func (w *hostWalk) afterMirrors(err error) error {
	var e *content.Error
	mirrors := w.failed[:len(w.hosts)-1]
	if len(mirrors) == 0 || !errors.As(err, &e) {
		return err
	}
	texts := make([]string, len(mirrors))
	for i, m := range mirrors {
		texts[i] = m.Error()
	}
	text := strings.Join(texts, "; ")
	if e.Err != nil {
		text = fmt.Sprintf("%v (before: %s)", e.Err, text)
	}
	with := *e
	with.Err = &described{redact.Text(text), e.Err}
	return &with
}

// withCredentials makes an attempt at the host being asked, with the credential that
// belongs to it: the registry's own for the registry, the mirror's own for a mirror. If a
// mirror has several, the next one follows when one is refused, and if it has none, it is
// asked without a credential.
func (w *hostWalk) withCredentials(ctx context.Context, try attempt) error {
	ep := w.host()
	if !ep.mirror {
		return try(ctx, ep, w.repo.Cred)
	}
	if ep.client.cfg.MirrorKeyring == nil {
		return try(ctx, ep, credentials.Credential{})
	}
	repository := w.repo.Ref.Repository()
	if cred, ok := ep.accepted.Get(repository); ok {
		if err := try(ctx, ep, cred); !refused(err) {
			return err
		}
		ep.accepted.Delete(repository)
	}
	var last error
	for own, err := range ep.client.cfg.MirrorKeyring.Lookup(ctx, ep.named(w.repo.Ref)) {
		if err != nil {
			ep.client.cfg.Logger.InfoContext(ctx, "credentials of a mirror", "mirror", redact.URL(ep.base), "error", redact.Text(err.Error()))
			continue
		}
		if last = try(ctx, ep, own); !refused(last) {
			if last == nil {
				ep.accept(repository, own)
			}
			return last
		}
	}
	if last != nil {
		return last
	}
	return try(ctx, ep, credentials.Credential{})
}

func refused(err error) bool {
	reason := content.ReasonOf(err)
	return reason == content.ErrUnauthorized || reason == content.ErrDenied
}
