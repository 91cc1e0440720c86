package oracle

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	distribution "github.com/distribution/reference"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/kubernetes/pkg/util/parsers"
)

// generatedNames is the number of names in each comparison.
const generatedNames = 1_500_000

var nameParts = struct{ hosts, components, tags, digests, noise []string }{
	hosts: []string{
		"docker.io", "index.docker.io", "Docker.io", "docker.io:443", "localhost", "LOCALHOST", "localhost:5000", "a.b", "a_b.c", "A_b", "a.b_c", "a__b.c",
		"[::1]", "[::1]:80", "[1]", "[a.b]", "[::1", "[]", "[::1%eth0]", "[A::F]", "10.0.0.1:5000", "quay.io", "a-b.c", "a--b.c", "-a.b", "a-.b", "a..b", "a.",
		".a", "a:", "a:0", "a:99999999", "a:x", ":80", "a:80:90", "u:p@h", "u@h", "H", "h.I", "http:", "docker://x", "xn--n3h.com", "",
	},
	components: []string{
		"a", "pause", "library", "app", "a-b", "a--b", "a_b", "a__b", "a___b", "a.b", "a..b", "a._b", "-a", "a-", "_a", "a_", ".a", "a.", "A", "aB", "0", "1.2",
		"sha256", "docker.io", "localhost", strings.Repeat("a", 63), strings.Repeat("a", 64), strings.Repeat("b", 247), strings.Repeat("b", 248), strings.Repeat("x", 255),
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "", "..", "$(ARCH)", "ä",
	},
	tags: []string{
		"latest", "Latest", "v1", "_", "__", "-v1", ".v1", "a.", "a-", "a..b", "5000", "", "v1+x", "v1:v2", "a b", strings.Repeat("t", 128), strings.Repeat("t", 129), "$(TAG)", "é",
	},
	digests: []string{
		"sha256:" + strings.Repeat("0a", 32), "sha256:" + strings.Repeat("0a", 31), "sha256:" + strings.Repeat("0A", 32), "sha256:" + strings.Repeat("0g", 32),
		"sha384:" + strings.Repeat("0a", 48), "sha512:" + strings.Repeat("0a", 64), "sha512:" + strings.Repeat("0a", 32), "SHA256:" + strings.Repeat("0a", 32),
		"sha256+b64:" + strings.Repeat("0a", 32), "md5:" + strings.Repeat("0a", 16), "latest", "", "sha256:", "sha256", "blake3:" + strings.Repeat("0a", 32),
	},
	noise: []string{
		"/", ":", "@", ".", "-", "_", "__", "a", "Z", "0", " ", "\n", "\x00", "\xff", "ä", "İ", "K", "[", "]", "%", "$", "*", "//", "::", "library/", "docker.io/", "latest",
	},
}

// randomName builds a name of valid and invalid parts, and then often changes some of its bytes.
func randomName(r *rand.Rand) string {
	var b strings.Builder
	p := nameParts
	if r.IntN(3) > 0 {
		b.WriteString(pickOf(r, p.hosts) + "/")
	}
	b.WriteString(pickOf(r, p.components))
	for r.IntN(3) == 0 {
		b.WriteString("/" + pickOf(r, p.components))
	}
	if r.IntN(2) == 0 {
		b.WriteString(":" + pickOf(r, p.tags))
	}
	if r.IntN(3) == 0 {
		b.WriteString("@" + pickOf(r, p.digests))
	}
	s := b.String()
	for r.IntN(2) == 0 {
		at := r.IntN(len(s) + 1)
		switch r.IntN(3) {
		case 0: // put something in
			s = s[:at] + pickOf(r, p.noise) + s[at:]
		case 1: // take something out
			s = s[:at] + s[min(len(s), at+1+r.IntN(3)):]
		case 2: // replace it
			s = s[:at] + pickOf(r, p.noise) + s[min(len(s), at+1):]
		}
	}
	return s
}

// randomText returns a short text of the bytes that have a meaning in a name.
func randomText(r *rand.Rand) string {
	var b strings.Builder
	for range r.IntN(12) {
		b.WriteByte("abzA0.-_/:@[]f "[r.IntN(15)])
	}
	return b.String()
}

// eachName calls f with generated names. They are the same in each run.
func eachName(f func(s string)) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range generatedNames {
		if i%3 == 0 {
			f(randomText(r))
		} else {
			f(randomName(r))
		}
	}
}

// TestParseIsTheKubelets compares Parse with ParseImageName.
func TestParseIsTheKubelets(t *testing.T) {
	accepted, underscored, distinct := 0, 0, map[string]struct{}{}
	eachName(func(s string) {
		distinct[s] = struct{}{}
		name, tag, digest, wantErr := parsers.ParseImageName(s)
		r, err := reference.Parse(s)
		if wantErr == nil && errors.Is(err, reference.ErrUnderscore) {
			// The only difference: the kubelet's answer does not have a registry.
			named, parseErr := distribution.ParseNormalizedNamed(s)
			require.NoError(t, parseErr)
			require.Empty(t, distribution.Domain(named), "%q", s)
			underscored++
			return
		}
		if wantErr != nil {
			if err == nil {
				require.Fail(t, "only we accept it", "%q: %v", s, wantErr)
			}
			return
		}
		accepted++
		if err != nil || r.Name() != name || r.Tag() != tag || string(r.Digest()) != digest {
			require.Fail(t, "another answer", "%q: %q %q %q; ours %q, %v", s, name, tag, digest, r, err)
		}
	})
	t.Logf("%d names, %d distinct: %d accepted with the same answer, %d refused by both, %d differ: underscore in a dotted first component, no registry in the kubelet's answer",
		generatedNames, len(distinct), accepted, generatedNames-accepted-underscored, underscored)
	assert.Greater(t, len(distinct), 1_000_000)
	assert.Greater(t, accepted, 100_000)
	assert.Positive(t, underscored)
}

// TestFamiliarIsDistributions compares Familiar with FamiliarString. They differ only if the
// short form names another image.
func TestFamiliarIsDistributions(t *testing.T) {
	same, kept := 0, 0
	eachName(func(s string) {
		r, err := reference.Parse(s)
		if err != nil {
			return
		}
		named, err := distribution.ParseNormalizedNamed(s)
		require.NoError(t, err)
		want := distribution.FamiliarString(distribution.TagNameOnly(named))
		if r.Familiar() == want {
			same++
			return
		}
		// The only difference: the short form of package distribution names another image.
		other, err := reference.Parse(want)
		require.True(t, err != nil || other != r, "%q: %q, not %q", s, want, r.Familiar())
		require.Equal(t, r.String(), r.Familiar())
		kept++
	})
	t.Logf("%d the same, %d keep docker.io/ because the shorter form is another image", same, kept)
	assert.Greater(t, same, 100_000)
	assert.Positive(t, kept)
}
