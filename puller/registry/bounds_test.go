package registry

import (
	"context"
	"fmt"
	"iter"
	"net"
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/puller/content"
)

// The memory of a Client does not grow with the number of registries, repositories and
// tokens that it has seen.
func TestMemoryDoesNotGrowWithTheNumberOfRegistries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, Config{})
		ep := &endpoint{client: c}
		key := func(name string, i int) authKey { return authKey{repository: fmt.Sprint(name, i)} }
		used := key("used", 0)
		c.auth.opened(used, "open")
		const most = 4096
		for i := range 3 * most {
			c.auth.opened(key("repository", i), "basic")
			ep.reject(digest.Digest(fmt.Sprint(i)))
			if i%1000 == 0 {
				r, _ := c.auth.repositories.Get(used)
				require.Equal(t, "open", r.scheme, "a registry that was used lately is remembered")
			}
		}
		assert.Equal(t, most, count(c.auth.repositories.All()))
		_, known := c.auth.repositories.Get(key("repository", 0))
		assert.False(t, known, "the registry that was not used for the longest time is forgotten")
		assert.Equal(t, most, count(c.bad.All()))
		assert.False(t, ep.reject(digest.Digest(fmt.Sprint(3*most-1))), "known")
		assert.True(t, ep.reject(digest.Digest("0")), "forgotten")

		for i := range 3 * maxKept {
			ep := &endpoint{client: c, base: &url.URL{Scheme: "https", Host: "reg.example"}}
			u := &url.URL{Scheme: "https", Host: fmt.Sprint("storage", i)}
			c.targets.keep(ep, request{name: fmt.Sprint(i)}, &answer{left: true, home: ep.base, url: u, keepUntil: time.Now().Add(time.Hour)})
		}
		assert.Equal(t, maxKept, count(c.targets.byKey.All()))

		ep.accepted.Max = maxAccepted
		for i := range 3 * maxAccepted {
			ep.accept(acceptedKey{repository: fmt.Sprint(i)}, mirrorLogin{})
		}
		assert.Equal(t, maxAccepted, count(ep.accepted.All()))
	})
}

func count[K, V any](all iter.Seq2[K, V]) (n int) {
	for range all {
		n++
	}
	return n
}

// A mirror that does not accept the connection costs the pull its dial_timeout.
func TestAMirrorCostsAtMostItsDialTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, Config{
			Registries: map[string]Hosts{"reg.example": {Mirrors: []Host{{URL: "https://m.example", DialTimeout: 200 * time.Millisecond}}}},
			DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
				if addr == "m.example:443" {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return nil, forbidden("the registry was asked")
			},
		})
		began := time.Now()
		_, err := c.Manifest(t.Context(), content.Repo{Ref: mustRef("reg.example/app"), Cred: noCredential}, "")
		assert.ErrorIs(t, err, content.ErrForbiddenURL)
		assert.Equal(t, 200*time.Millisecond, time.Since(began))
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// The client requests no action other than pull for the repository, for every scope that
// a challenge may name.
func TestNoMoreThanThePullActionIsRequested(t *testing.T) {
	for in, want := range map[string][]string{
		"":                                   {"repository:app:pull"},
		"repository:app:pull,push":           {"repository:app:pull"},
		"repository:app:*":                   {"repository:app:pull"},
		"repository:h:5000/app:pull,*":       {"repository:h:5000/app:pull"},
		"aws a:pull,push registry:catalog:*": {"aws", "a:pull,push", "registry:catalog:*"},
	} {
		assert.Equal(t, want, scopes(in, "app"), in)
	}
	c := newClient(t, Config{Registries: map[string]Hosts{"docker.io": {Mirrors: []Host{{URL: "https://h.example/v2/hub", OverridePath: true}}}}})
	list, err := listOf(t, c, "docker.io")
	require.NoError(t, err)
	assert.Equal(t, "hub/library/app", list[0].repository("library/app"))
	realm, err := list[0].tokenRequest(authKey{origin: originOf(&url.URL{Scheme: "https", Host: "h.example"}), repository: "library/app"},
		offered("bearer", "realm", "https://h.example/t"), &answer{})
	require.NoError(t, err)
	assert.Equal(t, []string{"repository:hub/library/app:pull"}, realm.scopes)
}
