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

// A hostWalk asks the hosts of a registry for one call: first each mirror once, in
// their order, and then the registry, as often as patience allows. All requests of the
// Client for documents and blobs are made by a hostWalk.
type hostWalk struct {
	client  *Client
	repo    content.Repo  // its credential is for the registry
	digest  digest.Digest // of the blob; "" for a document
	hosts   []*endpoint   // the last one is the registry
	release func()        // ends the use of hosts; may be called more than once

	at       int       // the host being asked
	since    time.Time // when that host was first asked
	failed   []error   // the last error of each host
	patience patience
}

// newHostWalk makes a hostWalk over the hosts that have the capability need. It leaves
// out mirrors that lately did not answer or sent wrong bytes for the digest. A registry
// without CanReferrers is asked by tag for what refers to a manifest, as in containerd. The
// caller calls release at the end.
func newHostWalk(ctx context.Context, c *Client, repo content.Repo, need Capability, dgst digest.Digest) (*hostWalk, error) {
	all, err := c.hostsFor(ctx, repo.Ref.Registry())
	if err != nil {
		return nil, err
	}
	w := &hostWalk{client: c, repo: repo, digest: dgst, patience: c.patience(), since: time.Now(),
		release: sync.OnceFunc(func() { c.hosts.release(all) })}
	for i, ep := range all.hosts {
		last := i == len(all.hosts)-1
		can := ep.can(need) || last && need == CanReferrers && ep.can(CanResolve)
		if can && (last || ep.usable() && !ep.rejected(dgst)) {
			w.hosts = append(w.hosts, ep)
		}
	}
	if len(w.hosts) == 0 {
		w.release()
		return nil, failf(content.ErrConfig, repo.Ref.Registry(), "the configuration has no host that may be asked for this")
	}
	w.failed = make([]error, len(w.hosts))
	w.patience.limits = &w.hosts[len(w.hosts)-1].limits
	return w, nil
}

// An attempt is a function that asks a host once, with one credential.
type attempt func(context.Context, *endpoint, credentials.Credential) error

// ask makes attempts, first at the host being asked and then at the hosts after it,
// until one succeeds. Hosts for which skip returns true are not asked; skip may be nil.
// If no attempt succeeds, the error is that of the registry with those of the mirrors
// added, or that of ctx.
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

// askHost makes attempts at one host: one attempt at a mirror, or as many attempts at
// the registry as patience allows.
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

// host returns the host being asked.
func (w *hostWalk) host() *endpoint { return w.hosts[w.at] }

// mirror reports whether the host being asked is a mirror. If so, another host follows.
func (w *hostWalk) mirror() bool { return w.at < len(w.hosts)-1 }

// wait records that the host being asked has failed with err, and decides what follows.
// If the host is to be asked again, wait waits and returns nil. Otherwise it returns an
// error.
func (w *hostWalk) wait(ctx context.Context, err error) error {
	w.failed[w.at] = err
	if w.mirror() {
		w.mirrorFailed(ctx, err)
		return err
	}
	return w.patience.next(ctx, err)
}

// mirrorFailed leaves the mirror being asked out of later calls: for a time if the mirror
// could not be reached, or for the digest of the blob if the mirror has other content
// under that digest.
func (w *hostWalk) mirrorFailed(ctx context.Context, err error) {
	ep := w.host()
	ep.leaveOut(err)
	ep.limits.note(err)
	if w.digest != "" && content.ReasonOf(err) == content.ErrSizeMismatch {
		ep.reject(w.digest)
	}
	w.client.cfg.Logger.InfoContext(ctx, "next host", "registry", ep.registry, "after", redact.URL(ep.base), "error", err)
}

// next makes the next host the host being asked.
func (w *hostWalk) next() {
	w.at++
	w.since = time.Now()
}

// err returns the error of the registry, with the errors of the mirrors added.
func (w *hostWalk) err() error { return w.afterMirrors(w.failed[len(w.hosts)-1]) }

// afterMirrors adds the errors of the mirrors to err, which is the registry's error.
// The Reason stays that of the registry's error.
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

// withCredentials makes an attempt at the host being asked with the host's own
// credential: the call's credential for the registry, or a credential of
// Config.MirrorKeyring for a mirror. If a mirror refuses a credential, the next one of
// the keyring follows. A mirror without a credential is asked without one.
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
	for own, err := range ep.client.cfg.MirrorKeyring.Lookup(ctx, ep.mirrorName(w.repo.Ref)) {
		if err != nil {
			ep.client.cfg.Logger.InfoContext(ctx, "no credential from one source for a mirror", "mirror", redact.URL(ep.base), "error", redact.Text(err.Error()))
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
