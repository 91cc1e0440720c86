package registry

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullkit/pullkit/internal/expiring"
)

const (
	// keptFor is the longest time for which a redirect's target is used. Servers that
	// sign URLs refuse them after some minutes.
	keptFor = 5 * time.Minute
	// maxKept is how many targets a Client keeps.
	maxKept = 1024
	// maxKeptURL is the length of the longest URL that is kept. Signed URLs have about
	// 2 KiB.
	maxKeptURL = 8 << 10
)

// A keptTarget is the URL to which a host has redirected a request for a blob, often a
// signed URL of an object storage. The requests for other parts of the blob go to it, so
// that the host is not asked for each part. A target is used under the same rules as a
// redirect that has just been answered: no Authorization, addresses checked when they are
// dialled, at most maxRedirects in all.
type keptTarget struct {
	home    *url.URL // the URL that was asked first
	url     *url.URL
	private bool // home has a private address
}

// keptTargets has the targets that a Client keeps.
type keptTargets struct {
	byKey expiring.Map[targetKey, keptTarget]
}

// A targetKey is what a keptTarget is kept for: one blob in one repository of one host, for
// one login.
type targetKey struct {
	host   *endpoint
	auth   authKey
	digest digest.Digest
}

// targetKeyOf returns the key for a request of a blob at a host.
func targetKeyOf(ep *endpoint, r request) targetKey {
	return targetKey{ep, newAuthKey(originOf(ep.base), r.login, r.repository), digest.Digest(r.name)}
}

// keep keeps the target that has answered a request for a blob, if a redirect led there.
func (k *keptTargets) keep(ep *endpoint, r request, a *answer) {
	if originOf(a.url) == originOf(a.home) || !time.Now().Before(a.keepUntil) || len(a.url.String()) > maxKeptURL {
		return
	}
	until := a.keepUntil
	if end := r.login.cred.Expires; !end.IsZero() && end.Before(until) {
		until = end
	}
	k.byKey.Put(targetKeyOf(ep, r), keptTarget{a.home, a.url, a.private}, until)
}

// forget removes the target that is kept for a request. The next request goes to
// the host.
func (k *keptTargets) forget(ep *endpoint, r request) { k.byKey.Delete(targetKeyOf(ep, r)) }

// ask sends a request for a blob to the target that is kept for it. The answer is nil if
// the host must be asked instead: no target is kept, or the target does not serve the
// bytes that were asked for. In the second case the target is forgotten, because the host
// may redirect to another one. The only error is that of ctx.
func (k *keptTargets) ask(ctx context.Context, ep *endpoint, r request, serves func(*answer) bool) (*answer, error) {
	t, ok := k.byKey.Get(targetKeyOf(ep, r))
	if !ok {
		return nil, nil
	}
	// The rules for redirects hold for each use.
	u, err := ep.target(t.home, t.url.String(), true, secretsOf(r.login.cred))
	if err == nil {
		var a *answer
		if a, err = ep.followFrom(ctx, step{home: t.home, url: u, private: t.private, hops: 1}, r, authorization{}); err == nil {
			if serves(a) {
				return a, nil
			}
			a.drain()
			a.stall.end()
		}
	}
	k.forget(ep, r)
	if ctx.Err() != nil {
		return nil, canceled(ctx, "")
	}
	return nil, nil
}

// redirectLife returns the time until which a redirect may be used again, limit at the
// latest. It obeys Cache-Control and Expires (RFC 9111), by which a server says how long
// the signed URL is valid, or that the server must be asked each time.
func redirectLife(h http.Header, now, limit time.Time) time.Time {
	stated := false
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "no-store", "no-cache":
			return now
		case "max-age":
			seconds, ok := parseOffset(strings.Trim(value, `"`))
			if !ok {
				return now
			}
			age, _ := parseOffset(strings.TrimSpace(h.Get("Age")))
			stated = true
			if left := max(0, seconds-age); left < int64(keptFor/time.Second) {
				limit = earlier(limit, now.Add(time.Duration(left)*time.Second))
			}
		}
	}
	if expires := h.Get("Expires"); expires != "" && !stated {
		at, err := http.ParseTime(expires)
		if err != nil {
			return now
		}
		if date, err := http.ParseTime(h.Get("Date")); err == nil {
			at = now.Add(at.Sub(date)) // the clocks may differ
		}
		limit = earlier(limit, at)
	}
	return limit
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
