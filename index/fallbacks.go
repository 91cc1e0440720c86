package index

import (
	"math"
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
	var f fallbacks
	f.fill(p.Architecture, p.Variant)
	list := make([]ocispec.Platform, 0, f.n)
	for _, r := range f.list[:f.n] {
		p.Architecture, p.Variant = r.arch, r.variant
		list = append(list, p)
	}
	return list
}

// fallbacks are the architectures and variants that a processor runs, best first. The list
// is an array, so that Select allocates nothing.
type fallbacks struct {
	list [maxFallbacks]archVariant
	n    int
}

type archVariant struct{ arch, variant string }

// maxFallbacks is the length of the longest list: arm64/v9.7 with v9.6 to v9, v8.9 to v8, and 32-bit v8 to v5.
const maxFallbacks = 8 + 10 + 4

// fill lists the fallbacks of an architecture and variant, both normalised. An unknown
// variant falls back only to the plain architecture, and only if plain code runs on all
// variants of the architecture.
func (f *fallbacks) fill(arch, variant string) {
	switch arch {
	case "amd64": // v1 is plain amd64; v4 is the highest today, v5 to v9 are for the future
		f.chain(arch, variant, "v", "v9", "v8", "v7", "v6", "v5", "v4", "v3", "v2")
		f.plain(arch)
		f.add("386", "")
	case "arm": // there is no plain arm, because Normalize makes it v7
		f.chain(arch, variant, "v", "v9", "v8", "v7", "v6", "v5")
	case "arm64":
		f.arm64(variant)
	case "ppc64", "ppc64le":
		f.chain(arch, variant, "power", "power11", "power10", "power9", "power8")
		f.plain(arch)
	case "riscv64":
		f.chain(arch, variant, "rva", "rva23u64", "rva22u64", "rva20u64")
		f.plain(arch)
	case "s390x", "loong64":
		f.add(arch, variant)
		f.plain(arch)
	default:
		f.add(arch, variant)
	}
}

// chain adds a variant and all known variants below it. A variant with a number above that
// of the highest known variant is above all of them.
func (f *fallbacks) chain(arch, variant, prefix string, known ...string) {
	f.add(arch, variant)
	below := slices.Index(known, variant) + 1
	if below == 0 && !above(variant, prefix, known[0]) {
		return
	}
	for _, v := range known[below:] {
		f.add(arch, v)
	}
}

// above reports whether a variant is prefix and a number of at most two digits, which is
// greater than that of the highest known variant.
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

// plain adds the architecture without variant, unless the list has it already.
func (f *fallbacks) plain(arch string) {
	if f.list[0].variant != "" {
		f.add(arch, "")
	}
}

// arm64 lists the fallbacks of 64-bit ARM: v9.x has all instructions of v8.(x+5). Each
// known version lists 32-bit code, too, although some cores cannot run it.
func (f *fallbacks) arm64(variant string) {
	v9 := [...]string{"v9", "v9.1", "v9.2", "v9.3", "v9.4", "v9.5", "v9.6", "v9.7"}
	v8 := [...]string{"", "v8.1", "v8.2", "v8.3", "v8.4", "v8.5", "v8.6", "v8.7", "v8.8", "v8.9"}
	minor8 := slices.Index(v8[:], variant)
	if minor9 := slices.Index(v9[:], variant); minor9 >= 0 {
		f.down("arm64", v9[:minor9+1])
		minor8 = min(minor9+5, len(v8)-1)
	}
	if minor8 < 0 {
		f.add("arm64", variant)
		return
	}
	f.down("arm64", v8[:minor8+1])
	f.chain("arm", "v8", "v", "v8", "v7", "v6", "v5")
}

// down adds variants from the last to the first.
func (f *fallbacks) down(arch string, variants []string) {
	for _, v := range slices.Backward(variants) {
		f.add(arch, v)
	}
}

func (f *fallbacks) add(arch, variant string) {
	f.list[f.n] = archVariant{arch, variant}
	f.n++
}

// find returns the position of an architecture and variant, -1 if it is not listed.
func (f *fallbacks) find(arch, variant string) int {
	for i := range f.list[:f.n] {
		if r := &f.list[i]; r.variant == variant && r.arch == arch {
			return i
		}
	}
	return -1
}

// hasArch reports whether an architecture is listed in any variant.
func (f *fallbacks) hasArch(arch string) bool {
	return arch == f.list[0].arch || arch == f.list[f.n-1].arch
}

// ltsc2022 is the build of Windows Server 2022, the first that later builds stay
// compatible with. See Microsoft's "Windows container version compatibility".
const ltsc2022 = 20348

// A windowsVersion is an os.version of Windows: 10.0.20348.2227.
type windowsVersion struct {
	major, minor    uint8
	build, revision uint32
}

// parseWindows reads a version of at least three numbers; ok is false for any other text. A
// fourth part that is not a number counts as 0.
func parseWindows(s string) (v windowsVersion, ok bool) {
	major, rest, _ := strings.Cut(s, ".")
	minor, rest, ok := strings.Cut(rest, ".")
	if !ok {
		return windowsVersion{}, false
	}
	build, rest, _ := strings.Cut(rest, ".")
	revision, _, _ := strings.Cut(rest, ".")
	a, err1 := strconv.ParseUint(major, 10, 8)
	b, err2 := strconv.ParseUint(minor, 10, 8)
	c, err3 := strconv.ParseUint(build, 10, 16)
	if err1 != nil || err2 != nil || err3 != nil {
		return windowsVersion{}, false
	}
	d, err := strconv.ParseUint(revision, 10, 32)
	if err != nil {
		d = 0
	}
	return windowsVersion{major: uint8(a), minor: uint8(b), build: uint32(c), revision: uint32(d)}, true
}

// runs reports whether a host of version v runs an image of version image. A host before
// Windows Server 2022 runs only its own build. A later host runs the builds from the
// previous LTSC release up to its own.
func (v windowsVersion) runs(image windowsVersion) bool {
	switch {
	case v.major != image.major || v.minor != image.minor:
		return false
	case v.build < ltsc2022:
		return v.build == image.build
	}
	// Hosts of 2022 and of 2025 both run images from 2022 on; a later LTSC release needs a
	// third case here.
	return ltsc2022 <= image.build && image.build <= v.build
}

// A windowsHost compares the Windows versions of entries with that of the target.
type windowsHost struct {
	text    string
	version windowsVersion
	known   bool // the text is a version; if not, every entry fits
}

func newWindowsHost(osVersion string) windowsHost {
	v, ok := parseWindows(osVersion)
	return windowsHost{text: osVersion, version: v, known: ok}
}

// fits reports whether the host runs an entry of this version, and how well: the same
// version is best, then the highest, then an entry without version. All entries are
// equal for a host whose version is not known.
func (h windowsHost) fits(osVersion string) (rating uint64, ok bool) {
	if !h.known || osVersion == "" {
		return 0, true
	}
	v, ok := parseWindows(osVersion)
	if !ok || !h.version.runs(v) {
		return 0, false
	}
	if osVersion == h.text {
		return math.MaxUint64, true
	}
	return uint64(v.build)<<32 | uint64(v.revision), true
}
