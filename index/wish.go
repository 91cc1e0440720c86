package index

import (
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A wish is a platform that was asked for, made ready for many comparisons.
type wish struct {
	platform ocispec.Platform // normalised
	ladder   ladder
	windows  windowsHost // only if the OS is windows
}

// A score says how well an entry fits. The smaller rung is better, then more
// features, then the higher version.
type score struct {
	rung     int
	features int
	version  uint64
}

// resort is the rung of entries without platform, below all others.
const resort = maxRungs

// prepare makes a zero wish ready, and checks what was asked for. The error is a
// *PlatformError.
func (w *wish) prepare(s Selector, want *ocispec.Platform) error {
	w.platform = *want
	normalize(&w.platform)
	if reason := incomplete(&w.platform); reason != "" {
		return &PlatformError{Input: FormatPlatform(*want), Reason: reason}
	}
	if s.Strict {
		w.ladder.add(w.platform.Architecture, w.platform.Variant)
	} else {
		w.ladder.climb(w.platform.Architecture, w.platform.Variant)
	}
	if w.platform.OS == "windows" {
		w.windows = newWindowsHost(w.platform.OSVersion)
	}
	return nil
}

func (sc score) better(b score) bool {
	if sc.rung != b.rung {
		return sc.rung < b.rung
	}
	if sc.features != b.features {
		return sc.features > b.features
	}
	return sc.version > b.version
}

// rate compares a platform with the wish; why is "" if it fits.
func (w *wish) rate(p *ocispec.Platform) (sc score, why Why) {
	if p.OS != w.platform.OS && normalizeOS(p.OS) != w.platform.OS {
		return sc, WhyOS
	}
	if canonicalArch(p.Architecture) && !w.ladder.has(p.Architecture) {
		return sc, WhyArch // most entries of an index end here
	}
	arch, variant := normalizeArch(p.Architecture, p.Variant)
	if !w.ladder.has(arch) {
		return sc, WhyArch
	}
	if sc.rung = w.ladder.find(arch, variant); sc.rung < 0 {
		return sc, WhyVariant
	}
	ok := true
	if len(p.OSFeatures) > 0 {
		if sc.features, ok = w.features(p.OSFeatures); !ok {
			return sc, WhyOSFeatures
		}
	}
	if w.platform.OS == "windows" {
		if sc.version, ok = w.windows.rate(p.OSVersion); !ok {
			return sc, WhyOSVersion
		}
	}
	return sc, ""
}

// features counts the features an entry asks for; ok is false if the wish lacks
// one of them. win32k is no feature on Windows: every host has it.
func (w *wish) features(entry []string) (n int, ok bool) {
	granted := func(f string) bool { return f == "win32k" && w.platform.OS == "windows" }
	for _, f := range entry {
		if !granted(f) && !slices.Contains(w.platform.OSFeatures, f) {
			return 0, false
		}
	}
	// The entry's may be a stranger's million, the wish's are few, and each once.
	for _, f := range w.platform.OSFeatures {
		if !granted(f) && slices.Contains(entry, f) {
			n++
		}
	}
	return n, true
}

// judge says how well an entry fits by its platform, or why it does not. An
// entry that fits may still be one that reject leaves out.
func (w *wish) judge(d *ocispec.Descriptor) (score, Why) {
	if platformless(d) {
		return score{rung: resort}, ""
	}
	return w.rate(d.Platform)
}
