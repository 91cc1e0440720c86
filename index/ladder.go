package index

import (
	"slices"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Fallbacks returns the platforms that a machine of platform p runs, best
// first; the first is p itself, normalised. See the package comment for the
// rules. It returns nil for a platform without OS or architecture.
func Fallbacks(p ocispec.Platform) []ocispec.Platform {
	p = Normalize(p)
	if p.OS == "" || p.Architecture == "" {
		return nil
	}
	var l ladder
	l.climb(p.Architecture, p.Variant)
	list := make([]ocispec.Platform, 0, l.n)
	for _, r := range l.rungs[:l.n] {
		p.Architecture, p.Variant = r.arch, r.variant
		list = append(list, p)
	}
	return list
}

// A ladder is what an architecture runs, best first.
type ladder struct {
	rungs [maxRungs]rung
	n     int
}

type rung struct{ arch, variant string }

// maxRungs is the longest ladder: arm64/v9.7 with v9.6 to v9, v8.9 to v8, and 32-bit v8 to v5.
const maxRungs = 8 + 10 + 4

// climb fills the ladder for an architecture and variant, both normalised. A
// variant nobody knows is on it alone, or above the plain architecture where
// that is the common base.
func (l *ladder) climb(arch, variant string) {
	switch arch {
	case "amd64": // there are v1, which is plain, to v4; the rest is ready for more
		l.chain(arch, variant, "v", "v9", "v8", "v7", "v6", "v5", "v4", "v3", "v2")
		l.plain(arch)
		l.add("386", "")
	case "arm": // no plain arm: that is v7
		l.chain(arch, variant, "v", "v9", "v8", "v7", "v6", "v5")
	case "arm64":
		l.arm64(variant)
	case "ppc64", "ppc64le":
		l.chain(arch, variant, "power", "power11", "power10", "power9", "power8")
		l.plain(arch)
	case "riscv64":
		l.chain(arch, variant, "rva", "rva23u64", "rva22u64", "rva20u64")
		l.plain(arch)
	case "s390x", "loong64":
		l.add(arch, variant)
		l.plain(arch)
	default:
		l.add(arch, variant)
	}
}

// chain adds a variant and the known ones below it: all of them for a number
// that is above the highest known one.
func (l *ladder) chain(arch, variant, prefix string, known ...string) {
	l.add(arch, variant)
	below := slices.Index(known, variant) + 1
	if below == 0 && !above(variant, prefix, known[0]) {
		return
	}
	for _, v := range known[below:] {
		l.add(arch, v)
	}
}

// above reports whether a variant is prefix and a number of at most two digits,
// greater than that of the highest known one.
func above(variant, prefix, highest string) bool {
	number, ok := strings.CutPrefix(variant, prefix)
	if !ok || len(number) == 0 || len(number) > 2 || number[0] == '0' {
		return false
	}
	n, err := strconv.Atoi(number)
	if err != nil {
		return false
	}
	top, err := strconv.Atoi(strings.TrimPrefix(highest, prefix))
	return err == nil && n > top
}

// plain adds the architecture without variant, if that is not what was asked for.
func (l *ladder) plain(arch string) {
	if l.rungs[0].variant != "" {
		l.add(arch, "")
	}
}

// arm64 fills the ladder for 64-bit ARM: v9.x holds what is in v8.(x+5), and
// every known version also runs 32-bit code, though a core may lack it.
func (l *ladder) arm64(variant string) {
	v9 := [...]string{"v9", "v9.1", "v9.2", "v9.3", "v9.4", "v9.5", "v9.6", "v9.7"}
	v8 := [...]string{"", "v8.1", "v8.2", "v8.3", "v8.4", "v8.5", "v8.6", "v8.7", "v8.8", "v8.9"}
	minor8 := slices.Index(v8[:], variant)
	if minor9 := slices.Index(v9[:], variant); minor9 >= 0 {
		l.down("arm64", v9[:minor9+1])
		minor8 = min(minor9+5, len(v8)-1)
	}
	if minor8 < 0 {
		l.add("arm64", variant)
		return
	}
	l.down("arm64", v8[:minor8+1])
	l.chain("arm", "v8", "v", "v8", "v7", "v6", "v5")
}

// down adds variants from the last to the first.
func (l *ladder) down(arch string, variants []string) {
	for _, v := range slices.Backward(variants) {
		l.add(arch, v)
	}
}

func (l *ladder) add(arch, variant string) {
	l.rungs[l.n] = rung{arch, variant}
	l.n++
}

// find returns the rung of an architecture and variant, -1 if it is on none.
func (l *ladder) find(arch, variant string) int {
	for i := range l.rungs[:l.n] {
		if r := &l.rungs[i]; r.variant == variant && r.arch == arch {
			return i
		}
	}
	return -1
}

// has reports whether an architecture is on the ladder in any variant.
func (l *ladder) has(arch string) bool {
	return arch == l.rungs[0].arch || arch == l.rungs[l.n-1].arch
}
