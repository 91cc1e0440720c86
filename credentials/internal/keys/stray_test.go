package keys

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/stretchr/testify/assert"
)

// naiveKey is match, written a second time for whole keys without IPv6 addresses.
func naiveKey(key, name string) bool {
	cut := func(s string) (host, port, path string) {
		if i := strings.Index(s, "/"); i >= 0 {
			s, path = s[:i], s[i:]
		}
		host, port, _ = strings.Cut(strings.ToLower(s), ":")
		return host, port, path
	}
	keyHost, keyPort, keyPath := cut(key)
	host, port, path := cut(name)
	if keyHost == "" || keyPort != port {
		return false
	}
	hub := []string{"docker.io", "index.docker.io", "registry-1.docker.io"}
	if port != "" || !slices.Contains(hub, keyHost) || !slices.Contains(hub, host) {
		if ok, bad := naiveMatch(keyHost, host); !ok || bad {
			return false
		}
	}
	if strings.HasSuffix(keyPath, "/") {
		return strings.HasPrefix(path, keyPath)
	}
	return path == keyPath || strings.HasPrefix(path, keyPath+"/")
}

// TestKeysMatchOnlyWhatTheyName holds that a key matches an image if and only if the
// plainest reading of the key names it.
func TestKeysMatchOnlyWhatTheyName(t *testing.T) {
	rnd := rand.New(rand.NewPCG(11, 12))
	pick := func(list ...string) string { return list[rnd.IntN(len(list))] }
	hosts := []string{"r.io", "r.io", "evil-r.io", "r.io.evil", "ar.io", "a.r.io", "R.iO", "docker.io", "index.docker.io", "registry-1.docker.io", "docker.io.evil", "localhost", "10.0.0.1"}
	globs := []string{"*.io", "*", "r.*", "?.io", "*.*", "*r.io", "[^x].io", `r\.io`, "r.i[a-o]", "*.docker.io", "index.*.io", "docker.i?", ""}
	ports := []string{"", "", "", ":5000", ":443", ":80", ":"}
	paths := []string{"", "", "/", "/team", "/team/", "/team-b", "/team/app", "/Team", "/*", "/team/..", "//team", "/v1/team"}
	images := []string{"/team", "/team/app", "/team-b/app", "/teams", "/app", "", "/team-b", "/team/../x", "/v1/team", "/"}
	yes := 0
	for range rounds.Of(200_000) {
		host := pick(hosts...)
		if rnd.IntN(2) == 0 {
			host = pick(globs...)
		}
		key, name := host+pick(ports...)+pick(paths...), pick(hosts...)+pick(ports...)+pick(images...)
		got, _ := match(key, name)
		if got != naiveKey(key, name) {
			t.Fatalf("match(%q, %q) = %v", key, name, got)
		}
		if got {
			yes++
		}
	}
	assert.Greater(t, yes, rounds.Of(2_000))
}
