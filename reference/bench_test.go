package reference_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pullkit/pullkit/reference"
)

// benchNames are names as a kubelet gets them, from short ones to the longest.
var benchNames = []string{
	"pause",
	"example/mycontainer:v1",
	"fictional.registry.example:10443/imagename",
	"registry.k8s.io/kube-apiserver:v1.36.0",
	"quay.io/org/team/app:1.2.3@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	"registry.example/" + strings.Repeat("abcdefg/", 30) + "abcdefghijklmno",
}

var (
	sinkReference reference.Reference
	sinkString    string
	sinkInt       int
)

func BenchmarkParse(b *testing.B) {
	for _, name := range benchNames {
		b.Run(strings.ReplaceAll(name[:min(len(name), 24)], "/", "|"), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(name)))
			for b.Loop() {
				sinkReference, _ = reference.Parse(name)
			}
		})
	}
}

func BenchmarkString(b *testing.B) {
	for _, name := range benchNames {
		b.Run(strings.ReplaceAll(name[:min(len(name), 24)], "/", "|"), func(b *testing.B) {
			r := reference.MustParse(name)
			b.ReportAllocs()
			for b.Loop() {
				sinkString = r.String()
			}
		})
	}
}

// TestParsingAllocatesNoMemory: parsing and comparing allocate no memory, and printing allocates once.
func TestParsingAllocatesNoMemory(t *testing.T) {
	other := reference.MustParse("docker.io/library/zzz")
	for _, name := range append(benchNames, "index.docker.io/library/pause", "[::1]:5000/x", "x@sha512:"+strings.Repeat("0", 128)) {
		r := reference.MustParse(name)
		for what, tt := range map[string]struct {
			want float64
			call func()
		}{
			"Parse":    {0, func() { sinkReference, _ = reference.Parse(name) }},
			"String":   {1, func() { sinkString = r.String() }},
			"Familiar": {1, func() { sinkString = r.Familiar() }},
			"Name":     {1, func() { sinkString = r.Name() }},
			"Clone":    {1, func() { sinkReference = r.Clone() }},
			"Compare":  {0, func() { sinkInt = r.Compare(other) }},
			"Trim":     {0, func() { sinkString, _ = reference.Trim(name) }},
		} {
			assert.Equal(t, tt.want, testing.AllocsPerRun(100, tt.call), "%s of %q", what, name)
		}
	}
}
