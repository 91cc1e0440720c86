package index

import (
	"runtime"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Host returns the platform of the machine. On Linux it reads the variant of a 32-bit ARM
// core and the level of an amd64 one (v2 to v4, "" for v1) from /proc/cpuinfo, and on
// Windows the version and build of the system. Each call reads the machine, so keep the
// result. The OS is that of the program: on macOS it is darwin, for which there are hardly
// any images.
//
// The amd64 level adds fallbacks. For a Strict Selector set Variant to "" on amd64, because
// most images name no variant.
func Host() ocispec.Platform {
	return platformOf(runtime.GOOS, runtime.GOARCH, readMachine())
}

// A machine has the facts that the operating system gives about the machine.
type machine struct {
	cpuinfo   string // text of /proc/cpuinfo; its first processor is enough
	uname     string // machine, as uname -m prints it
	osVersion string
}

// platformOf returns the platform of a machine.
func platformOf(goos, goarch string, m machine) ocispec.Platform {
	p := ocispec.Platform{OS: goos, Architecture: goarch, OSVersion: m.osVersion}
	switch goarch {
	case "arm":
		p.Variant = m.armVariant()
	case "amd64":
		p.Variant = m.amd64Level()
	}
	return Normalize(p)
}

// armVariant returns the version of the architecture from cpuinfo, else from uname. It
// returns v7 if neither has one.
func (m machine) armVariant() string {
	arch := m.field("CPU architecture")
	// The kernel calls the ARMv6 core of the first Raspberry Pi 7.
	if arch == "7" && strings.HasPrefix(strings.ToLower(m.field("model name")), "armv6-compatible") {
		return "v6"
	}
	for _, s := range [...]string{arch, m.uname} {
		if v := armVersion(strings.ToLower(s)); v != "" {
			return v
		}
	}
	return "v7"
}

// armVersion reads a version as the kernel writes it (7, 5TEJ, 7M, AArch64, and ?(17)
// for a version without a name) or as uname writes it (armv7l).
func armVersion(s string) string {
	switch s {
	case "aarch64":
		return "v8"
	case "?(12)", "?(13)", "?(14)", "?(15)", "?(16)", "?(17)":
		return "v7"
	}
	s = strings.TrimPrefix(s, "armv")
	if s == "" || s[0] < '3' || s[0] > '8' || len(s) > 1 && '0' <= s[1] && s[1] <= '9' {
		return ""
	}
	return "v" + s[:1]
}

// amd64Level reads the level of the x86-64 psABI from cpuinfo's flags. It returns "" for
// the first level. The kernel lists a flag only if the system lets programs use it.
func (m machine) amd64Level() string {
	flags := map[string]bool{}
	for f := range strings.FieldsSeq(m.field("flags")) {
		flags[f] = true
	}
	all := func(names string) bool {
		for f := range strings.FieldsSeq(names) {
			if !flags[f] {
				return false
			}
		}
		return true
	}
	// pni is SSE3, abm is LZCNT, and xsave is listed where OSXSAVE is set.
	switch {
	case !all("cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"):
		return ""
	case !all("avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"):
		return "v2"
	case !all("avx512f avx512bw avx512cd avx512dq avx512vl"):
		return "v3"
	}
	return "v4"
}

// field returns the first value of a key in cpuinfo, "" if there is none.
func (m machine) field(key string) string {
	for line := range strings.Lines(m.cpuinfo) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(strings.TrimSpace(k), key) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
