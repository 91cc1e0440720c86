package index

import (
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ParsePlatform reads os/arch[/variant]. The OS may have a version and features:
// linux/arm64/v8, windows(10.0.17763+win32k)/amd64. The result is normalised. ParsePlatform
// does not read the machine, so it refuses text that has only an OS or only an
// architecture; [CompletePlatform] accepts such text. It also refuses an OS that is the
// name of an architecture, because arm/v7 usually means linux/arm/v7, and there is no OS
// named arm. Errors are *PlatformError.
func ParsePlatform(s string) (ocispec.Platform, error) {
	if os, _, _ := strings.Cut(s, "("); s != "" && !strings.Contains(s, "/") && (knownOS(normalizeOS(os)) || knownArch(s)) {
		example := "linux/amd64"
		if knownArch(s) {
			example = osFirst([]string{s})
		}
		return ocispec.Platform{}, &PlatformError{Input: s, Detail: "only an OS or only an architecture; write both, such as " + example}
	}
	return CompletePlatform(s, ocispec.Platform{})
}

// CompletePlatform is like [ParsePlatform], but the text may have only an OS or only an
// architecture. The other one is taken from host, for example Host(). If the OS is that of
// the host, its version and features are taken from host, too.
func CompletePlatform(s string, host ocispec.Platform) (ocispec.Platform, error) {
	var p ocispec.Platform
	bad := func(reason string) (ocispec.Platform, error) {
		return ocispec.Platform{}, &PlatformError{Input: s, Detail: reason}
	}
	parts := strings.Split(s, "/")
	if len(parts) > 3 {
		return bad("more than three parts; want os/arch or os/arch/variant")
	}
	for i, part := range parts {
		if i > 0 && !component(part, true) {
			return bad("a part between slashes may have letters, digits, _, - and ., and begins with a letter or digit")
		}
	}
	if !parseOS(parts[0], &p) {
		return bad("malformed OS; write a name such as linux or windows(10.0.17763+feature)")
	}
	switch {
	case len(parts) > 1 && (knownArch(p.OS) || otherArch(p.OS) != ""):
		return bad("the OS comes first, and " + p.OS + " is the name of an architecture; write " + osFirst(parts))
	case len(parts) > 1 && !knownOS(normalizeOS(p.OS)) && knownOS(normalizeOS(parts[1])):
		return bad("the OS comes first, and " + parts[1] + " is the name of an OS; write " + osFirst(parts))
	case len(parts) > 1:
		p.Architecture = parts[1]
		p.Variant = strings.Join(parts[2:], "")
	case knownOS(normalizeOS(p.OS)):
		p.Architecture, p.Variant = host.Architecture, host.Variant
		if p.OSVersion == "" && len(p.OSFeatures) == 0 && normalizeOS(p.OS) == normalizeOS(host.OS) {
			p.OSVersion, p.OSFeatures = host.OSVersion, host.OSFeatures
		}
	case knownArch(s):
		p.Architecture = s
		p.OS, p.OSVersion, p.OSFeatures = host.OS, host.OSVersion, host.OSFeatures
	default:
		return bad("not a known OS or architecture; write both, such as linux/amd64")
	}
	p = Normalize(p)
	if reason := incomplete(&p); reason != "" {
		return bad(reason)
	}
	return p, nil
}

// osFirst returns the right spelling of a platform whose architecture comes first. Each
// further part is the OS, the architecture again, or a variant. If no OS follows, it is
// linux. After WebAssembly, which has no variants, each further part is the OS.
func osFirst(parts []string) string {
	arch, _, _ := strings.Cut(parts[0], "(")
	if spelled := otherArch(arch); spelled != "" {
		arch = spelled
	} else {
		arch, _ = normalizeArch(arch, "")
	}
	os, variant := "linux", ""
	for _, part := range parts[1:] {
		switch {
		case knownOS(normalizeOS(part)), arch == "wasm":
			os = part
		case knownArch(part), otherArch(part) != "", strings.Contains(arch, "/"):
		case variant == "" && arch == "arm" && len(part) == 1:
			variant = "/v" + part
		case variant == "":
			variant = "/" + part
		}
	}
	return os + "/" + arch + variant
}

// otherArch returns Go's spelling of a name that uname, Debian, LLVM or Docker Hub uses for
// an architecture, and "" for any other name. normalizeArch has containerd's rules, which
// do not change these names.
func otherArch(name string) string {
	switch strings.ToLower(name) {
	case "arm32v5", "armv5", "armv5l", "armv5te", "armv5tel":
		return "arm/v5"
	case "arm32v6", "armv6", "armv6l", "armv6hl":
		return "arm/v6"
	case "arm32v7", "armv7", "armv7l", "armv7hl", "armv7a":
		return "arm/v7"
	case "arm64v8", "armv8", "armv8l", "armv9":
		return "arm64"
	case "i486", "i586", "i686", "x86":
		return "386"
	case "x64":
		return "amd64"
	case "ppc64el", "powerpc64le":
		return "ppc64le"
	case "powerpc64":
		return "ppc64"
	case "powerpc":
		return "ppc"
	case "mipsel":
		return "mipsle"
	case "mips64el":
		return "mips64le"
	case "loongarch64":
		return "loong64"
	case "wasm32", "wasm64":
		return "wasm"
	}
	return ""
}

// incomplete returns why no image can be chosen for a normalised platform. It returns "" if
// one can.
func incomplete(p *ocispec.Platform) string {
	switch {
	case p.OS == "" || p.Architecture == "":
		return "OS or architecture is missing; write both, such as linux/amd64"
	case p.OS == unknown || p.Architecture == unknown:
		return "unknown marks attestations and is not a platform"
	}
	return ""
}

// unknown is what BuildKit writes as OS and architecture of attestations.
const unknown = "unknown"

// parseOS reads name, name(version) or name(version+feature+...).
func parseOS(s string, p *ocispec.Platform) bool {
	name, options, ok := strings.Cut(s, "(")
	if !component(name, false) {
		return false
	}
	p.OS = name
	if !ok {
		return true
	}
	options, ok = strings.CutSuffix(options, ")")
	if !ok {
		return false
	}
	for i, option := range strings.Split(options, "+") {
		text, ok := unescape(option)
		switch {
		case !ok || i > 0 && text == "":
			return false
		case i == 0:
			p.OSVersion = text
		default:
			p.OSFeatures = append(p.OSFeatures, text)
		}
	}
	return true
}

// component reports whether s can be a part between slashes. dots says whether it may have
// dots.
func component(s string, dots bool) bool {
	if s == "" || !alphanumeric(s[0]) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !alphanumeric(c) && c != '_' && c != '-' && (c != '.' || !dots) {
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// plainOption reports whether c is written without escaping in a version or feature.
func plainOption(c byte) bool {
	return alphanumeric(c) || c == '_' || c == '-' || c == '.'
}

const hexDigits = "0123456789ABCDEF"

// escape writes a version or feature so that unescape reads it back.
func escape(b *strings.Builder, s string) {
	for i := range len(s) {
		if c := s[i]; plainOption(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
}

// unescape reads %XX in a version or feature.
func unescape(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case plainOption(s[i]):
			b.WriteByte(s[i])
		case s[i] == '%' && i+2 < len(s):
			high := strings.IndexByte(hexDigits, upper(s[i+1]))
			low := strings.IndexByte(hexDigits, upper(s[i+2]))
			if high < 0 || low < 0 {
				return "", false
			}
			b.WriteByte(byte(high<<4 | low))
			i += 2
		default:
			return "", false
		}
	}
	return b.String(), true
}

func upper(c byte) byte {
	if 'a' <= c && c <= 'f' {
		return c - 'a' + 'A'
	}
	return c
}

// FormatPlatform returns a platform in the form that ParsePlatform reads:
// os(version+features)/arch/variant, with the features sorted. containerd's
// platforms.FormatAll does the same. FormatPlatform does not normalise. A platform without
// OS is "unknown". OS, architecture and variant are not escaped, so escape the result if
// they come from a registry.
func FormatPlatform(p ocispec.Platform) string {
	if p.OS == "" {
		return unknown
	}
	if p.OSVersion == "" && len(p.OSFeatures) == 0 {
		return joinPlatform(p.OS, p.Architecture, p.Variant)
	}
	var b strings.Builder
	b.WriteString(p.OS)
	b.WriteByte('(')
	escape(&b, p.OSVersion)
	features := slices.Clone(p.OSFeatures)
	slices.Sort(features)
	for _, f := range slices.Compact(features) {
		if f != "" {
			b.WriteByte('+')
			escape(&b, f)
		}
	}
	b.WriteByte(')')
	return joinPlatform(b.String(), p.Architecture, p.Variant)
}

func joinPlatform(os, arch, variant string) string {
	switch {
	case arch == "" && variant == "":
		return os
	case variant == "":
		return os + "/" + arch
	case arch == "":
		return os + "/" + variant
	}
	return os + "/" + arch + "/" + variant
}

// knownOS and knownArch report whether Go has an OS or an architecture of this name. They
// decide what a name without a slash means.
func knownOS(s string) bool {
	switch s {
	case "aix", "android", "darwin", "dragonfly", "freebsd", "hurd", "illumos", "ios", "js", "linux", "nacl", "netbsd",
		"openbsd", "plan9", "solaris", "wasip1", "windows", "zos":
		return true
	}
	return false
}

func knownArch(s string) bool {
	arch, _ := normalizeArch(s, "")
	switch arch {
	case "386", "amd64", "amd64p32", "arm", "armbe", "arm64", "arm64be", "loong64", "mips", "mipsle", "mips64", "mips64le",
		"mips64p32", "mips64p32le", "ppc", "ppc64", "ppc64le", "riscv", "riscv64", "s390", "s390x", "sparc", "sparc64", "wasm":
		return true
	}
	return false
}

// Normalize spells a platform as Go does, so that equal platforms compare equal: lower
// case, x86_64 and x86-64 as amd64, aarch64 as arm64, i386 as 386, armhf as arm/v7, armel
// as arm/v6, macos as darwin. The variant is removed if it is the architecture's first
// (amd64/v1, arm64/v8), and 32-bit arm without variant gets v7. The os.features are sorted,
// each once. The rules are those of containerd's platforms package, except that an empty OS
// stays empty. Unknown names stay as they are.
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
	if os == "linux" || os == "windows" { // nearly all images
		return os
	}
	os = strings.ToLower(os)
	if os == "macos" {
		return "darwin"
	}
	return os
}

// canonicalArch reports whether an architecture is one that most indexes name, in
// Normalize's spelling. It returns false for less common architectures.
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
