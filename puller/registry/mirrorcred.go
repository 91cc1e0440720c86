package registry

import (
	"context"
	"sync"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// An attempt asks a host with one credential.
type attempt func(context.Context, *endpoint, credentials.Credential) error

// withCredentials calls try with the credential that belongs to the host: the
// registry's own for the registry, the mirror's own for a mirror. Of several, the
// next is tried when one is refused, and nobody's when there is none.
func (ep *endpoint) withCredentials(ctx context.Context, ref reference.Reference, cred credentials.Credential, try attempt) error {
	if !ep.mirror {
		return try(ctx, ep, cred)
	}
	if ep.client.Mirrors == nil {
		return try(ctx, ep, credentials.Credential{})
	}
	repository := ref.Repository()
	if worked, ok := ep.worked.get(repository); ok {
		if err := try(ctx, ep, worked); !refused(err) {
			return err
		}
		ep.worked.forget(repository)
	}
	var last error
	for own, err := range ep.client.Mirrors.Lookup(ctx, ep.named(ref)) {
		if err != nil {
			ep.client.logger().InfoContext(ctx, "credentials of a mirror", "mirror", redact.URL(ep.base), "error", redact.Text(err.Error()))
			continue
		}
		if last = try(ctx, ep, own); !refused(last) {
			if last == nil {
				ep.worked.put(repository, own)
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
	kind := content.KindOf(err)
	return kind == content.ErrUnauthorized || kind == content.ErrDenied
}

// workedFor is how long a credential that opened a mirror is used without asking
// the keyring, which may start a program each time.
const workedFor = time.Minute

// maxWorked is how many repositories' credentials are remembered.
const maxWorked = 1024

// worked remembers which credential opened a repository at a mirror.
type worked struct {
	mu   sync.Mutex
	byID map[string]workedCredential
}

type workedCredential struct {
	cred  credentials.Credential
	until time.Time
}

func (w *worked) get(repository string) (credentials.Credential, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	k, ok := w.byID[repository]
	return k.cred, ok && time.Now().Before(k.until)
}

func (w *worked) put(repository string, cred credentials.Credential) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byID == nil || len(w.byID) >= maxWorked {
		w.byID = map[string]workedCredential{}
	}
	until := time.Now().Add(workedFor)
	if !cred.Expires.IsZero() && cred.Expires.Before(until) {
		until = cred.Expires
	}
	w.byID[repository] = workedCredential{cred, until}
}

func (w *worked) forget(repository string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.byID, repository)
}
