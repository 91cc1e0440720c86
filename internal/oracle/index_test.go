package oracle

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/index"
	"github.com/stretchr/testify/assert"
)

// onlyContainerd does what containerd's images.Manifest does with an index. It takes the
// manifests that match and those without a platform, and sorts them, those without a platform
// last. It returns the position of the first of them, or -1 without one.
func onlyContainerd(idx ocispec.Index, m platforms.MatchComparer) int {
	var list []int
	for i, d := range idx.Manifests {
		if d.Platform == nil || m.Match(*d.Platform) {
			list = append(list, i)
		}
	}
	sort.SliceStable(list, func(i, j int) bool {
		a, b := idx.Manifests[list[i]].Platform, idx.Manifests[list[j]].Platform
		if a == nil || b == nil {
			return a != nil
		}
		return m.Less(*a, *b)
	})
	if len(list) == 0 {
		return -1
	}
	return list[0]
}

var (
	indexOS       = []string{"linux", "linux", "linux", "linux", "Linux", "windows", "windows", "darwin", "macOS", "freebsd"}
	indexArch     = []string{"amd64", "amd64", "arm64", "arm64", "arm", "arm", "386", "x86_64", "aarch64", "armhf", "armel", "i386", "ARM64", "ppc64le", "riscv64", "s390x", "mips64le", "armv7l"}
	indexVariant  = []string{"", "", "", "", "", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "8", "7", "v8.0", "v8.1", "v8.5", "v9", "9.0", "v9.1", "v9.7", "V3", "v10", "v4", "power9", "rva22u64", "softfloat", "v99"}
	indexVersion  = []string{"", "", "", "10.0.17763.1", "10.0.17763.20", "10.0.17763", "10.0.20348.999", "10.0.20348.1000", "10.0.25398.1", "10.0.26100.7", "10.0.26200.1", "ltsc2022"}
	indexFeatures = [][]string{nil, nil, nil, nil, nil, {"gpu"}, {"gpu", "rdma"}, {"rdma", "gpu"}, {"win32k"}}
)

func randomPlatform(r *rand.Rand) ocispec.Platform {
	pick := func(list []string) string { return list[r.IntN(len(list))] }
	return ocispec.Platform{
		OS: pick(indexOS), Architecture: pick(indexArch), Variant: pick(indexVariant), OSVersion: pick(indexVersion),
		OSFeatures: slices.Clone(indexFeatures[r.IntN(len(indexFeatures))]),
	}
}

func randomIndex(r *rand.Rand) (idx ocispec.Index, want ocispec.Platform) {
	want = randomPlatform(r)
	for i := range 1 + r.IntN(8) {
		p := randomPlatform(r)
		if r.IntN(2) == 0 { // like want, so that there is something to choose from
			p.OS = want.OS
		}
		if r.IntN(3) == 0 {
			p.OS, p.Architecture = want.OS, want.Architecture
		}
		d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(fmt.Sprint(i)), Size: 5, Platform: &p}
		if r.IntN(20) == 0 {
			d.Platform = nil
		}
		idx.Manifests = append(idx.Manifests, d)
	}
	return idx, want
}

// reasonFor returns the rule by which package index differs from containerd on purpose. It
// returns "" if the difference is a fault.
func reasonFor(want ocispec.Platform, ours, theirs *ocispec.Platform) string {
	w := index.Normalize(want)
	self := func(p *ocispec.Platform) bool {
		return p != nil && index.Normalize(*p).Architecture == w.Architecture && index.Normalize(*p).Variant == w.Variant
	}
	plain := func(p *ocispec.Platform) bool {
		return p != nil && index.Normalize(*p).Architecture == w.Architecture && index.Normalize(*p).Variant == ""
	}
	theirRank, ourRank := ladderRank(want, theirs), ladderRank(want, ours)
	number := strings.TrimPrefix(w.Variant, "v")
	numeric := number != "" && strings.Trim(number, "0123456789") == ""
	switch {
	case w.Architecture == "amd64" && numeric && number == w.Variant:
		return "a bare number is not a level of amd64, but an unknown variant"
	case (w.Architecture == "amd64" || w.Architecture == "arm") && numeric && len(number) > 1:
		return "v10 and above, which do not exist, take v9 and below, but not each other"
	case w.OS == "windows" && ours != nil && theirs != nil && theirRank == ourRank:
		return "Windows: among equal architectures the very version, then the highest revision; containerd's Only takes the first"
	case w.Architecture == "arm64" && self(ours) && theirRank != 0:
		return "a variant of arm64 that containerd does not know matches itself"
	case plain(ours) && w.Variant != "" && slices.Contains([]string{"amd64", "ppc64le", "riscv64", "s390x"}, w.Architecture):
		return "a variant that no ladder of containerd has falls to the plain architecture: " + w.Architecture
	case slices.Contains([]string{"ppc64le", "riscv64"}, w.Architecture) && ours != nil && ourRank > 0 && theirs == nil:
		return "POWER and RISC-V variants have chains"
	}
	return ""
}

// ladderRank returns the position of a platform in the fallbacks of want, or -1.
func ladderRank(want ocispec.Platform, p *ocispec.Platform) int {
	if p == nil {
		return -1
	}
	n := index.Normalize(*p)
	return slices.IndexFunc(index.Fallbacks(want), func(f ocispec.Platform) bool {
		return f.Architecture == n.Architecture && f.Variant == n.Variant
	})
}

// TestSelectLikeContainerd compares the choice in a million generated indexes with the choice of
// containerd by platforms.Only and OnlyStrict.
func TestSelectLikeContainerd(t *testing.T) {
	rounds := 1_000_000
	if testing.Short() {
		rounds = 50_000
	}
	random := rand.New(rand.NewPCG(4, 4))
	reasons := map[string]int{}
	equal, chosen, faults := 0, 0, 0
	for range rounds {
		idx, want := randomIndex(random)
		strict := random.IntN(4) == 0
		matcher := platforms.Only(want)
		if strict {
			matcher = platforms.OnlyStrict(want)
		}
		theirs := onlyContainerd(idx, matcher)
		ours := -1
		if c, err := (index.Selector{Strict: strict}).Select(idx, want); err == nil {
			chosen++
			ours = slices.IndexFunc(idx.Manifests, func(d ocispec.Descriptor) bool { return d.Digest == c.Descriptor.Digest })
		}
		if ours == theirs {
			equal++
			continue
		}
		at := func(i int) *ocispec.Platform {
			if i < 0 {
				return nil
			}
			return idx.Manifests[i].Platform
		}
		reason := reasonFor(want, at(ours), at(theirs))
		reasons[reason]++
		if reason == "" {
			if faults++; faults <= 10 {
				t.Errorf("want %s strict %v: ours %d %s, containerd %d %s of\n%s", index.FormatPlatform(want), strict, ours, spellPlatform(at(ours)), theirs, spellPlatform(at(theirs)), spellIndex(idx))
			}
		}
	}
	t.Logf("%d indexes, %d with a choice: %d equal", rounds, chosen, equal)
	for _, r := range slices.Sorted(maps.Keys(reasons)) {
		t.Logf("%7d %s", reasons[r], r)
	}
	assert.Greater(t, chosen, rounds/4)
}

func spellPlatform(p *ocispec.Platform) string {
	if p == nil {
		return "none"
	}
	return index.FormatPlatform(*p)
}

func spellIndex(idx ocispec.Index) string {
	var b strings.Builder
	for i, d := range idx.Manifests {
		fmt.Fprintf(&b, "\t%d %s\n", i, spellPlatform(d.Platform))
	}
	return b.String()
}
