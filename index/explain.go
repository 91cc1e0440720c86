package index

import (
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Verdict says of one entry of an index whether it was chosen, or why not.
type Verdict struct {
	Descriptor ocispec.Descriptor
	Chosen     bool
	Why        Why
	// Rank is the entry's place among the candidates, from 1; 0 if it is none.
	Rank int
}

// Explain returns a verdict for each entry of idx, in its order. The one that
// is chosen is the one that Select returns; none is where Select fails, which
// for a want that is not a whole platform gives nil.
func (s Selector) Explain(idx ocispec.Index, want ocispec.Platform) []Verdict {
	var w wish
	if w.prepare(s, &want) != nil {
		return nil
	}
	verdicts := make([]Verdict, len(idx.Manifests))
	for i, d := range idx.Manifests {
		// What an entry is says more than that its platform does not fit.
		why := reject(&d)
		if why == "" {
			_, why = w.judge(&d)
		}
		verdicts[i] = Verdict{Descriptor: d, Why: why}
	}
	for i, c := range w.ranking(idx) {
		v := &verdicts[c.entry]
		v.Rank = i + 1
		v.Why = c.why()
		if i == 0 {
			v.Chosen = checkDescriptor(&v.Descriptor, RuleIndex) == nil
			if !v.Chosen {
				v.Why = WhyInvalid
			}
		}
	}
	return verdicts
}

// why is the verdict on a candidate.
func (sc score) why() Why {
	switch sc.rung {
	case 0:
		return WhyExact
	case resort:
		return WhyNoPlatform
	}
	return WhyFallback
}
