package bench

import (
	"strings"
	"testing"
	"time"

	distribution "github.com/distribution/reference"
	ggcr "github.com/google/go-containerregistry/pkg/name"
	"github.com/pullkit/pullkit/reference"
	regclient "github.com/regclient/regclient/types/ref"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// imageNames are those a kubelet meets, short to as long as they get.
var imageNames = []string{
	"pause",
	"example/mycontainer:v1",
	"fictional.registry.example:10443/imagename",
	"registry.k8s.io/kube-apiserver:v1.36.0",
	"quay.io/org/team/app:1.2.3@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	"registry.example/" + strings.Repeat("abcdefg/", 30) + "abcdefghijklmno", // 255 bytes, 31 components
}

// nameParsers parse a name and throw the answer away. The second is what the
// others are measured by.
var nameParsers = []struct {
	name  string
	parse func(string) error
}{
	{"pullkit", func(s string) error { _, err := reference.Parse(s); return err }},
	{"distribution", func(s string) error { _, err := distribution.ParseNormalizedNamed(s); return err }},
	{"ggcr", func(s string) error { _, err := ggcr.ParseReference(s, ggcr.WeakValidation); return err }},
	{"regclient", func(s string) error { _, err := regclient.New(s); return err }},
	{"pullkit+String", func(s string) error {
		r, err := reference.Parse(s)
		sink = r.String()
		return err
	}},
}

var sink string

func label(name string) string {
	if len(name) > 45 {
		return name[:42] + "..."
	}
	return name
}

func BenchmarkReference(b *testing.B) {
	for _, name := range imageNames {
		for _, p := range nameParsers {
			b.Run(strings.ReplaceAll(label(name), "/", "|")+"/"+p.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := p.parse(name); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// TestReferenceRatios holds that parsing is at least 40 times as fast as
// distribution/reference's. All take turns, and each is judged by its best round,
// so that what else the machine does matters little.
func TestReferenceRatios(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	for _, name := range imageNames {
		best := make([]float64, len(nameParsers)) // ns per call
		for round := range 60 {
			for i, p := range nameParsers {
				calls := 200
				if p.name == "pullkit" || p.name == "pullkit+String" {
					calls = 5000
				}
				start := time.Now()
				for range calls {
					if err := p.parse(name); err != nil {
						require.NoError(t, err, "%s %s", p.name, name)
					}
				}
				ns := float64(time.Since(start)) / float64(calls)
				if round == 0 || ns < best[i] {
					best[i] = ns
				}
			}
		}
		for i, p := range nameParsers {
			t.Logf("%-45s %-15s %8.1f ns, %5.2f times as fast as distribution", label(name), p.name, best[i], best[1]/best[i])
		}
		assert.GreaterOrEqual(t, best[1]/best[0], 40.0, "%s", name)
	}
}
