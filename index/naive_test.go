package index_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// naiveSelect is a second, simple implementation of Select: it lists all platforms that fit
// and looks for each in turn. It returns the index of the entry, or an error.
func naiveSelect(idx ocispec.Index, want ocispec.Platform, strict bool) (int, error) {
	want = index.Normalize(want)
	for _, s := range []string{want.OS, want.Architecture} {
		if s == "" || s == "unknown" {
			return -1, index.ErrPlatform
		}
	}
	names := []string{want.Architecture + "/" + want.Variant}
	if !strict {
		names = append(names, naiveBelow(want.Architecture, want.Variant)...)
	}
	var last []int
	for i, d := range idx.Manifests {
		if naiveImage(d) && (d.Platform == nil || fmt.Sprint(*d.Platform) == fmt.Sprint(ocispec.Platform{})) &&
			(d.ArtifactType == "" || strings.Contains(d.ArtifactType, "image")) {
			last = append(last, i)
		}
	}
	for _, name := range names {
		var fit []int
		for i, d := range idx.Manifests {
			if naiveImage(d) && d.Platform != nil && naiveFits(*d.Platform, want, name) {
				fit = append(fit, i)
			}
		}
		slices.SortStableFunc(fit, func(a, b int) int { return naiveCompare(idx, want, a, b) })
		last = append(fit, last...)
		if len(fit) > 0 {
			break
		}
	}
	if len(last) == 0 {
		return -1, index.ErrNoMatch
	}
	if d := idx.Manifests[last[0]]; d.Size < 0 || d.Digest.Validate() != nil {
		return -1, index.ErrInvalid
	}
	return last[0], nil
}

func naiveImage(d ocispec.Descriptor) bool {
	known := []string{
		"application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json",
		"application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.distribution.manifest.list.v2+json",
	}
	bare, _, _ := strings.Cut(strings.ToLower(d.MediaType), ";")
	return slices.Contains(known, bare) && d.Annotations["vnd.docker.reference.type"] != "attestation-manifest"
}

func naiveFits(entry, want ocispec.Platform, name string) bool {
	e := index.Normalize(entry)
	if e.OS == "" || e.Architecture == "" || e.OS != want.OS || e.Architecture+"/"+e.Variant != name {
		return false
	}
	for _, f := range naiveFeatures(e) {
		if !slices.Contains(want.OSFeatures, f) {
			return false
		}
	}
	if want.OS != "windows" || e.OSVersion == "" {
		return true
	}
	host, ok := naiveVersion(want.OSVersion)
	if !ok {
		return true
	}
	image, ok := naiveVersion(e.OSVersion)
	switch {
	case !ok || image[0] != host[0] || image[1] != host[1]:
		return false
	case host[2] < 20348:
		return image[2] == host[2]
	}
	return image[2] >= 20348 && image[2] <= host[2]
}

func naiveFeatures(e ocispec.Platform) []string {
	return slices.DeleteFunc(slices.Clone(e.OSFeatures), func(f string) bool { return e.OS == "windows" && f == "win32k" })
}

func naiveCompare(idx ocispec.Index, want ocispec.Platform, a, b int) int {
	pa, pb := index.Normalize(*idx.Manifests[a].Platform), index.Normalize(*idx.Manifests[b].Platform)
	if n := len(naiveFeatures(pb)) - len(naiveFeatures(pa)); n != 0 {
		return n
	}
	if _, ok := naiveVersion(want.OSVersion); want.OS != "windows" || !ok || pa.OSVersion == pb.OSVersion {
		return 0
	}
	for _, exact := range []string{want.OSVersion} {
		if pa.OSVersion == exact {
			return -1
		} else if pb.OSVersion == exact {
			return 1
		}
	}
	va, _ := naiveVersion(pa.OSVersion)
	vb, _ := naiveVersion(pb.OSVersion)
	return slices.Compare(vb, va) // no version is shorter than every version
}

func naiveVersion(s string) ([]int64, bool) {
	var v []int64
	for i, part := range strings.Split(s, ".") {
		n, err := strconv.ParseInt(part, 10, 64)
		if limit := []int64{255, 255, 65535, 1<<32 - 1}[min(i, 3)]; err != nil || n < 0 || n > limit || strings.HasPrefix(part, "+") {
			if i < 3 {
				return nil, false
			}
			n = 0
		}
		v = append(v, n)
	}
	if len(v) < 3 {
		return nil, false
	}
	return append(v, 0)[:4], true
}

// naiveBelow lists what an architecture runs in addition to itself, best first.
func naiveBelow(arch, variant string) (names []string) {
	count := func(prefix string, from, to int) {
		for n := from; n >= to; n-- {
			names = append(names, arch+"/"+prefix+strconv.Itoa(n))
		}
	}
	plain := func() { names = append(names, arch+"/") }
	number, _ := strconv.Atoi(strings.TrimPrefix(strings.TrimPrefix(variant, "v"), "power"))
	switch arch {
	case "amd64":
		if variant == fmt.Sprintf("v%d", number) && number < 100 {
			count("v", min(number-1, 9), 2)
		}
		plain()
		names = append(names, "386/")
	case "arm":
		if variant == fmt.Sprintf("v%d", number) && number < 100 {
			count("v", min(number-1, 9), 5)
		}
	case "arm64":
		var major, minor int
		if variant == "" {
			variant = "v8"
		}
		if n, err := fmt.Sscanf(strings.TrimPrefix(variant, "v")+".0", "%d.%d", &major, &minor); n < 2 || err != nil {
			return nil
		}
		if variant != fmt.Sprintf("v%d.%d", major, minor) && variant != fmt.Sprintf("v%d", major) || major < 8 || major > 9 || minor > 9 || major == 9 && minor > 7 {
			return nil
		}
		if major == 9 {
			count("v9.", minor-1, 1)
			names = append(names, "arm64/v9")
			minor = min(minor+5, 9) + 1
		}
		count("v8.", minor-1, 1)
		plain()
		arch = "arm"
		count("v", 8, 5)
	case "ppc64", "ppc64le":
		if variant == fmt.Sprintf("power%d", number) && number < 100 {
			count("power", min(number-1, 11), 8)
		}
		plain()
	case "riscv64":
		all := []string{"rva23u64", "rva22u64", "rva20u64"}
		for _, v := range all[slices.Index(all, variant)+1:] {
			if slices.Contains(all, variant) {
				names = append(names, arch+"/"+v)
			}
		}
		plain()
	case "s390x", "loong64":
		plain()
	}
	return names
}

// The parts that generated indexes are made of.
var (
	poolOS       = []string{"linux", "linux", "linux", "linux", "windows", "windows", "Linux", "macOS", "darwin", "unknown", "", "freebsd"}
	poolArch     = []string{"amd64", "amd64", "arm64", "arm64", "arm", "arm", "386", "x86_64", "aarch64", "armhf", "armel", "i386", "AMD64", "ppc64le", "riscv64", "s390x", "mips64le", "armv7l", "unknown", "", "loong64"}
	poolVariant  = []string{"", "", "", "", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "8", "7", "v8.0", "v8.1", "v8.5", "v8.9", "v9", "9.0", "v9.1", "v9.7", "v9.8", "v10", "v99", "v999", "V3", "power8", "power9", "power11", "rva20u64", "rva22u64", "rva23u64", "softfloat", "znver4", "v08"}
	poolVersion  = []string{"", "", "", "10.0.17763.1", "10.0.17763.20", "10.0.17763", "10.0.20348.999", "10.0.20348.1000", "10.0.25398.1", "10.0.26100.7", "10.0.26200.1", "ltsc2022", "10.0", "10.0.20348.x", "11.0.26100.1", "10.0.99999.1", "10.0.20348.5.6"}
	poolFeatures = [][]string{nil, nil, nil, nil, {"gpu"}, {"gpu", "rdma"}, {"rdma", "gpu", "gpu"}, {"win32k"}, {"win32k", "gpu"}}
	poolMedia    = []string{
		ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageManifest,
		"application/vnd.docker.distribution.manifest.v2+json", ocispec.MediaTypeImageIndex, "application/vnd.docker.distribution.manifest.list.v2+json",
		"application/vnd.OCI.image.manifest.v1+JSON", "application/vnd.oci.image.manifest.v1+json;charset=utf-8",
		"", "application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.docker.distribution.manifest.v1+json",
	}
	poolArtifact = []string{"", "", "", "", ocispec.MediaTypeImageConfig, "application/spdx+json"}
)

// generate makes an index and a requested platform. next(n) makes each choice: it returns a
// number below n.
func generate(next func(n int) int) (idx ocispec.Index, want ocispec.Platform) {
	platform := func() ocispec.Platform {
		return ocispec.Platform{
			OS: poolOS[next(len(poolOS))], Architecture: poolArch[next(len(poolArch))], Variant: poolVariant[next(len(poolVariant))],
			OSVersion: poolVersion[next(len(poolVersion))], OSFeatures: slices.Clone(poolFeatures[next(len(poolFeatures))]),
		}
	}
	want = platform()
	for i := range next(12) {
		d := ocispec.Descriptor{
			MediaType: poolMedia[next(len(poolMedia))], Digest: digest.FromString(strconv.Itoa(i)), Size: 5,
			ArtifactType: poolArtifact[next(len(poolArtifact))],
		}
		switch next(20) {
		case 0:
		case 1:
			d.Platform = new(ocispec.Platform)
		case 2, 3, 4, 5, 6, 7: // near the requested platform, so that several entries fit
			p := want
			p.Variant = poolVariant[next(len(poolVariant))]
			d.Platform = &p
		default:
			p := platform()
			d.Platform = &p
		}
		switch next(24) {
		case 0:
			d.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
		case 1:
			d.Annotations = map[string]string{"vnd.docker.reference.type": "other"}
		case 2:
			d.Digest = "sha256:abc"
		case 3:
			d.Size = -1
		}
		idx.Manifests = append(idx.Manifests, d)
	}
	return idx, want
}

// checkSelect checks what is true for every index and platform.
func checkSelect(t *testing.T, idx ocispec.Index, want ocispec.Platform, strict bool) {
	s := index.Selector{Strict: strict}
	at, wantErr := naiveSelect(idx, want, strict)
	got, err := s.Select(idx, want)
	if wantErr != nil {
		require.ErrorIs(t, err, wantErr)
		require.Zero(t, got)
		assert.NotContains(t, err.Error(), "\x00")
	} else {
		require.NoError(t, err)
		require.Equal(t, idx.Manifests[at], got.Descriptor)
	}

	candidates := slices.Collect(s.Candidates(idx, want))
	verdicts := s.Explain(idx, want)
	if errors.Is(wantErr, index.ErrPlatform) {
		require.Empty(t, candidates)
		require.Nil(t, verdicts)
		return
	}
	require.Len(t, verdicts, len(idx.Manifests))
	chosen, ranks := 0, 0
	for i, v := range verdicts {
		assert.Equal(t, idx.Manifests[i], v.Descriptor)
		assert.NotEmpty(t, v.Reason)
		if v.Chosen {
			chosen++
			require.Equal(t, 1, v.Rank)
			require.Equal(t, at, i)
		}
		if v.Rank > 0 {
			ranks++
			require.Equal(t, candidates[v.Rank-1].Descriptor, v.Descriptor)
		}
	}
	require.Equal(t, len(candidates), ranks)
	if wantErr == nil {
		require.Equal(t, 1, chosen)
		require.Equal(t, got, candidates[0])
	} else {
		require.Zero(t, chosen)
	}
}

func TestSelectEqualsNaive(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	found := 0
	trials := rounds.Of(10000)
	for range trials {
		idx, want := generate(random.IntN)
		strict := random.IntN(4) == 0
		checkSelect(t, idx, want, strict)
		if _, err := (index.Selector{Strict: strict}).Select(idx, want); err == nil {
			found++
		}
	}
	assert.Greater(t, found, trials/4, "enough of the generated indexes have a match")
}

func FuzzSelect(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x00\x05\x00\x00\x09"), false)
	f.Fuzz(func(t *testing.T, data []byte, strict bool) {
		idx, want := generate(func(n int) int {
			if len(data) == 0 {
				return 0
			}
			c := int(data[0]) % n
			data = data[1:]
			return c
		})
		checkSelect(t, idx, want, strict)
	})
}

func FuzzPlatform(f *testing.F) {
	for _, s := range []string{"linux/arm64/v8", "windows(10.0.17763+win32k)/amd64", "linux(%2B+a%20b)/x86_64", "LINUX/armhf"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := index.ParsePlatform(s)
		if err != nil {
			require.ErrorIs(t, err, index.ErrPlatform)
			return
		}
		require.Equal(t, p, index.Normalize(p))
		again, err := index.ParsePlatform(index.FormatPlatform(p))
		require.NoError(t, err)
		require.Equal(t, p, again)
		require.Equal(t, p, index.Fallbacks(p)[0])
		exact, ok := index.Selector{}.Match(p, p)
		require.True(t, exact && ok)
	})
}
