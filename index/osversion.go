package index

import (
	"math"
	"strconv"
	"strings"
)

// ltsc2022 is the build of Windows Server 2022, the first that later builds stay
// compatible with. See Microsoft's "Windows container version compatibility".
const ltsc2022 = 20348

// A windowsVersion is an os.version of Windows: 10.0.20348.2227.
type windowsVersion struct {
	major, minor    uint8
	build, revision uint32
}

// parseWindows reads a version of at least three numbers; ok is false for any
// other text. A fourth that is no number counts as 0.
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

// runs reports whether a host of version v runs an image of version image: a
// host before Windows Server 2022 only its own build, a later one the builds
// from the LTSC release before its own up to itself.
func (v windowsVersion) runs(image windowsVersion) bool {
	switch {
	case v.major != image.major || v.minor != image.minor:
		return false
	case v.build < ltsc2022:
		return v.build == image.build
	}
	// Hosts of 2022 and of 2025 both reach back to 2022; a later LTSC release
	// begins a third case here.
	return ltsc2022 <= image.build && image.build <= v.build
}

// A windowsHost matches entries' versions against the wish's.
type windowsHost struct {
	text    string
	version windowsVersion
	known   bool // the text is a version; if not, every entry will do
}

func newWindowsHost(osVersion string) windowsHost {
	v, ok := parseWindows(osVersion)
	return windowsHost{text: osVersion, version: v, known: ok}
}

// rate reports whether an entry's version will do, and how well: the very
// version best, then the highest, then none at all. All are equal for a host
// whose version is not known.
func (h windowsHost) rate(osVersion string) (rating uint64, ok bool) {
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
