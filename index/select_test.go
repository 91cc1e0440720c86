package index_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/index"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// entries returns an index with one entry for each platform; "" means an entry without
// platform.
func entries(t testing.TB, platforms ...string) (idx ocispec.Index) {
	for i, s := range platforms {
		d := ocispec.Descriptor{MediaType: typeManifest, Digest: digest.FromString(fmt.Sprint(i)), Size: 5}
		if s != "" {
			p, err := index.ParsePlatform(s)
			require.NoError(t, err)
			d.Platform = &p
		}
		idx.Manifests = append(idx.Manifests, d)
	}
	return idx
}

func TestExplainHasAVerdictForEachEntry(t *testing.T) {
	idx := entries(t, "linux/386", "linux/amd64/v3", "linux/amd64", "", "windows/amd64", "linux/arm64", "linux(+gpu)/amd64",
		"linux/amd64", "linux/amd64", "", "linux/amd64", "linux/amd64/v2", "linux/amd64")
	m := idx.Manifests
	m[7].MediaType = "application/vnd.oci.image.layer.v1.tar"
	m[8].Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	m[9].ArtifactType = "application/spdx+json"
	m[10].Platform.OS = "unknown"
	m[12].Platform.Architecture = ""
	want := ocispec.Platform{OS: "linux", Architecture: "amd64", Variant: "v2"}

	verdicts := index.Selector{}.Explain(idx, want)
	var got []string
	for _, v := range verdicts {
		got = append(got, fmt.Sprint(v.Rank, " ", v.Reason))
	}
	assert.Equal(t, []string{
		"3 fallback", "0 other variant", "2 fallback", "4 no platform, its config decides", "0 other OS", "0 other architecture",
		"0 OS features missing", "0 media type is not an image's", "0 attestation", "0 artifact without platform", "0 attestation",
		"1 exact match", "0 platform lacks OS or architecture",
	}, got)
	assert.True(t, verdicts[11].Chosen)

	m[11].Size = -1
	verdicts = index.Selector{}.Explain(idx, want)
	assert.Equal(t, index.ReasonInvalid, verdicts[11].Reason)
	assert.False(t, slices.ContainsFunc(verdicts, func(v index.Verdict) bool { return v.Chosen }), "no entry is chosen, because Select fails")

	windows := entries(t, "windows(10.0.17763.1)/amd64")
	verdicts = index.Selector{}.Explain(windows, ocispec.Platform{OS: "windows", Architecture: "amd64", OSVersion: "10.0.20348.1"})
	assert.Equal(t, index.ReasonOSVersion, verdicts[0].Reason)
}

func TestCandidatesComeBestFirst(t *testing.T) {
	idx := entries(t, "", "linux/arm/v5", "linux/arm64", "linux/arm/v7", "linux/amd64", "", "linux/arm64")
	want := ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	order := func(s index.Selector) (at []int, exact, check []bool) {
		for c := range s.Candidates(idx, want) {
			at = append(at, slices.IndexFunc(idx.Manifests, func(d ocispec.Descriptor) bool { return d.Digest == c.Descriptor.Digest }))
			exact = append(exact, c.Exact)
			check = append(check, c.CheckConfig)
		}
		return at, exact, check
	}
	at, exact, check := order(index.Selector{})
	assert.Equal(t, []int{2, 6, 3, 1, 0, 5}, at)
	assert.Equal(t, []bool{true, true, false, false, false, false}, exact)
	assert.Equal(t, []bool{false, false, false, false, true, true}, check)
	at, _, _ = order(index.Selector{Strict: true})
	assert.Equal(t, []int{2, 6, 0, 5}, at)

	// No work is done before the loop starts, and the loop may end early.
	seq := index.Selector{}.Candidates(idx, want)
	idx.Manifests[2].Platform.Architecture = "riscv64"
	for c := range seq {
		assert.Equal(t, idx.Manifests[6].Digest, c.Descriptor.Digest)
		break
	}
}

// TestNoMatchErrorHasThePlatformsOfTheIndex: a NoMatchError lists the platforms of the entries that are images,
// nested indexes among them.
func TestNoMatchErrorHasThePlatformsOfTheIndex(t *testing.T) {
	idx := entries(t, "linux/amd64", "linux/arm/v7", "linux/amd64", "linux/s390x")
	idx.Manifests[1].MediaType = typeIndex
	idx.Manifests[2].Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	idx.Manifests[3].MediaType = "application/example"
	_, err := index.Selector{}.Select(idx, ocispec.Platform{OS: "plan9", Architecture: "mips"})
	var none *index.NoMatchError
	require.ErrorAs(t, err, &none)
	var got []string
	for _, p := range none.Have {
		got = append(got, index.FormatPlatform(p))
	}
	assert.Equal(t, []string{"linux/amd64", "linux/arm/v7"}, got)
	assert.Equal(t, map[index.Reason]int{index.ReasonAttested: 1, index.ReasonMediaType: 1}, none.LeftOut)
	assert.ErrorIs(t, none, index.ReasonAttested)
	assert.NotErrorIs(t, none, index.ReasonArtifact)
}

func TestMatchComparesAsSelectDoes(t *testing.T) {
	arm := ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
	arm64 := ocispec.Platform{OS: "linux", Architecture: "arm64"}
	exact, ok := index.Selector{}.Match(arm, arm64)
	assert.True(t, ok && !exact)
	_, ok = index.Selector{Strict: true}.Match(arm, arm64)
	assert.False(t, ok)
	_, ok = index.Selector{}.Match(arm64, arm)
	assert.False(t, ok)
	_, ok = index.Selector{}.Match(ocispec.Platform{}, ocispec.Platform{})
	assert.False(t, ok)
}

func TestSelectAllocatesNothing(t *testing.T) {
	idx := entries(t, "linux/amd64", "linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/386", "linux/ppc64le", "linux/s390x", "linux/arm64")
	for _, want := range []string{"linux/arm64", "linux/amd64/v4", "linux/arm/v7", "windows(10.0.20348.1)/amd64"} {
		p, err := index.ParsePlatform(want)
		require.NoError(t, err)
		n := testing.AllocsPerRun(100, func() { _, err = index.Selector{}.Select(idx, p) })
		if err == nil {
			assert.Zero(t, n, want)
		}
	}
}

// TestSelectOfManyEntriesEndsInTime: work that grows with the square of the number of entries would
// not end within the time of a test run, also if no entry fits and the error names them all.
func TestSelectOfManyEntriesEndsInTime(t *testing.T) {
	platforms := make([]string, 200_000)
	for i := range platforms {
		platforms[i] = fmt.Sprintf("plan9/a%d", i)
	}
	idx := entries(t, append(platforms, "linux/amd64")...)
	got, err := index.Selector{}.Select(idx, ocispec.Platform{OS: "linux", Architecture: "amd64"})
	require.NoError(t, err)
	assert.Equal(t, idx.Manifests[len(platforms)].Digest, got.Descriptor.Digest)
	_, err = index.Selector{}.Select(idx, ocispec.Platform{OS: "linux", Architecture: "riscv64"})
	var none *index.NoMatchError
	require.ErrorAs(t, err, &none)
	assert.Len(t, none.Have, len(idx.Manifests))
}

// TestSelectOfAMillionFeatures: work that grows with the square of the number of features
// would not end within the time of a test run.
func TestSelectOfAMillionFeatures(t *testing.T) {
	idx := entries(t, "linux(+a)/amd64", "linux(+a+b)/amd64")
	many := make([]string, 1_000_000)
	for i := range many {
		many[i] = "ab"[2*i/len(many):][:1]
	}
	idx.Manifests[0].Platform.OSFeatures = many
	got, err := index.Selector{}.Select(idx, ocispec.Platform{OS: "linux", Architecture: "amd64", OSFeatures: []string{"a", "b"}})
	require.NoError(t, err)
	assert.Equal(t, idx.Manifests[0].Digest, got.Descriptor.Digest, "both entries have two features, so the first is taken")
}
