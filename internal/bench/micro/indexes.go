package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"sort"

	"github.com/containerd/platforms"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/internal/bench/report"
)

var indexPlatforms = []ocispec.Platform{
	{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm", Variant: "v5"},
	{OS: "linux", Architecture: "arm", Variant: "v6"}, {OS: "linux", Architecture: "arm", Variant: "v7"},
	{OS: "linux", Architecture: "386"}, {OS: "linux", Architecture: "ppc64le"}, {OS: "linux", Architecture: "s390x"},
	{OS: "linux", Architecture: "riscv64"}, {OS: "linux", Architecture: "mips64le"},
	{OS: "windows", Architecture: "amd64", OSVersion: "10.0.20348.2227"}, {OS: "unknown", Architecture: "unknown"},
}

var indexWanted = ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}

// indexOf returns an index of n entries. Only the last one is for indexWanted.
func indexOf(n int) ocispec.Index {
	idx := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
	idx.SchemaVersion = 2
	for i := range n {
		p := indexPlatforms[i%len(indexPlatforms)]
		if i == n-1 {
			p = indexWanted
		}
		idx.Manifests = append(idx.Manifests, ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageManifest, Size: 500, Platform: &p,
			Digest: ocispec.DescriptorEmptyJSON.Digest,
			Annotations: map[string]string{
				"com.docker.official-images.bashbrew.arch": p.Architecture,
				"org.opencontainers.image.revision":        fmt.Sprintf("%040d", i),
			},
		})
	}
	return idx
}

// byContainerd chooses as containerd's images.Manifest does: it filters the entries, sorts them
// stably and takes the first one.
func byContainerd(idx ocispec.Index, m platforms.MatchComparer) *ocispec.Descriptor {
	var list []ocispec.Descriptor
	for _, d := range idx.Manifests {
		if d.Platform == nil || m.Match(*d.Platform) {
			list = append(list, d)
		}
	}
	sort.SliceStable(list, func(i, j int) bool {
		if list[i].Platform == nil || list[j].Platform == nil {
			return list[i].Platform != nil
		}
		return m.Less(*list[i].Platform, *list[j].Platform)
	})
	return &list[0]
}

// byGGCR chooses as remote.WithPlatform does: it takes the first entry that satisfies want.
func byGGCR(idx *v1.IndexManifest, want v1.Platform) *v1.Descriptor {
	for i, d := range idx.Manifests {
		p := v1.Platform{OS: "linux", Architecture: "amd64"}
		if d.Platform != nil {
			p = *d.Platform
		}
		if p.Satisfies(want) {
			return &idx.Manifests[i]
		}
	}
	return nil
}

func ggcrIndex(idx ocispec.Index) (*v1.IndexManifest, error) {
	data, err := json.Marshal(idx)
	if err != nil {
		return nil, err
	}
	var out v1.IndexManifest
	return &out, json.Unmarshal(data, &out)
}

// errOther is the error of a task whose answer is wrong.
var errOther = errors.New("another answer")

// wrongUnless returns the error of a task: nil if its answer is right, and errOther if not.
func wrongUnless(right bool) error {
	if !right {
		return errOther
	}
	return nil
}

// indexChoosers returns the ways to choose from an index of n entries: those of containerd,
// go-containerregistry, pullkit, and pullkit with Strict.
func indexChoosers(n, calls int) ([]task, error) {
	idx := indexOf(n)
	other, err := ggcrIndex(idx)
	if err != nil {
		return nil, err
	}
	otherWant := v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	return []task{
		{"containerd", calls, func() error {
			return wrongUnless(byContainerd(idx, platforms.Only(indexWanted)).Platform.Architecture == "arm64")
		}},
		{"go-containerregistry", calls, func() error {
			return wrongUnless(byGGCR(other, otherWant).Platform.Architecture == "arm64")
		}},
		{"pullkit", calls, func() error {
			c, err := index.Selector{}.Select(idx, indexWanted)
			if err != nil {
				return err
			}
			return wrongUnless(c.Exact)
		}},
		{"pullkit, Strict", calls, func() error {
			c, err := (index.Selector{Strict: true}).Select(idx, indexWanted)
			if err != nil {
				return err
			}
			return wrongUnless(c.Exact)
		}},
	}, nil
}

// indexParsers returns the ways to parse an index of n entries.
func indexParsers(n, calls int) (data []byte, tasks []task, err error) {
	if data, err = json.Marshal(indexOf(n)); err != nil {
		return nil, nil, err
	}
	return data, []task{
		{"encoding/json", calls, func() error {
			var idx ocispec.Index
			if err := json.Unmarshal(data, &idx); err != nil {
				return err
			}
			return wrongUnless(len(idx.Manifests) == n)
		}},
		{"pullkit", calls, func() error {
			doc, err := index.Parse(ocispec.MediaTypeImageIndex, data)
			if err != nil {
				return err
			}
			return wrongUnless(len(doc.Index.Manifests) == n)
		}},
	}, nil
}

// selectGoals are the goals for choosing, by the number of entries. containerd needs at least
// so many times the time of pullkit. pullkit (ladder) and pullkit with Strict (strict) need at
// most so many times the time of go-containerregistry.
var selectGoals = map[int]struct{ containerd, ladder, strict float64 }{
	8:    {8, 3, 1.5},
	50:   {20, 1.5, 1.5},
	1000: {20, 1.5, 1.5},
}

func compareIndexes(size sizes) ([]*report.Table, error) {
	choosing := &report.Table{
		Title: "Choosing from an index",
		Head:  []string{"entries", "containerd/platforms", "go-containerregistry", "pullkit", "pullkit, Strict", "goal", "reached"},
	}
	parsing := &report.Table{
		Title: "Parsing an index",
		Head:  []string{"entries", "bytes", "encoding/json", "pullkit", "goal", "reached"},
	}
	for _, n := range size.entries {
		tasks, err := indexChoosers(n, max(1, 20000/n/size.part))
		if err != nil {
			return nil, err
		}
		took, err := best(size.rounds, tasks...)
		if err != nil {
			return nil, err
		}
		goal := selectGoals[n]
		cells := []string{fmt.Sprint(n), pretty(took[0]), pretty(took[1]), pretty(took[2]), pretty(took[3])}
		choosing.Judge("pullkit", cells,
			report.AtLeast(took[0]/took[2], goal.containerd, "x as fast as containerd"),
			report.AtMost(took[2]/took[1], goal.ladder, "x go-containerregistry"),
			report.AtMost(took[3]/took[1], goal.strict, "x go-containerregistry with Strict"),
		)

		data, tasks, err := indexParsers(n, max(1, 800/n/size.part))
		if err != nil {
			return nil, err
		}
		if took, err = best(size.rounds, tasks...); err != nil {
			return nil, err
		}
		parsing.Judge("pullkit", []string{fmt.Sprint(n), fmt.Sprint(len(data)), pretty(took[0]), pretty(took[1])},
			report.AtMost(took[1]/took[0], 2, "x encoding/json"))
	}
	return []*report.Table{choosing, parsing}, nil
}
