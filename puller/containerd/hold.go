package containerd

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/internal/keylock"
	"google.golang.org/grpc/codes"
)

// Hold keeps content that Has or Commit finds or makes from now on, until the caller calls
// release. It is a lease of containerd, which all calls of one Store share. The lease is
// deleted when no caller holds it and images lead to all its content. Otherwise, because a
// pull has failed or the process was killed, it stays until it expires; see
// Config.KeepUnnamed.
func (s *Store) Hold(ctx context.Context) (release func(), err error) {
	if err := s.holder.hold(ctx); err != nil {
		return nil, err
	}
	return sync.OnceFunc(s.holder.release), nil
}

// A resource is what a lease keeps: content, or the bytes of an unfinished ingest.
type resource struct{ kind, id string }

func contentResource(d digest.Digest) resource { return resource{"content", string(d)} }
func ingestResource(ref string) resource       { return resource{"ingests", ref} }

// expireLabel is the label of a lease that says when containerd deletes it.
const expireLabel = "containerd.io/gc.expire"

// A holder has the present lease of a Store.
type holder struct {
	client  *client
	keepFor time.Duration

	lock  keylock.Locks // one key, for the fields below
	calls int           // calls of hold that were not released
	lease *lease        // nil if there is none
}

// A lease is a lease in containerd.
type lease struct {
	id      string
	expires time.Time
	// unnamed is what the lease keeps and no tag has reached: content, and ingests that
	// are open or were left unfinished.
	unnamed map[resource]bool
}

func newHolder(c *client, keepFor time.Duration) *holder { return &holder{client: c, keepFor: keepFor} }

// enter takes the lock. If the context ends first, it returns the cause.
func (h *holder) enter(ctx context.Context) (leave func(), err error) { return h.lock.Lock(ctx, "") }

// mustEnter takes the lock. It waits for calls of containerd, which have a time limit.
func (h *holder) mustEnter() (leave func()) {
	leave, _ = h.enter(context.Background()) // this context does not end
	return leave
}

func (h *holder) hold(ctx context.Context) error {
	leave, err := h.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if _, err := h.present(ctx); err != nil {
		return err
	}
	h.calls++
	return nil
}

func (h *holder) release() {
	defer h.mustEnter()()
	h.calls--
	h.drop()
}

// present returns the lease, with at least half of its time left. The caller has the lock.
func (h *holder) present(ctx context.Context) (*lease, error) {
	if old := h.lease; old != nil && time.Until(old.expires) > h.keepFor/2 {
		return old, nil
	}
	next := &lease{id: "pullkit-" + rand.Text(), expires: time.Now().Add(h.keepFor), unnamed: map[resource]bool{}}
	call, cancel := h.client.call(ctx)
	defer cancel()
	_, err := h.client.leases.Create(call, &leasesapi.CreateRequest{
		ID: next.id, Labels: map[string]string{expireLabel: next.expires.UTC().Format(time.RFC3339)},
	}, options...)
	if err != nil {
		return nil, fail(ctx, err, "make a lease")
	}
	if h.lease != nil { // it expires, and what it keeps goes to the next one
		for r := range h.lease.unnamed {
			if err := h.add(ctx, next, r); err != nil {
				return nil, err // next expires
			}
		}
	}
	h.lease = next
	return next, nil
}

// add makes a lease keep something. The caller has the lock.
func (h *holder) add(ctx context.Context, l *lease, r resource) error {
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
	l.unnamed[r] = true
	return nil
}

// drop deletes the lease if it is not needed any more. The caller has the lock.
func (h *holder) drop() {
	if h.calls > 0 || h.lease == nil || len(h.lease.unnamed) > 0 {
		return
	}
	call, cancel := h.client.call(context.Background())
	defer cancel()
	// If that fails, the lease expires.
	_, _ = h.client.leases.Delete(call, &leasesapi.DeleteRequest{ID: h.lease.id}, options...)
	h.lease = nil
}

// keep makes the lease keep stored content, if a caller holds it. added is false if the
// lease need not keep it, or has it already.
func (h *holder) keep(ctx context.Context, d digest.Digest) (added bool, err error) {
	leave, err := h.enter(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	if h.calls == 0 {
		return false, nil
	}
	l, err := h.present(ctx)
	if err != nil || l.unnamed[contentResource(d)] {
		return false, err
	}
	return true, h.add(ctx, l, contentResource(d))
}

// open returns the ID of the lease under which an ingest runs. The lease stays until the
// ingest is over. fresh is false if the lease has kept such an ingest before.
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
	fresh = !l.unnamed[ingestResource(ref)]
	l.unnamed[ingestResource(ref)] = true // containerd adds it when the ingest begins
	return l.id, fresh, nil
}

// committed notes that an ingest, which ran under the lease with this ID, has become content.
func (h *holder) committed(ctx context.Context, id, ref string, d digest.Digest) error {
	defer h.mustEnter()()
	if h.lease == nil {
		return nil
	}
	delete(h.lease.unnamed, ingestResource(ref))
	if h.lease.id != id {
		return h.add(ctx, h.lease, contentResource(d))
	}
	h.lease.unnamed[contentResource(d)] = true
	return nil
}

// removed notes that an ingest is over and has left nothing.
func (h *holder) removed(ref string) {
	defer h.mustEnter()()
	if h.lease != nil {
		delete(h.lease.unnamed, ingestResource(ref))
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
		delete(h.lease.unnamed, contentResource(d))
	}
	h.drop()
}

// lost returns the first of all that the lease has kept, that is content which was there
// and is not any more.
func (h *holder) lost(missing []digest.Digest) (digest.Digest, bool) {
	defer h.mustEnter()()
	for _, d := range missing {
		if h.lease != nil && h.lease.unnamed[contentResource(d)] {
			return d, true
		}
	}
	return "", false
}
