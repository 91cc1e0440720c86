package pullpolicy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
)

var digest = "@sha256:" + strings.Repeat("0123456789abcdef", 4)

func TestDefaultByDigestIgnoresTheTag(t *testing.T) {
	for image, want := range map[string]pullpolicy.Policy{
		"pause":                             pullpolicy.Always,
		"pause:latest":                      pullpolicy.Always,
		"pause:v1":                          pullpolicy.IfNotPresent,
		"pause" + digest:                    pullpolicy.IfNotPresent,
		"pause:v1" + digest:                 pullpolicy.IfNotPresent,
		"pause:latest" + digest:             pullpolicy.IfNotPresent,
		"foo_bar.com/pause:latest":          pullpolicy.Always,
		"foo_bar.com/pause:latest" + digest: pullpolicy.IfNotPresent,
		"Pause:latest":                      pullpolicy.IfNotPresent,
	} {
		assert.Equal(t, want, pullpolicy.DefaultByDigest(image), "%q", image)
	}
}

// TestDefaultOfNamesWithoutARegistry: the API server parses these names, although they have no registry
// that a pull could ask.
func TestDefaultOfNamesWithoutARegistry(t *testing.T) {
	for image, want := range map[string]pullpolicy.Policy{
		"foo_bar.com/x":                 pullpolicy.Always,
		"foo_bar.com/x:latest":          pullpolicy.Always,
		"foo_bar.com/x:latest" + digest: pullpolicy.Always,
		"foo_bar.com/x" + digest:        pullpolicy.IfNotPresent,
		"foo_bar.com/x:v1":              pullpolicy.IfNotPresent,
		"foo_bar.com/X":                 pullpolicy.IfNotPresent,
		"foo_bar.com:80/x":              pullpolicy.IfNotPresent,
	} {
		assert.Equal(t, want, pullpolicy.Default(image), "%q", image)
	}
}

func TestDecideFollowsItsTable(t *testing.T) {
	const use, pull, refuse, fail = pullpolicy.Use, pullpolicy.Pull, pullpolicy.Refuse, pullpolicy.Fail
	known := []pullpolicy.Presence{pullpolicy.Present, pullpolicy.NeedsProof, pullpolicy.Absent, pullpolicy.Unknown, 17}
	for policy, want := range map[pullpolicy.Policy][]pullpolicy.Outcome{
		pullpolicy.Always:       {pull, pull, pull, pull, pull},
		pullpolicy.IfNotPresent: {use, pull, pull, fail, fail},
		pullpolicy.Never:        {use, refuse, refuse, fail, fail},
		"":                      {fail, fail, fail, fail, fail},
		"always":                {fail, fail, fail, fail, fail},
	} {
		for i, k := range known {
			assert.Equal(t, want[i], policy.Decide(k), "%q, %v", policy, k)
		}
	}
}

func TestNamesOfConstants(t *testing.T) {
	assert.Equal(t, "Unknown Absent Present NeedsProof Presence(4)",
		fmt.Sprint(pullpolicy.Unknown, " ", pullpolicy.Absent, " ", pullpolicy.Present, " ", pullpolicy.NeedsProof, " ", pullpolicy.Presence(4)))
	assert.Equal(t, "Fail Use Pull Refuse Outcome(-1)",
		fmt.Sprint(pullpolicy.Fail, " ", pullpolicy.Use, " ", pullpolicy.Pull, " ", pullpolicy.Refuse, " ", pullpolicy.Outcome(-1)))
}

func TestParseSaysWhatToWrite(t *testing.T) {
	for in, want := range map[string]string{
		"":        `pull policy is required; write Always, IfNotPresent or Never`,
		"always":  `pull policy "always" is not supported; write Always`,
		" Never ": `pull policy " Never " is not supported; write Never`,
		"IfNewer": `pull policy "IfNewer" is not supported; write Always, IfNotPresent or Never`,
	} {
		_, err := pullpolicy.Parse(in)
		assert.EqualError(t, err, want)
	}
	_, err := pullpolicy.Parse(strings.Repeat("x", 1e6))
	assert.Less(t, len(err.Error()), 200)
}

func TestAlwaysPullImagesChangesEachImageOfThePod(t *testing.T) {
	pod := func() []pullpolicy.PodImage {
		return []pullpolicy.PodImage{
			{Path: "spec.initContainers[0]", Name: "init:v1", Policy: pullpolicy.Never},
			{Path: "spec.containers[0]", Name: "app:v1", Policy: pullpolicy.Always},
			{Path: "spec.containers[1]", Name: "sidecar:v1"},
			{Path: "spec.ephemeralContainers[0]", Name: "debug", Policy: pullpolicy.IfNotPresent},
			{Path: "spec.volumes[3]", Name: "model:v1", Policy: pullpolicy.IfNotPresent, Volume: true},
		}
	}
	request := pullpolicy.AlwaysPullImages{Images: pod()}
	assert.EqualError(t, request.Validate(), `AlwaysPullImages: "spec.initContainers[0].imagePullPolicy" is "Never"; `+
		`"spec.containers[1].imagePullPolicy" is ""; "spec.ephemeralContainers[0].imagePullPolicy" is "IfNotPresent"; `+
		`"spec.volumes[3].image.pullPolicy" is "IfNotPresent"; write Always`)
	assert.True(t, request.Mutate())
	for _, i := range request.Images {
		assert.Equal(t, pullpolicy.Always, i.Policy, i.Path)
	}
	assert.False(t, request.Mutate(), "nothing left to change")

	update := pullpolicy.AlwaysPullImages{Operation: pullpolicy.Update, Images: pod(), OldImages: pod()}
	assert.False(t, update.Applies())
	update.Images[4].Name = "model:v2"
	assert.False(t, update.Applies(), "a new image of a volume does not count")
	update.Images[0].Name = "app:v1"
	assert.False(t, update.Applies(), "the Pod had that image, in another container")
	update.Images[0].Name = "model:v1"
	assert.True(t, update.Applies(), "an image that only a volume had is new to a container")
	for _, other := range []pullpolicy.AlwaysPullImages{
		{Resource: "pods.metrics.k8s.io", Images: pod()},
		{Subresource: "binding", Images: pod()},
		{Operation: "DELETE", Images: pod()},
	} {
		assert.False(t, other.Applies())
		assert.False(t, other.Mutate())
		assert.NoError(t, other.Validate())
		assert.Equal(t, pod(), other.Images)
	}
}

func TestForbiddenErrorIsCut(t *testing.T) {
	images := make([]pullpolicy.PodImage, 5000)
	for i := range images {
		images[i] = pullpolicy.PodImage{Path: strings.Repeat("x", 5000), Policy: "\x1b[31m"}
	}
	text := pullpolicy.AlwaysPullImages{Images: images}.Validate().Error()
	assert.Less(t, len(text), 3000)
	assert.Contains(t, text, "; and 4990 more; write Always")
	assert.NotContains(t, text, "\x1b")
}

func TestNewVerificationSaysWhatIsWrong(t *testing.T) {
	_, err := pullpolicy.NewVerification("")
	assert.ErrorIs(t, err, pullpolicy.ErrRequired)
	_, err = pullpolicy.NewVerification("neverVerify")
	assert.ErrorIs(t, err, pullpolicy.ErrNotSupported)
	_, err = pullpolicy.NewVerification(pullpolicy.AlwaysVerify, "ubuntu")
	assert.ErrorIs(t, err, pullpolicy.ErrForbidden)
	_, err = pullpolicy.NewVerification(pullpolicy.NeverVerifyAllowlistedImages, "ubuntu", "ubuntu:24.04")
	require.ErrorIs(t, err, pullpolicy.ErrPattern)
	assert.EqualError(t, err, `allowlist: "ubuntu:24.04" is not a pattern of an allowlist: it has a tag or digest; write "ubuntu"`)
	_, err = pullpolicy.NewVerification(pullpolicy.NeverVerifyAllowlistedImages, "test.io/Ubuntu")
	require.ErrorIs(t, err, pullpolicy.ErrPattern)
	assert.ErrorIs(t, err, reference.ErrUpperCase)
}

// allowlist returns a function that reports whether an image is on the list of patterns, so
// that every Pod may use the image.
func allowlist(patterns ...string) (match func(image string) bool, err error) {
	v, err := pullpolicy.NewVerification(pullpolicy.NeverVerifyAllowlistedImages, patterns...)
	return func(image string) bool { return err == nil && !v.Required(image, true) }, err
}

// TestAllowlistErrorsShowNoPassword: an error about a pattern does not quote text that may
// be a password.
func TestAllowlistErrorsShowNoPassword(t *testing.T) {
	for _, pattern := range []string{
		"user:hunter2@reg.example/app", "https://user:hunter2@reg.example/app", "user:hunter2@reg.*/app", "user:hunter2@*", " user:hunter2@reg.example/*",
	} {
		_, err := pullpolicy.NewVerification(pullpolicy.NeverVerifyAllowlistedImages, pattern)
		require.ErrorIs(t, err, pullpolicy.ErrPattern, "%q", pattern)
		assert.NotContains(t, err.Error(), "hunter2")
	}
}

func TestAllowlistMatchesLikeTheKubelet(t *testing.T) {
	patterns := []string{"ubuntu", "test.io/team/*", "[::1]:5000/*", "not a name/*", "a//*", "registry.k8s.io/pause"}
	match, err := allowlist(patterns...)
	require.NoError(t, err)
	for _, image := range []string{
		"ubuntu", "ubuntu:24.04", "ubuntu" + digest, "docker.io/library/ubuntu", "library/ubuntu", "ubuntu ", "Ubuntu",
		"test.io/team/app", "test.io/team/a/b:v1", "test.io/team", "test.io/team/", "test.io/team-b/app", "test.io:443/team/app",
		"[::1]:5000/x", "[::1]/x", "not a name/x:v1", "not a name", "a//b", "registry.k8s.io/pause:3.10" + digest, "",
	} {
		assert.Equal(t, naiveMatch(patterns, image), match(image), "%q", image)
	}
	match, err = allowlist()
	require.NoError(t, err)
	assert.False(t, match("ubuntu"), "an empty list")
}

// naiveMatch goes through all patterns with strings.HasPrefix.
func naiveMatch(patterns []string, image string) bool {
	name, err := reference.Trim(image)
	if err != nil {
		name = image
	}
	for _, p := range patterns {
		prefix, ok := strings.CutSuffix(p, "*")
		if ok && strings.HasPrefix(name, prefix) || name == p {
			return true
		}
	}
	return false
}

func FuzzAllowlist(f *testing.F) {
	f.Add("test.io/*", "ubuntu", "test.io/team/app:v1")
	f.Add("//*", "a/*", "//x")
	f.Fuzz(func(t *testing.T, first, second, image string) {
		patterns := []string{first, second}
		match, err := allowlist(patterns...)
		if err != nil {
			return
		}
		require.Equal(t, naiveMatch(patterns, image), match(image), "%q %q", patterns, image)
	})
}
