package index

import (
	"iter"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Selector chooses among the entries of an index. The zero Selector takes the
// best fallback where nothing fits exactly.
type Selector struct {
	// Strict takes no fallback: the variant must be the one asked for, after
	// Normalize. Nodes with containerd's transfer service, its default, and CRI-O
	// choose so.
	Strict bool
}

// A Choice is one entry of an index that can serve a platform.
type Choice struct {
	Descriptor ocispec.Descriptor
	// Exact is false if a fallback was taken (another variant than the one asked
	// for, 386 for amd64, 32-bit ARM for arm64), and where CheckConfig is set.
	Exact bool
	// CheckConfig says that no platform entry vouches for the choice: compare
	// the image's config before trusting it, and take the next candidate if it
	// names another platform. Resolve does that.
	CheckConfig bool
}

// Select returns the entry of idx for a platform, chosen by the zero Selector.
func Select(idx ocispec.Index, want ocispec.Platform) (Choice, error) {
	return Selector{}.Select(idx, want)
}

// Candidates yields the entries that can serve a platform by the zero Selector.
func Candidates(idx ocispec.Index, want ocispec.Platform) iter.Seq[Choice] {
	return Selector{}.Candidates(idx, want)
}

// Select returns the entry of idx that serves want best. It reads nothing of
// the machine, and of entries that are equally good it takes the first. The
// error is a *PlatformError if want is not a whole platform, a *NoMatchError if
// nothing fits, an *InvalidError if what fits best has a bad digest or size.
func (s Selector) Select(idx ocispec.Index, want ocispec.Platform) (Choice, error) {
	var w wish
	if err := w.prepare(s, &want); err != nil {
		return Choice{}, err
	}
	best, bestScore := -1, score{}
	for i := range idx.Manifests {
		d := &idx.Manifests[i]
		if sc, why := w.judge(d); why == "" && (best < 0 || sc.better(bestScore)) && reject(d) == "" {
			best, bestScore = i, sc
		}
	}
	if best < 0 {
		return Choice{}, noMatch(idx, want)
	}
	if err := checkDescriptor(&idx.Manifests[best], RuleIndex); err != nil {
		return Choice{}, invalid(err.Rule, "manifests[%d]: %s", best, err.Reason)
	}
	return choice(&idx.Manifests[best], bestScore), nil
}

// Candidates yields the entries that can serve want, best first; equally good
// ones in the order of the index. Nothing is done before the sequence is asked
// for its first entry. Digests and sizes are not checked: Select and Resolve do
// that. For a want that is not a whole platform there are none.
func (s Selector) Candidates(idx ocispec.Index, want ocispec.Platform) iter.Seq[Choice] {
	return func(yield func(Choice) bool) {
		var w wish
		if w.prepare(s, &want) != nil {
			return
		}
		for _, c := range w.ranking(idx) {
			if !yield(choice(&idx.Manifests[c.entry], c.score)) {
				return
			}
		}
	}
}

// A placed entry is a candidate by its position in the index.
type placed struct {
	entry int
	score
}

// ranking returns the candidates, best first.
func (w *wish) ranking(idx ocispec.Index) []placed {
	var list []placed
	for i := range idx.Manifests {
		d := &idx.Manifests[i]
		if sc, why := w.judge(d); why == "" && reject(d) == "" {
			list = append(list, placed{i, sc})
		}
	}
	slices.SortStableFunc(list, func(a, b placed) int {
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
	return Choice{Descriptor: *d, Exact: sc.rung == 0, CheckConfig: sc.rung == resort}
}

// All yields the images of an index with their platforms as written there; the
// platform is zero where an entry has none. Nested indexes are among them, see
// their media type. Attestations, artifacts without platform and what has
// another media type are left out. Digests and sizes are
// not checked.
func All(idx ocispec.Index) iter.Seq2[ocispec.Platform, ocispec.Descriptor] {
	return func(yield func(ocispec.Platform, ocispec.Descriptor) bool) {
		for i := range idx.Manifests {
			d := &idx.Manifests[i]
			if reject(d) != "" {
				continue
			}
			var p ocispec.Platform
			if d.Platform != nil {
				p = *d.Platform
			}
			if !yield(p, *d) {
				return
			}
		}
	}
}

// noMatch is the error for an index that has nothing for want.
func noMatch(idx ocispec.Index, want ocispec.Platform) *NoMatchError {
	e := &NoMatchError{Want: want, Empty: len(idx.Manifests) == 0}
	e.add(idx)
	return e
}

// add puts the platforms of an index among what there is.
func (e *NoMatchError) add(idx ocispec.Index) {
	seen := make(map[string]bool, len(e.Have)+len(idx.Manifests))
	for _, p := range e.Have {
		seen[FormatPlatform(p)] = true
	}
	for p := range All(idx) {
		if spelled := FormatPlatform(p); p.OS != "" && !seen[spelled] {
			seen[spelled] = true
			e.Have = append(e.Have, p)
		}
	}
	for i := range idx.Manifests {
		if why := reject(&idx.Manifests[i]); why != "" {
			e.leaveOut(why, &idx.Manifests[i])
		}
	}
}

// leaveOut counts an entry that is an image for no platform.
func (e *NoMatchError) leaveOut(why Why, d *ocispec.Descriptor) {
	if e.LeftOut == nil {
		e.LeftOut = map[Why]int{}
	}
	e.LeftOut[why]++
	if why == WhyArtifact && e.Artifact == "" && checkDescriptor(d, RuleIndex) == nil {
		e.Artifact = digest.Digest(strings.Clone(string(d.Digest)))
	}
}
