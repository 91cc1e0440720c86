package bench

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"testing"
	"time"

	"github.com/containerd/platforms"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/index"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var indexPlatforms = []ocispec.Platform{
	{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm", Variant: "v5"},
	{OS: "linux", Architecture: "arm", Variant: "v6"}, {OS: "linux", Architecture: "arm", Variant: "v7"},
	{OS: "linux", Architecture: "386"}, {OS: "linux", Architecture: "ppc64le"}, {OS: "linux", Architecture: "s390x"},
	{OS: "linux", Architecture: "riscv64"}, {OS: "linux", Architecture: "mips64le"},
	{OS: "windows", Architecture: "amd64", OSVersion: "10.0.20348.2227"}, {OS: "unknown", Architecture: "unknown"},
}

var indexWanted = ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}

// indexOf returns an index of n entries of which only the last is for indexWanted.
func indexOf(n int) ocispec.Index {
	idx := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
	idx.SchemaVersion = 2
	for i := range n {
		p := indexPlatforms[i%len(indexPlatforms)]
		if i == n-1 {
			p = indexWanted
		}
		idx.Manifests = append(idx.Manifests, ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageManifest, Size: 500, Platform: &p,
			Digest: ocispec.DescriptorEmptyJSON.Digest,
			Annotations: map[string]string{
				"com.docker.official-images.bashbrew.arch": p.Architecture,
				"org.opencontainers.image.revision":        fmt.Sprintf("%040d", i),
			},
		})
	}
	return idx
}

// byContainerd is how containerd's images.Manifest chooses: filter, stable sort, first.
func byContainerd(idx ocispec.Index, m platforms.MatchComparer) *ocispec.Descriptor {
	var list []ocispec.Descriptor
	for _, d := range idx.Manifests {
		if d.Platform == nil || m.Match(*d.Platform) {
			list = append(list, d)
		}
	}
	sort.SliceStable(list, func(i, j int) bool {
		if list[i].Platform == nil || list[j].Platform == nil {
			return list[i].Platform != nil
		}
		return m.Less(*list[i].Platform, *list[j].Platform)
	})
	return &list[0]
}

// byGGCR is how remote.WithPlatform chooses: the first that satisfies.
func byGGCR(idx *v1.IndexManifest, want v1.Platform) *v1.Descriptor {
	for i, d := range idx.Manifests {
		p := v1.Platform{OS: "linux", Architecture: "amd64"}
		if d.Platform != nil {
			p = *d.Platform
		}
		if p.Satisfies(want) {
			return &idx.Manifests[i]
		}
	}
	return nil
}

func ggcrIndex(t testing.TB, idx ocispec.Index) *v1.IndexManifest {
	data, err := json.Marshal(idx)
	require.NoError(t, err)
	var out v1.IndexManifest
	require.NoError(t, json.Unmarshal(data, &out))
	return &out
}

// indexChoosers returns the ways to choose from an index of n entries.
func indexChoosers(t testing.TB, n int) map[string]func() bool {
	idx := indexOf(n)
	other := ggcrIndex(t, idx)
	otherWant := v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	return map[string]func() bool{
		"ladder": func() bool { c, err := index.Select(idx, indexWanted); return err == nil && c.Exact },
		"strict": func() bool {
			c, err := (index.Selector{Strict: true}).Select(idx, indexWanted)
			return err == nil && c.Exact
		},
		"containerd": func() bool { return byContainerd(idx, platforms.Only(indexWanted)).Platform.Architecture == "arm64" },
		"ggcr":       func() bool { return byGGCR(other, otherWant).Platform.Architecture == "arm64" },
	}
}

func BenchmarkSelect(b *testing.B) {
	for _, n := range []int{8, 50, 1000} {
		for name, choose := range indexChoosers(b, n) {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if !choose() {
						b.Fatal("chose another")
					}
				}
			})
		}
	}
}

// TestSelectRatios measures ours and the peers in turn and compares the best
// rounds, which a busy machine spoils least.
func TestSelectRatios(t *testing.T) {
	goals := map[int]struct{ containerd, strict, ladder float64 }{8: {8, 1.5, 3}, 50: {20, 1.5, 1.5}, 1000: {20, 1.5, 1.5}}
	for _, n := range []int{8, 50, 1000} {
		best := interleaveIndex(indexChoosers(t, n), 200, max(1, 20000/n))
		containerd := best["containerd"] / best["ladder"]
		strict, ladder := best["strict"]/best["ggcr"], best["ladder"]/best["ggcr"]
		t.Logf("%4d entries: containerd takes %.1f times ours; ggcr %.0f ns, strict %.2f, ladder %.2f times that", n, containerd, best["ggcr"], strict, ladder)
		assert.GreaterOrEqual(t, containerd, goals[n].containerd, "%d entries: containerd", n)
		assert.LessOrEqual(t, strict, goals[n].strict, "%d entries: strict", n)
		assert.LessOrEqual(t, ladder, goals[n].ladder, "%d entries: ladder", n)
	}
}

// interleaveIndex runs each function in turn, rounds times over, and returns the
// nanoseconds of one call in each one's best round of calls.
func interleaveIndex(funcs map[string]func() bool, rounds, calls int) map[string]float64 {
	names := make([]string, 0, len(funcs))
	for name := range funcs {
		names = append(names, name)
	}
	slices.Sort(names)
	best := map[string]float64{}
	for range rounds {
		for _, name := range names {
			start := time.Now()
			for range calls {
				if !funcs[name]() {
					panic(name + " chose another")
				}
			}
			ns := float64(time.Since(start).Nanoseconds()) / float64(calls)
			if b, ok := best[name]; !ok || ns < b {
				best[name] = ns
			}
		}
	}
	return best
}

func TestParseIndexRatio(t *testing.T) {
	for _, n := range []int{8, 50, 1000} {
		data, err := json.Marshal(indexOf(n))
		require.NoError(t, err)
		best := interleaveIndex(map[string]func() bool{
			"ours": func() bool {
				doc, err := index.Parse(ocispec.MediaTypeImageIndex, data)
				return err == nil && len(doc.Index.Manifests) == n
			},
			"json": func() bool {
				var idx ocispec.Index
				return json.Unmarshal(data, &idx) == nil && len(idx.Manifests) == n
			},
		}, 100, max(1, 800/n))
		ratio := best["ours"] / best["json"]
		t.Logf("%4d entries, %d bytes: json.Unmarshal %.1f µs, ours %.2f times that", n, len(data), best["json"]/1000, ratio)
		assert.LessOrEqual(t, ratio, 2.0)
	}
}

func BenchmarkParseIndex(b *testing.B) {
	data, err := json.Marshal(indexOf(8))
	require.NoError(b, err)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := index.Parse(ocispec.MediaTypeImageIndex, data); err != nil {
			b.Fatal(err)
		}
	}
}
