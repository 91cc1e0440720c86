package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// A hostWalk asks the hosts of a registry for one call: first each found host and each mirror
// once, in their order, and then the registry, as often as patience allows. The Client makes all
// requests for documents and blobs by a hostWalk.
type hostWalk struct {
	client  *Client
	repo    content.Repo  // its credential is for the registry
	digest  digest.Digest // of the blob; "" for a document
	list    *hostList
	hosts   []*endpoint // the last one is the registry
	found   int         // the first so many of hosts are found hosts
	release func()      // ends the use of hosts; may be called more than once

	at       int             // the host being asked
	again    bool            // busy found hosts are asked again
	since    time.Time       // when that host was first asked
	failed   []error         // the last error of each host
	opening  content.Opening // of the host that answered last
	patience patience
}

// newHostWalk makes a hostWalk over the hosts that have the capability need. It leaves
// out mirrors that lately did not answer or sent wrong bytes for the digest. For a list of
// referrers, it keeps a registry without CanReferrers, which is asked by tag as in containerd. If
// repo has a confirmation, the found hosts for the digest come first. The caller calls release at
// the end.
func newHostWalk(ctx context.Context, c *Client, repo content.Repo, need Capability, dgst digest.Digest) (*hostWalk, error) {
	all, err := c.hostsFor(ctx, repo.Ref.Registry())
	if err != nil {
		return nil, err
	}
	w := &hostWalk{client: c, list: all, repo: repo, digest: dgst, patience: c.patience(), since: time.Now(),
		release: sync.OnceFunc(func() { c.hosts.release(all) })}
	release := true
	defer func() {
		if release { // after an error, or a panic of Config.Find
			w.release()
		}
	}()
	if wanted := cmp.Or(dgst, repo.Ref.Digest()); wanted != "" && need == CanPull && c.confirmed(repo) {
		w.hosts = c.find(ctx, all, repo, wanted)
		w.found = len(w.hosts)
	}
	for i, ep := range all.hosts {
		last := i == len(all.hosts)-1
		can := ep.can(need) || last && need == CanReferrers && ep.can(CanResolve)
		if can && (last || ep.usable() && !ep.rejected(dgst)) && !w.private(ep) {
			w.hosts = append(w.hosts, ep)
		}
	}
	if len(w.hosts) == w.found {
		if last := all.hosts[len(all.hosts)-1]; w.private(last) {
			return nil, failf(content.ErrConfig, repo.Ref.Registry(), "the configuration names %s in place of the registry, which NoMirrorForPrivate does not ask in a call with a credential", redact.URL(last.base))
		}
		return nil, failf(content.ErrConfig, repo.Ref.Registry(), "the configuration has no host that may be asked for this")
	}
	w.failed = make([]error, len(w.hosts))
	w.patience.limits = &w.hosts[len(w.hosts)-1].limits
	release = false
	return w, nil
}

// private reports whether Config.NoMirrorForPrivate leaves a host out.
func (w *hostWalk) private(ep *endpoint) bool {
	return ep.mirror && w.client.cfg.NoMirrorForPrivate && !w.repo.Cred.Anonymous()
}

// An attempt is a function that asks a host once, with one credential.
type attempt func(context.Context, *endpoint, login) error

// ask makes attempts, first at the host being asked and then at the hosts after it,
// until one succeeds. Hosts for which skip returns true are not asked; skip may be nil.
// If no attempt succeeds, the error is that of the registry with those of the mirrors
// added, or that of ctx.
func (w *hostWalk) ask(ctx context.Context, skip func(host int) bool, try attempt) error {
	for {
		if !w.skipFound() && (skip == nil || !skip(w.at)) {
			if err := w.askHost(ctx, try); err == nil || ctx.Err() != nil {
				return err
			}
		}
		switch {
		case w.againFound(ctx):
		case ctx.Err() != nil:
			return canceled(ctx, "")
		case w.at == len(w.hosts)-1:
			return w.err()
		default:
			w.next()
		}
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

// mirror reports whether the host being asked is a found host or a mirror, which is asked
// once.
func (w *hostWalk) mirror() bool { return w.at < len(w.hosts)-1 || w.host().found }

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
	if ep.found {
		ep.foundFailed(err)
	} else {
		ep.leaveOut(err)
		ep.limits.note(err)
	}
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
// credential: the call's credential for the registry, or a mirror's. It notes who has let
// the caller have what was asked for.
func (w *hostWalk) withCredentials(ctx context.Context, try attempt) error {
	ep := w.host()
	w.opening = content.Opening{}
	if ep.found {
		return try(ctx, ep, login{})
	}
	if !ep.mirror {
		return try(ctx, ep, login{cred: w.repo.Cred})
	}
	w.opening.Mirror = ep.base.Host + "/" + ep.repository(w.repo.Ref.Repository())
	if name, ok := ep.mirrorName(w.repo.Ref); ok {
		w.opening.Mirror = name.Name()
	}
	opened, err := w.askMirror(ctx, ep, try)
	w.opening.Credential, w.opening.OfRequest = opened.cred, opened.ofRequest
	return err
}

// A mirrorLogin is a credential that opened a mirror.
type mirrorLogin struct {
	cred      credentials.Credential
	ofRequest bool // from the keyring of the request, not from Config.MirrorKeyring
}

// askMirror makes attempts at a mirror with the credentials of the request's keyring, and then
// with those of Config.MirrorKeyring, until the mirror does not refuse one. It returns that
// credential. If neither keyring has a credential, it makes one attempt without a credential.
func (w *hostWalk) askMirror(ctx context.Context, ep *endpoint, try attempt) (mirrorLogin, error) {
	name, named := ep.mirrorName(w.repo.Ref)
	if !named {
		return mirrorLogin{}, try(ctx, ep, login{})
	}
	ring, known := w.ring(ep)
	key := acceptedKey{w.repo.Ref.Repository(), ring}
	if found, ok := ep.accepted.Get(key); ok && known {
		if err := try(ctx, ep, login{found.cred, ring}); !refused(err) {
			return found, err
		}
		ep.accepted.Delete(key)
	}
	var ofRequest []credentials.Credential
	var last error
	for i, keyring := range []credentials.Keyring{w.mirrorKeyring(), w.client.cfg.MirrorKeyring} {
		if keyring == nil {
			continue
		}
		for cred, err := range keyring.Lookup(ctx, name) {
			found := mirrorLogin{cred, i == 0}
			switch {
			case err != nil:
				w.client.cfg.Logger.InfoContext(ctx, "no credential from one source for a mirror", "mirror", redact.URL(ep.base), "error", redact.Text(err.Error()))
				continue
			case found.ofRequest:
				ofRequest = append(ofRequest, cred)
			case slices.ContainsFunc(ofRequest, cred.Same):
				continue // the mirror has refused it
			}
			if last = try(ctx, ep, login{cred, ring}); !refused(last) {
				if last == nil && known {
					ep.accept(key, found)
				}
				return found, last
			}
		}
	}
	if last != nil {
		return mirrorLogin{}, last
	}
	return mirrorLogin{}, try(ctx, ep, login{ring: ring})
}

// mirrorKeyring returns the keyring of the request, or nil if mirrors must not be asked with it.
func (w *hostWalk) mirrorKeyring() credentials.Keyring {
	if w.client.cfg.NoMirrorForPrivate {
		return nil
	}
	return w.repo.Mirrors
}

// ring returns the fingerprint of the request's keyring for a mirror. known is false if the
// keyring has none: then it is not remembered which of its credentials opened the mirror.
func (w *hostWalk) ring(ep *endpoint) (print uint64, known bool) {
	ring := w.mirrorKeyring()
	if ring == nil {
		return 0, true
	}
	name, ok := ep.mirrorName(w.repo.Ref)
	prints, isPrinter := ring.(credentials.Fingerprinter)
	if !ok || !isPrinter {
		return 0, false
	}
	return prints.Fingerprint(name), true
}

func refused(err error) bool {
	reason := content.ReasonOf(err)
	return reason == content.ErrUnauthorized || reason == content.ErrDenied
}

// MirrorNames returns the names that ref has at the mirrors of its registry. The Client asks the
// keyring of a request only with these names; see content.MirrorNamer. MirrorNames calls
// HostsReader for the registry if the Client has not done so lately. It returns no name if
// Config.NoMirrorForPrivate is set.
func (c *Client) MirrorNames(ctx context.Context, ref reference.Reference) ([]reference.Reference, error) {
	if err := checkRef(ref); err != nil {
		return nil, err
	}
	if c.cfg.NoMirrorForPrivate {
		return nil, nil
	}
	all, err := c.hostsFor(ctx, ref.Registry())
	if err != nil {
		return nil, err
	}
	defer c.hosts.release(all)
	var names []reference.Reference
	for _, ep := range all.hosts {
		if name, ok := ep.mirrorName(ref); ok && ep.mirror && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}
