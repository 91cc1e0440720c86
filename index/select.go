package index

import (
	"iter"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/mediatype"
)

// A Selector chooses among the entries of an index. The zero Selector takes the best
// fallback if no entry fits exactly.
type Selector struct {
	// Strict takes no fallback: the variant must be the requested one, after Normalize.
	// Nodes whose containerd pulls by its transfer service, as it does by default, choose in
	// this way. They ask for no variant on amd64. [Host] returns a variant there, such as
	// v3, which an entry without variant does not fit; so clear it.
	Strict bool
}

// A Choice is one entry of an index that can serve a platform.
type Choice struct {
	Descriptor ocispec.Descriptor
	// Exact is false if a fallback was taken (a variant other than the requested one, 386
	// for amd64, 32-bit ARM for arm64), and if CheckConfig is set.
	Exact bool
	// CheckConfig says that the entry has no platform. Compare the platform in the image's
	// config, and take the next candidate if it does not fit. [Resolver.Resolve] does that.
	CheckConfig bool
}

// Select returns the entry of idx that fits want best. Of entries that are equally good
// it takes the first. It does not read the machine. The error is a *PlatformError if
// want is incomplete, a *NoMatchError if no entry fits, and an *InvalidError if the best
// entry has a bad digest or size.
func (s Selector) Select(idx ocispec.Index, want ocispec.Platform) (Choice, error) {
	var t target
	if err := t.prepare(s, &want); err != nil {
		return Choice{}, err
	}
	best, bestScore := -1, score{}
	for i := range idx.Manifests {
		d := &idx.Manifests[i]
		if sc, why := t.rateEntry(d); why == "" && (best < 0 || sc.better(bestScore)) && reject(d) == "" {
			best, bestScore = i, sc
		}
	}
	if best < 0 {
		return Choice{}, noMatch(idx, want)
	}
	if err := checkDescriptor(&idx.Manifests[best], ErrBadIndex); err != nil {
		return Choice{}, invalid(err.Reason, "manifests[%d]: %s", best, err.Detail)
	}
	return choice(&idx.Manifests[best], bestScore), nil
}

// Candidates yields the entries that fit want, the best first, and equally good ones in the
// order of the index. No work is done before the loop starts. Digests and sizes are not
// checked: Select and Resolve do that. It yields nothing if want is incomplete.
func (s Selector) Candidates(idx ocispec.Index, want ocispec.Platform) iter.Seq[Choice] {
	return func(yield func(Choice) bool) {
		var t target
		if t.prepare(s, &want) != nil {
			return
		}
		for _, c := range t.ranking(idx) {
			if !yield(choice(&idx.Manifests[c.entry], c.score)) {
				return
			}
		}
	}
}

// A candidate is an entry that can serve the target.
type candidate struct {
	entry int // its position in the index
	score
}

// ranking returns the candidates, best first.
func (t *target) ranking(idx ocispec.Index) []candidate {
	var list []candidate
	for i := range idx.Manifests {
		d := &idx.Manifests[i]
		if sc, why := t.rateEntry(d); why == "" && reject(d) == "" {
			list = append(list, candidate{i, sc})
		}
	}
	slices.SortStableFunc(list, func(a, b candidate) int {
		switch {
		case a.better(b.score):
			return -1
		case b.better(a.score):
			return 1
		}
		return 0
	})
	return list
}

func choice(d *ocispec.Descriptor, sc score) Choice {
	return Choice{Descriptor: *d, Exact: sc.fallback == 0, CheckConfig: sc.fallback == lastResort}
}

// noMatch returns the error for an index of which no entry fits want.
func noMatch(idx ocispec.Index, want ocispec.Platform) *NoMatchError {
	e := &NoMatchError{Want: want, Empty: len(idx.Manifests) == 0}
	e.add(idx)
	return e
}

// add adds the platforms of an index to e, and counts the entries that are left out.
func (e *NoMatchError) add(idx ocispec.Index) {
	seen := make(map[string]bool, len(e.Have)+len(idx.Manifests))
	for _, p := range e.Have {
		seen[FormatPlatform(p)] = true
	}
	for i := range idx.Manifests {
		d := &idx.Manifests[i]
		if why := reject(d); why != "" {
			e.leaveOut(why, d)
			continue
		}
		if d.Platform == nil || d.Platform.OS == "" {
			continue
		}
		if spelled := FormatPlatform(*d.Platform); !seen[spelled] {
			seen[spelled] = true
			e.Have = append(e.Have, *d.Platform)
		}
	}
}

// leaveOut counts an entry that is not an image.
func (e *NoMatchError) leaveOut(why Reason, d *ocispec.Descriptor) {
	if e.LeftOut == nil {
		e.LeftOut = map[Reason]int{}
	}
	e.LeftOut[why]++
	if why == ReasonArtifact && e.Artifact == "" && checkDescriptor(d, ErrBadIndex) == nil {
		e.Artifact = digest.Digest(strings.Clone(string(d.Digest)))
	}
}

// A target is the requested platform, normalised, with its fallbacks.
type target struct {
	platform  ocispec.Platform // normalised
	fallbacks fallbacks
	windows   windowsHost // only if the OS is windows
}

// A score says how well an entry fits. An earlier fallback is better; of equal fallbacks,
// more features; of equal features, a higher version.
type score struct {
	fallback int // position in the target's fallbacks; 0 is an exact match
	features int
	version  uint64
}

// lastResort is the fallback of entries without platform, after all others.
const lastResort = maxFallbacks

// prepare fills a zero target and checks the requested platform. The error is a
// *PlatformError.
func (t *target) prepare(s Selector, want *ocispec.Platform) error {
	t.platform = *want
	normalize(&t.platform)
	if reason := incomplete(&t.platform); reason != "" {
		return &PlatformError{Input: FormatPlatform(*want), Detail: reason}
	}
	if s.Strict {
		t.fallbacks.add(t.platform.Architecture, t.platform.Variant)
	} else {
		t.fallbacks.fill(t.platform.Architecture, t.platform.Variant)
	}
	if t.platform.OS == "windows" {
		t.windows = newWindowsHost(t.platform.OSVersion)
	}
	return nil
}

func (sc score) better(b score) bool {
	if sc.fallback != b.fallback {
		return sc.fallback < b.fallback
	}
	if sc.features != b.features {
		return sc.features > b.features
	}
	return sc.version > b.version
}

// rate compares a platform with the target; why is "" if it fits.
func (t *target) rate(p *ocispec.Platform) (sc score, why Reason) {
	if p.OS != t.platform.OS && normalizeOS(p.OS) != t.platform.OS {
		return sc, ReasonOS
	}
	if canonicalArch(p.Architecture) && !t.fallbacks.hasArch(p.Architecture) {
		return sc, ReasonArch // most entries of an index end here
	}
	arch, variant := normalizeArch(p.Architecture, p.Variant)
	if !t.fallbacks.hasArch(arch) {
		return sc, ReasonArch
	}
	if sc.fallback = t.fallbacks.find(arch, variant); sc.fallback < 0 {
		return sc, ReasonVariant
	}
	ok := true
	if len(p.OSFeatures) > 0 {
		if sc.features, ok = t.features(p.OSFeatures); !ok {
			return sc, ReasonOSFeatures
		}
	}
	if t.platform.OS == "windows" {
		if sc.version, ok = t.windows.fits(p.OSVersion); !ok {
			return sc, ReasonOSVersion
		}
	}
	return sc, ""
}

// features counts the features that an entry needs; ok is false if the target lacks one of
// them. win32k is not counted on Windows, because every host has it.
func (t *target) features(entry []string) (n int, ok bool) {
	granted := func(f string) bool { return f == "win32k" && t.platform.OS == "windows" }
	for _, f := range entry {
		if !granted(f) && !slices.Contains(t.platform.OSFeatures, f) {
			return 0, false
		}
	}
	// The loop is over the features of the target, because an entry may list a million
	// features, and may list a feature twice.
	for _, f := range t.platform.OSFeatures {
		if !granted(f) && slices.Contains(entry, f) {
			n++
		}
	}
	return n, true
}

// rateEntry returns how well the platform of an entry fits, or why it does not fit. It
// compares only platforms. The caller also calls reject, which says whether the entry is an
// image at all.
func (t *target) rateEntry(d *ocispec.Descriptor) (score, Reason) {
	if platformless(d) {
		return score{fallback: lastResort}, ""
	}
	return t.rate(d.Platform)
}

// The reasons for which an entry is chosen or not. The first three are those of candidates.
// They do not begin with Err, because they are the answer of [Selector.Explain], and no
// call fails with one of them: most entries of an index are for other platforms.
const (
	ReasonExact      Reason = "exact match"
	ReasonFallback   Reason = "fallback"                          // a lower variant than the requested one, 386 for amd64, 32-bit ARM for arm64
	ReasonNoPlatform Reason = "no platform, its config decides"   // the last resort
	ReasonMediaType  Reason = "media type is not an image's"      // unknown, a layer's, Docker's schema 1
	ReasonUntyped    Reason = "media type is missing"             // OCI and Docker require one in each entry
	ReasonAttested   Reason = "attestation"                       // by annotation, or because OS or architecture is unknown
	ReasonArtifact   Reason = "artifact without platform"         // its artifactType is not an image config
	ReasonIncomplete Reason = "platform lacks OS or architecture" // and is not empty
	ReasonOS         Reason = "other OS"                          //
	ReasonArch       Reason = "other architecture"                //
	ReasonVariant    Reason = "other variant"                     // of an architecture that fits
	ReasonOSVersion  Reason = "OS version does not fit"           // Windows only
	ReasonOSFeatures Reason = "OS features missing"               // the entry needs features that the platform does not have
	ReasonInvalid    Reason = "best match, bad digest or size"    // so Select fails
)

// reasonArtifactManifest is the Reason of an entry with a format that the image specification
// withdrew before its version 1.1.
const reasonArtifactManifest Reason = "OCI artifact manifest, which is not an image"

// artifactAdvice says what to do about an OCI artifact manifest.
const artifactAdvice = "its format was withdrawn from the image specification: fetch it with a tool for artifacts such as oras, or publish it as an image manifest with an artifactType"

const (
	annotationReferenceType = "vnd.docker.reference.type"
	attestationManifest     = "attestation-manifest"
)

// reject returns why an entry is not an image for any platform. It returns "" if the entry
// may be one.
func reject(d *ocispec.Descriptor) Reason {
	switch c := mediatype.ClassOf(d.MediaType); {
	case d.MediaType == "":
		return ReasonUntyped
	case c != mediatype.Index && c != mediatype.Manifest:
		if mediatype.IsArtifactManifest(d.MediaType) {
			return reasonArtifactManifest
		}
		return ReasonMediaType
	case d.Annotations[annotationReferenceType] == attestationManifest:
		return ReasonAttested
	case isArtifact(d) && (platformless(d) || isUnknown(d)):
		return ReasonArtifact
	case platformless(d):
		return ""
	case d.Platform.OS == "" || d.Platform.Architecture == "":
		return ReasonIncomplete
	case isUnknown(d):
		return ReasonAttested
	}
	return ""
}

func isArtifact(d *ocispec.Descriptor) bool {
	return d.ArtifactType != "" && !mediatype.IsConfig(d.ArtifactType)
}

// isUnknown reports whether an entry has the platform that attestations have.
func isUnknown(d *ocispec.Descriptor) bool {
	return d.Platform != nil && (strings.EqualFold(d.Platform.OS, unknown) || strings.EqualFold(d.Platform.Architecture, unknown))
}

// platformless reports whether an entry has no platform, or an empty one.
func platformless(d *ocispec.Descriptor) bool {
	p := d.Platform
	return p == nil || p.OS == "" && p.Architecture == "" && p.Variant == "" && p.OSVersion == "" && len(p.OSFeatures) == 0
}

// A Verdict says whether an entry of an index was chosen, and why.
type Verdict struct {
	Descriptor ocispec.Descriptor
	Chosen     bool
	Reason     Reason
	// Rank is the entry's place among the candidates, from 1; 0 if it is not a candidate.
	Rank int
}

// Explain returns a verdict for each entry of idx, in its order. The chosen entry is the
// one that Select returns; if Select fails, no entry is chosen. The result is nil if want
// is incomplete.
func (s Selector) Explain(idx ocispec.Index, want ocispec.Platform) []Verdict {
	var t target
	if t.prepare(s, &want) != nil {
		return nil
	}
	verdicts := make([]Verdict, len(idx.Manifests))
	for i, d := range idx.Manifests {
		// If an entry is not an image, that is a better reason than its platform.
		why := reject(&d)
		if why == "" {
			_, why = t.rateEntry(&d)
		}
		verdicts[i] = Verdict{Descriptor: d, Reason: why}
	}
	for i, c := range t.ranking(idx) {
		v := &verdicts[c.entry]
		v.Rank = i + 1
		v.Reason = c.reason()
		if i == 0 {
			v.Chosen = checkDescriptor(&v.Descriptor, ErrBadIndex) == nil
			if !v.Chosen {
				v.Reason = ReasonInvalid
			}
		}
	}
	return verdicts
}

// reason returns the Reason of a candidate.
func (sc score) reason() Reason {
	switch sc.fallback {
	case 0:
		return ReasonExact
	case lastResort:
		return ReasonNoPlatform
	}
	return ReasonFallback
}
