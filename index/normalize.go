package index

import (
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Normalize spells a platform as Go does, so that equal platforms compare
// equal: lower case, x86_64 and x86-64 as amd64, aarch64 as arm64, i386 as 386,
// armhf as arm/v7, armel as arm/v6, macos as darwin; without variant where that
// is the architecture's first (amd64/v1, arm64/v8), with one for 32-bit arm (v7);
// os.features sorted, each once. The rules are those of containerd's platforms
// package, but for an empty OS, which stays empty. What is unknown stays as it is.
func Normalize(p ocispec.Platform) ocispec.Platform {
	normalize(&p)
	return p
}

func normalize(p *ocispec.Platform) {
	p.OS = normalizeOS(p.OS)
	p.Architecture, p.Variant = normalizeArch(p.Architecture, p.Variant)
	if len(p.OSFeatures) > 0 {
		p.OSFeatures = slices.Clone(p.OSFeatures)
		slices.Sort(p.OSFeatures)
		p.OSFeatures = slices.Compact(p.OSFeatures)
	}
}

func normalizeOS(os string) string {
	if os == "linux" || os == "windows" { // nearly all there are
		return os
	}
	os = strings.ToLower(os)
	if os == "macos" {
		return "darwin"
	}
	return os
}

// canonicalArch reports whether an architecture is one of those that indexes
// mostly name, spelled as Normalize does. Others may be so spelled, too.
func canonicalArch(arch string) bool {
	switch arch {
	case "amd64", "arm64", "arm", "386", "ppc64le", "s390x", "riscv64", "mips64le", "loong64", unknown:
		return true
	}
	return false
}

func normalizeArch(arch, variant string) (string, string) {
	if !canonicalArch(arch) {
		arch = strings.ToLower(arch)
	}
	if variant != "" {
		variant = strings.ToLower(variant)
	}
	switch arch {
	case "amd64", "x86_64", "x86-64":
		if variant == "v1" {
			variant = ""
		}
		return "amd64", variant
	case "arm64", "aarch64":
		return "arm64", normalizeARM64(variant)
	case "arm":
		return "arm", normalizeARM(variant)
	case "armhf":
		return "arm", "v7"
	case "armel":
		return "arm", "v6"
	case "i386":
		return "386", ""
	}
	return arch, variant
}

func normalizeARM64(variant string) string {
	switch variant {
	case "8", "v8", "v8.0":
		return ""
	case "9", "9.0", "v9.0":
		return "v9"
	}
	return variant
}

func normalizeARM(variant string) string {
	switch variant {
	case "", "7":
		return "v7"
	case "5":
		return "v5"
	case "6":
		return "v6"
	case "8":
		return "v8"
	}
	return variant
}
