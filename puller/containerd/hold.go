package containerd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"sync"
	"time"

	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/internal/keylock"
	"github.com/pullkit/pullkit/puller/content"
	"google.golang.org/grpc/codes"
)

// Hold keeps content until the caller calls release: the content for which Has returns true, and
// the content that Commit stores, after the call of Hold. Hold uses a lease of containerd, which
// all calls of one Store share. The Store deletes the lease when all callers have released it and
// images lead to all its content. If a pull has failed or the process was killed, the lease keeps
// the content that no image leads to until the lease expires; see Config.KeepUnnamed. If another
// program has deleted the lease, Hold makes another one.
func (s *Store) Hold(ctx context.Context) (release func(), err error) {
	call, err := s.holder.hold(ctx)
	if err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { s.holder.release(call) }), nil
}

// A resource is what a lease keeps: content, or the bytes of an unfinished ingest.
type resource struct{ kind, id string }

func contentResource(d digest.Digest) resource { return resource{"content", string(d)} }
func ingestResource(ref string) resource       { return resource{"ingests", ref} }

// expireLabel is the label of a lease that says when containerd deletes it.
const expireLabel = "containerd.io/gc.expire"

// A holder manages the present lease of a Store.
type holder struct {
	client  *client
	keepFor time.Duration

	lock  keylock.Locks       // one key, for the fields below
	count uint64              // number of calls of hold so far; the last call has this number
	calls map[uint64]struct{} // numbers of the calls that are not released
	lease *lease              // nil if the Store does not have a lease
}

// A lease is a lease in containerd.
type lease struct {
	id      string
	expires time.Time
	// keeps is what the lease keeps: content, and ingests that are open or were left
	// unfinished.
	keeps map[resource]kept
}

// kept is what is known about something that a lease keeps.
type kept struct {
	// call is the number of the last call of hold before the latest use of the resource. A
	// later call of hold has not used the resource.
	call  uint64
	named bool // an image leads to it
}

func newHolder(c *client, keepFor time.Duration) *holder {
	return &holder{client: c, keepFor: keepFor, calls: map[uint64]struct{}{}}
}

// enter takes the lock. If ctx ends first, enter returns its cause.
func (h *holder) enter(ctx context.Context) (leave func(), err error) { return h.lock.Lock(ctx, "") }

// mustEnter takes the lock. The wait ends, because the calls of containerd under the lock have a
// time limit.
func (h *holder) mustEnter() (leave func()) {
	leave, _ = h.enter(context.Background()) // this context does not end
	return leave
}

// hold returns the number of the call, for release.
func (h *holder) hold(ctx context.Context) (call uint64, err error) {
	leave, err := h.enter(ctx)
	if err != nil {
		return 0, err
	}
	defer leave()
	if err := h.look(ctx); err != nil {
		return 0, err
	}
	if _, err := h.present(ctx); err != nil {
		return 0, err
	}
	h.count++
	h.calls[h.count] = struct{}{}
	return h.count, nil
}

func (h *holder) release(call uint64) {
	defer h.mustEnter()()
	delete(h.calls, call)
	h.drop()
}

// look marks the lease as expired if another program has deleted it. The caller has the lock.
func (h *holder) look(ctx context.Context) error {
	if h.lease == nil {
		return nil
	}
	call, cancel := h.client.call(ctx)
	defer cancel()
	resp, err := h.client.leases.List(call, &leasesapi.ListRequest{Filters: []string{fmt.Sprintf("id==%q", h.lease.id)}}, options...)
	if err != nil {
		return fail(ctx, err, "look for a lease")
	}
	if len(resp.GetLeases()) == 0 {
		h.lease.expires = time.Time{}
	}
	return nil
}

// oldest returns the number of the first call of hold that is not released.
func (h *holder) oldest() uint64 {
	oldest := uint64(math.MaxUint64)
	for call := range h.calls {
		oldest = min(oldest, call)
	}
	return oldest
}

// present returns the lease, with at least half of its time left. If it makes a lease in place
// of an old one, the new lease keeps what the calls of hold that are not released have used. The
// rest stays in the old lease until that lease expires. The caller has the lock.
func (h *holder) present(ctx context.Context) (*lease, error) {
	if old := h.lease; old != nil && time.Until(old.expires) > h.keepFor/2 {
		return old, nil
	}
	// Round removes the monotonic clock, which does not count the time for which the machine
	// sleeps.
	next := &lease{id: "pullkit-" + rand.Text(), expires: time.Now().Round(0).Add(h.keepFor), keeps: map[resource]kept{}}
	call, cancel := h.client.call(ctx)
	defer cancel()
	_, err := h.client.leases.Create(call, &leasesapi.CreateRequest{
		ID: next.id, Labels: map[string]string{expireLabel: next.expires.UTC().Format(time.RFC3339)},
	}, options...)
	if err != nil {
		return nil, fail(ctx, err, "make a lease")
	}
	if h.lease != nil {
		oldest := h.oldest()
		for r, k := range h.lease.keeps {
			if k.call < oldest {
				continue
			}
			if err := h.add(ctx, next, r, k); err != nil {
				return nil, err // next expires
			}
		}
	}
	h.lease = next
	return next, nil
}

// add makes a lease keep a resource. The caller has the lock.
func (h *holder) add(ctx context.Context, l *lease, r resource, k kept) error {
	call, cancel := h.client.call(ctx)
	defer cancel()
	_, err := h.client.leases.AddResource(call, &leasesapi.AddResourceRequest{
		ID: l.id, Resource: &leasesapi.Resource{ID: r.id, Type: r.kind},
	}, options...)
	if is(err, codes.AlreadyExists) {
		err = nil
	}
	if err != nil {
		return fail(ctx, err, "keep %s in a lease", r.id)
	}
	l.keeps[r] = k
	return nil
}

// ensure makes the present lease keep a resource. added is false if the lease already keeps it.
// The caller has the lock.
func (h *holder) ensure(ctx context.Context, r resource) (added bool, err error) {
	for range 2 {
		l, err := h.present(ctx)
		if err != nil {
			return false, err
		}
		if k, ok := l.keeps[r]; ok {
			k.call = h.count
			l.keeps[r] = k
			return false, nil
		}
		err = h.add(ctx, l, r, kept{call: h.count})
		if !errors.Is(err, fs.ErrNotExist) {
			return err == nil, err
		}
		l.expires = time.Time{} // another program has deleted the lease
	}
	return false, &content.Error{Reason: content.ErrStore, Err: errors.New("containerd: another program deletes the leases of this pull")}
}

// drop deletes the lease if all calls of hold are released and images lead to all its content.
// If the lease also keeps content that no image leads to, drop takes the content of images out of
// the lease, so that it is collected when its images are removed. The caller has the lock.
func (h *holder) drop() {
	if len(h.calls) > 0 || h.lease == nil {
		return
	}
	call, cancel := h.client.call(context.Background())
	defer cancel()
	var named []resource
	for r, k := range h.lease.keeps {
		if k.named {
			named = append(named, r)
		}
	}
	if len(named) < len(h.lease.keeps) {
		for _, r := range named {
			// If that fails, the lease keeps the content until it expires.
			_, _ = h.client.leases.DeleteResource(call, &leasesapi.DeleteResourceRequest{
				ID: h.lease.id, Resource: &leasesapi.Resource{ID: r.id, Type: r.kind},
			}, options...)
			delete(h.lease.keeps, r)
		}
		return
	}
	// If that fails, the lease expires.
	_, _ = h.client.leases.Delete(call, &leasesapi.DeleteRequest{ID: h.lease.id}, options...)
	h.lease = nil
}

// keep makes the lease keep stored content, if a call of hold is not released. added is false if
// all are released, or if the lease already keeps the content.
func (h *holder) keep(ctx context.Context, d digest.Digest) (added bool, err error) {
	leave, err := h.enter(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	if len(h.calls) == 0 {
		return false, nil
	}
	return h.ensure(ctx, contentResource(d))
}

// open returns the ID of the lease under which an ingest runs. The lease stays until the
// ingest is over. fresh is false if the lease already keeps an ingest of this name.
func (h *holder) open(ctx context.Context, ref string) (id string, fresh bool, err error) {
	leave, err := h.enter(ctx)
	if err != nil {
		return "", false, err
	}
	defer leave()
	l, err := h.present(ctx)
	if err != nil {
		return "", false, err
	}
	_, before := l.keeps[ingestResource(ref)]
	l.keeps[ingestResource(ref)] = kept{call: h.count} // containerd adds it when the ingest starts
	return l.id, !before, nil
}

// committed notes that an ingest, which ran under the lease with this ID, has become content.
// The ID is "" if it ran under another client's lease.
func (h *holder) committed(ctx context.Context, id, ref string, d digest.Digest) error {
	defer h.mustEnter()()
	if h.lease == nil {
		return nil
	}
	delete(h.lease.keeps, ingestResource(ref))
	if h.lease.id != id {
		_, err := h.ensure(ctx, contentResource(d))
		return err
	}
	h.lease.keeps[contentResource(d)] = kept{call: h.count}
	return nil
}

// removed notes that an ingest is over and has left nothing.
func (h *holder) removed(ref string) {
	defer h.mustEnter()()
	if h.lease != nil {
		delete(h.lease.keeps, ingestResource(ref))
		h.drop()
	}
}

// named notes that an image leads to content.
func (h *holder) named(all []digest.Digest) {
	defer h.mustEnter()()
	if h.lease == nil {
		return
	}
	for _, d := range all {
		if k, ok := h.lease.keeps[contentResource(d)]; ok {
			k.named = true
			h.lease.keeps[contentResource(d)] = k
		}
	}
	h.drop()
}

// lost returns the first digest of missing that the lease keeps. Its content was stored when
// the lease got it, and is not stored any more.
func (h *holder) lost(missing []digest.Digest) (digest.Digest, bool) {
	defer h.mustEnter()()
	for _, d := range missing {
		if h.lease == nil {
			break
		}
		if _, ok := h.lease.keeps[contentResource(d)]; ok {
			return d, true
		}
	}
	return "", false
}
