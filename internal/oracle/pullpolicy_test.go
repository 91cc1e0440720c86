package oracle

import (
	"math/rand/v2"
	"testing"

	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	v1 "k8s.io/api/core/v1"
	corev1 "k8s.io/kubernetes/pkg/apis/core/v1"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	"k8s.io/kubernetes/pkg/kubelet/images/pullmanager"
)

// TestDefaultIsTheAPIServers compares Or with SetDefaults_Container; no
// difference is allowed, not even for names that we do not parse.
func TestDefaultIsTheAPIServers(t *testing.T) {
	policies := []string{"", "", "", "Always", "IfNotPresent", "Never", "always", "x"}
	r := rand.New(rand.NewPCG(3, 4))
	always := 0
	eachName(func(s string) {
		policy := pickOf(r, policies)
		c := v1.Container{Image: s, ImagePullPolicy: v1.PullPolicy(policy)}
		corev1.SetDefaults_Container(&c)
		got := pullpolicy.Policy(policy).OrDefault(s)
		if string(got) != string(c.ImagePullPolicy) {
			require.Fail(t, "another default", "%q, policy %q: %q, ours %q", s, policy, c.ImagePullPolicy, got)
		}
		if got == pullpolicy.Always && policy == "" {
			always++
		}
	})
	t.Logf("%d names, no difference; %d of those without a policy got Always", generatedNames, always)
	assert.Greater(t, always, 10_000)
}

// TestAllowlistIsTheKubelets compares patterns and what they match, and with
// them Trim: a pattern without a star is valid exactly if Trim leaves it alone.
func TestAllowlistIsTheKubelets(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var list []string
	valid, matches := 0, 0
	eachName(func(s string) {
		pattern := s
		if r.IntN(4) == 0 {
			pattern = s + pickOf(r, []string{"/*", "*", "/", "/**", "*/*", " "})
		}
		wantErr := pullmanager.ValidateAllowlistImagesPatterns([]string{pattern})
		_, err := pullpolicy.NewVerification(pullpolicy.NeverVerifyAllowlistedImages, pattern)
		if (wantErr == nil) != (err == nil) {
			require.Fail(t, "another answer", "pattern %q: %v, ours %v", pattern, wantErr, err)
		}
		if wantErr == nil {
			valid++
			if list = append(list, pattern); len(list) == 200 {
				matches += compareAllowlists(t, r, list)
				list = nil
			}
		}
	})
	t.Logf("%d patterns, %d of them valid, no difference; %d images matched", generatedNames, valid, matches)
	assert.Greater(t, valid, 100_000)
	assert.Greater(t, matches, 10_000)
}

// compareAllowlists asks both about names near the patterns.
func compareAllowlists(t *testing.T, r *rand.Rand, list []string) (matches int) {
	theirs, err := pullmanager.NewImagePullCredentialVerificationPolicy(kubeletconfig.NeverVerifyAllowlistedImages, list)
	require.NoError(t, err)
	ours, err := pullpolicy.NewVerification(pullpolicy.NeverVerifyAllowlistedImages, list...)
	require.NoError(t, err)
	for range 400 {
		image := randomName(r)
		if r.IntN(2) == 0 {
			image = list[r.IntN(len(list))]
			image = image[:len(image)-r.IntN(min(2, len(image)))] + pickOf(r, []string{"", ":v1", "@sha256:x", "/x", "x", ":latest", " "})
		}
		want := theirs.RequireCredentialVerificationForImage(image, true)
		if got := ours.Required(image, true); got != want {
			name, err := reference.Trim(image)
			require.Fail(t, "another answer", "%q (%q, %v): %v, ours %v; list %q", image, name, err, want, got, list)
		}
		if !want {
			matches++
		}
	}
	return matches
}
