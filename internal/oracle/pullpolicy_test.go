package oracle

import (
	"encoding/json"
	"fmt"
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

// TestDefaultIsTheAPIServers compares OrDefault with SetDefaults_Container. They must agree on
// all names, also on names that package reference does not parse.
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

// TestImagesOfAPodAreTheAPIServers compares Images and OrDefault with the defaults of whole Pods:
// the fields that have an image, and their policies.
func TestImagesOfAPodAreTheAPIServers(t *testing.T) {
	policies := []string{"", "", "Always", "IfNotPresent", "Never", "x"}
	r := rand.New(rand.NewPCG(9, 10))
	var names []string
	images := 0
	eachName(func(s string) {
		if names = append(names, s); len(names) < 8 {
			return
		}
		next := func() (string, v1.PullPolicy) {
			name := names[0]
			names = names[1:]
			return name, v1.PullPolicy(pickOf(r, policies))
		}
		pod := &v1.Pod{}
		for len(names) > 0 {
			name, policy := next()
			switch r.IntN(5) {
			case 0:
				pod.Spec.InitContainers = append(pod.Spec.InitContainers, v1.Container{Image: name, ImagePullPolicy: policy})
			case 1:
				pod.Spec.Containers = append(pod.Spec.Containers, v1.Container{Image: name, ImagePullPolicy: policy})
			case 2:
				pod.Spec.EphemeralContainers = append(pod.Spec.EphemeralContainers, v1.EphemeralContainer{
					EphemeralContainerCommon: v1.EphemeralContainerCommon{Image: name, ImagePullPolicy: policy}})
			case 3:
				pod.Spec.Volumes = append(pod.Spec.Volumes, v1.Volume{VolumeSource: v1.VolumeSource{Image: &v1.ImageVolumeSource{Reference: name, PullPolicy: policy}}})
			case 4:
				pod.Spec.Volumes = append(pod.Spec.Volumes, v1.Volume{VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}})
			}
		}
		data, err := json.Marshal(pod)
		require.NoError(t, err)
		got, err := pullpolicy.Images(data)
		require.NoError(t, err)
		for i := range got {
			got[i].Policy = got[i].Policy.OrDefault(got[i].Name)
		}
		require.NoError(t, json.Unmarshal(data, pod)) // a name that is not UTF-8 has changed
		corev1.SetObjectDefaults_Pod(pod)
		var want []pullpolicy.PodImage
		add := func(list string, i int, name string, policy v1.PullPolicy) {
			want = append(want, pullpolicy.PodImage{Path: fmt.Sprintf("spec.%s[%d]", list, i), Name: name, Policy: pullpolicy.Policy(policy), Volume: list == "volumes"})
		}
		for i, c := range pod.Spec.InitContainers {
			add("initContainers", i, c.Image, c.ImagePullPolicy)
		}
		for i, c := range pod.Spec.Containers {
			add("containers", i, c.Image, c.ImagePullPolicy)
		}
		for i, c := range pod.Spec.EphemeralContainers {
			add("ephemeralContainers", i, c.Image, c.ImagePullPolicy)
		}
		for i, v := range pod.Spec.Volumes {
			if v.Image != nil {
				add("volumes", i, v.Image.Reference, v.Image.PullPolicy)
			}
		}
		require.Equal(t, want, got, "%s", data)
		images += len(got)
	})
	t.Logf("%d images, no difference", images)
	assert.Greater(t, images, 10_000)
}

// TestAllowlistIsTheKubelets compares which patterns are valid, and which images they match.
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

// compareAllowlists compares the answers for names near the patterns, and returns how many names
// match.
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
