package main

import (
	"strings"

	distribution "github.com/distribution/reference"
	ggcr "github.com/google/go-containerregistry/pkg/name"
	"github.com/pullkit/pullkit/internal/bench/report"
	"github.com/pullkit/pullkit/reference"
	regclient "github.com/regclient/regclient/types/ref"
)

// imageNames are names that a kubelet meets, from a short one to the longest.
var imageNames = []string{
	"pause",
	"example/mycontainer:v1",
	"fictional.registry.example:10443/imagename",
	"registry.k8s.io/kube-apiserver:v1.36.0",
	"quay.io/org/team/app:1.2.3@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	"registry.example/" + strings.Repeat("abcdefg/", 30) + "abcdefghijklmno", // 255 bytes, 31 components
}

// A nameParser parses a name and ignores the result.
type nameParser struct {
	name  string
	parse func(string) error
	calls int // of a round
}

var nameParsers = []nameParser{
	{"distribution/reference", func(s string) error { _, err := distribution.ParseNormalizedNamed(s); return err }, 200},
	{"go-containerregistry", func(s string) error { _, err := ggcr.ParseReference(s, ggcr.WeakValidation); return err }, 200},
	{"regclient", func(s string) error { _, err := regclient.New(s); return err }, 200},
	{"pullkit", func(s string) error { _, err := reference.Parse(s); return err }, 5000},
	{"pullkit, with String", func(s string) error {
		r, err := reference.Parse(s)
		if err != nil {
			return err
		}
		return wrongUnless(r.String() != "")
	}, 5000},
}

// label returns a name that is short enough for a table.
func label(name string) string {
	if len(name) > 45 {
		return name[:42] + "..."
	}
	return name
}

func compareNames(size sizes) ([]*report.Table, error) {
	table := &report.Table{Title: "Parsing an image name", Head: []string{"name"}}
	for _, p := range nameParsers {
		table.Head = append(table.Head, p.name)
	}
	table.Head = append(table.Head, "goal", "reached")
	for _, name := range imageNames {
		var tasks []task
		for _, p := range nameParsers {
			tasks = append(tasks, task{p.name, max(1, p.calls/size.part), func() error { return p.parse(name) }})
		}
		took, err := best(size.rounds, tasks...)
		if err != nil {
			return nil, err
		}
		row := []string{"`" + label(name) + "`"}
		for _, d := range took {
			row = append(row, pretty(d))
		}
		table.Judge("pullkit", row, report.AtLeast(took[0]/took[3], 40, "x as fast as distribution/reference"))
	}
	return []*report.Table{table}, nil
}
