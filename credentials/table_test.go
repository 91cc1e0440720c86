package credentials

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/pullkit/pullkit/credentials/internal/keys"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// naiveFind compares each entry with the name.
func naiveFind(tab *table, name string) (found []int32) {
	target, err := tab.rules.target(name)
	if err != nil {
		return nil
	}
	for i, e := range tab.entries {
		if e.err == nil && e.pattern.Match(target) == keys.Matched {
			found = append(found, int32(i))
		}
	}
	return found
}

// TestFindFindsWhatAComparisonWithEachEntryFinds holds that find finds the same entries as a comparison with each
// entry.
func TestFindFindsWhatAComparisonWithEachEntryFinds(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	pick := func(list ...string) string { return list[rnd.IntN(len(list))] }
	hosts := []string{"r.io", "R.io", "r.io:5000", "r.io:", "docker.io", "index.docker.io", "registry-1.docker.io", "[::1]", "[::1]:5000", "localhost", "a.b.io", "a.b.io:5000", ""}
	globs := []string{"*.io", "?.io", "*.io:5000", "*.docker.io", "*.*.io", "*", "*:5000", "[a-r].io"}
	paths := []string{"", "", "/", "/a", "/a/", "/a/b", "/ab", "/a//b", "/library", "/v1/", "/v2/a", "/%61"}
	matches := 0
	for _, r := range []Rules{{}, {Kubelet: true}} {
		for range 300 {
			es := entries{rules: r}
			for i := range rnd.IntN(12) {
				key := pick("", "", "https://") + pick(slices.Concat(hosts, globs)...) + pick(paths...)
				es.add(Credential{Username: fmt.Sprint(i), Origin: Origin{Key: key}})
			}
			tab := newTable(entries{rules: r, list: es.list})
			for range 20 {
				name := pick(hosts...) + pick("", "/a", "/a/b", "/a/b/c", "/ab", "/ab/c", "/library/nginx", "/", "/a//b")
				want, got := naiveFind(&tab, name), tab.find(nil, name)
				if r.Kubelet && len(want) == 0 && keys.HubFallbackKubelet(name) {
					want = tab.hub(nil)
				}
				matches += len(want)
				if !slices.Equal(want, got) {
					t.Fatalf("%+v %q: found %v, a scan finds %v\n%v", r, name, got, want, keysOf(&tab))
				}
			}
		}
	}
	assert.Greater(t, matches, 1000)
}

func keysOf(tab *table) (keys []string) {
	for _, e := range tab.entries {
		keys = append(keys, e.text)
	}
	return keys
}

// manySecrets returns n Secrets. Each has a login for a registry of its own, and one for a
// path of a shared registry.
func manySecrets(t testing.TB, n int) []Secret {
	out := make([]Secret, n)
	for i := range out {
		text := fmt.Sprintf(`{"auths":{"registry-%d.example:5000":{"auth":"dTpw"},"shared.example/team-%d":{"auth":"dTpw"}}}`, i, i)
		out[i] = Secret{Namespace: "web", Name: fmt.Sprint("s", i), Type: TypeDockerConfigJSON, Data: map[string]Sensitive{KeyDockerConfigJSON: Conceal(text)}}
	}
	return out
}

// TestLookupIsIndependentOfSize counts the allocations and the steps of a look-up, and not
// the time. The number of accesses to the map depends only on the parts of the image's
// name, and entries that do not match are not compared.
func TestLookupIsIndependentOfSize(t *testing.T) {
	for _, n := range []int{10, 5000} {
		ring := fromSecrets(manySecrets(t, n), Rules{})
		require.Empty(t, Problems(ring))
		// Programs hold a Keyring, whose methods the compiler cannot inline.
		keyring := forPod(ring, Pod{})
		for _, image := range []string{"registry-7.example:5000/team/app:v1", "shared.example/team-7/app:v1"} {
			ref := reference.MustParse(image)
			found := 0
			allocs := testing.AllocsPerRun(100, func() {
				found = 0
				for range keyring.Lookup(t.Context(), ref) {
					found++
				}
			})
			assert.Equal(t, 1, found)
			assert.LessOrEqual(t, allocs, 6.0, "%d secrets, %s", n, image)
		}
		// Each literal key has its own place in the map, and is not in a list of keys that a
		// look-up would compare one by one.
		assert.Empty(t, ring.table.globs)
		assert.Len(t, ring.table.literal, 2*n)
		for _, next := range ring.table.next {
			assert.Equal(t, int32(-1), next)
		}
	}
}

// TestBuildAllocatesInProportion holds that FromSecrets sorts all entries once: a hundred
// times the Secrets need about a hundred times the memory. With a sort for each Secret it
// would be ten thousand times.
func TestBuildAllocatesInProportion(t *testing.T) {
	allocated := func(n int) uint64 {
		secrets := manySecrets(t, n)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		FromSecrets(secrets, Rules{})
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	small, large := allocated(50), allocated(5000)
	assert.Less(t, large, 200*small)
	assert.Greater(t, large, 50*small)
}

func BenchmarkFromSecrets(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 5000} {
		secrets := manySecrets(b, n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				FromSecrets(secrets, Rules{})
			}
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	ref := reference.MustParse("shared.example/team-7/app:v1")
	for _, n := range []int{10, 100, 1000, 5000} {
		ring := FromSecrets(manySecrets(b, n), Rules{})
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for range ring.Lookup(b.Context(), ref) {
				}
			}
		})
	}
}

func TestIPv6HostsMatchAsText(t *testing.T) {
	for _, tt := range []struct {
		key, name string
		match     bool
		malformed bool
	}{
		{"[::1]", "[::1]/x", true, false},
		{"[FE80::1]", "[fe80::1]/x", true, false},
		{"*:5000", "[::1]:5000/x", true, false},
		{"*", "[::1]/x", true, false},
		{"*.*", "[::ffff:1.2.3.4]/x", false, false},
		{"*", "[::ffff:1.2.3.4]/x", true, false},
		{"[::*]", "[::1]/x", false, true},
		{"[::1", "[::1]/x", false, true},
		{"[::1]x", "[::1]/x", false, true},
		{"[::1]:x", "[::1]/x", false, true},
		{"[fe80::1%eth0]", "[fe80::1]/x", false, true},
		{"[1.2.3.4:]", "r.io/x", false, true},
		{"*", "[::1/x", false, true},
	} {
		got, err := Match(tt.key, tt.name, Rules{})
		assert.Equal(t, tt.match, got, "Match(%q, %q)", tt.key, tt.name)
		assert.Equal(t, tt.malformed, err != nil, "Match(%q, %q): %v", tt.key, tt.name, err)
	}
}

func TestMatchRefusesLongAndOddKeys(t *testing.T) {
	long := strings.Repeat("a", 254)
	for key, malformed := range map[string]bool{
		long: true, long[1:]: false, "*" + long[:62] + ".io": false, "*" + long[:63] + ".io": true, long[:100] + ".*": false,
		"r.io:1:2": true, "r.io\x7f": true, "r.io/\n": true, "r.io/x y": false, "r io": true, "r%2e.io": true,
	} {
		_, err := Match(key, "r.io/x", Rules{})
		assert.Equal(t, malformed, err != nil, "%q: %v", key, err)
	}
	_, err := Match("r.io", long+"/x", Rules{})
	assert.Error(t, err)
	_, err = Match(strings.Repeat("[", 1<<20), "r.io/x", Rules{})
	require.Error(t, err)
	assert.Less(t, len(err.Error()), 300)
}

// TestSeveralGoroutinesShareACompiledKey is for the race detector: goroutines share a compiled key.
func TestSeveralGoroutinesShareACompiledKey(t *testing.T) {
	c := configOf(t, "[a-z]*.r?.io", "{x}*.*[^b].io")
	done := make(chan struct{})
	for range 8 {
		go func() {
			defer func() { done <- struct{}{} }()
			for range 200 {
				assert.Len(t, c.table.find(nil, "team.r1.io/app"), 1)
			}
		}()
	}
	for range 8 {
		<-done
	}
}
