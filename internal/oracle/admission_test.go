package oracle

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	api "k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/plugin/pkg/admission/alwayspullimages"
)

// TestAlwaysPullImagesIsThePlugins runs random requests through Validate and Mutate, and through
// the plugin's own halves.
func TestAlwaysPullImagesIsThePlugins(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	plugin := alwayspullimages.NewAlwaysPullImages()
	requests, refused, changed := 20_000, 0, 0
	for range requests {
		pod := randomPod(r)
		var old *api.Pod
		operation := admission.Operation(pickOf(r, []string{"CREATE", "UPDATE", "UPDATE"}))
		if operation == admission.Update {
			old = randomPod(r)
			if r.IntN(2) == 0 {
				old = pod.DeepCopy()
			}
		}
		resource := schema.ParseGroupResource(pickOf(r, []string{"pods", "pods", "pods", "deployments.apps", "pods.metrics.k8s.io"}))
		subresource := pickOf(r, []string{"", "", "", "status", "ephemeralcontainers"})

		request := pullpolicy.AlwaysPullImages{
			Resource: resource.String(), Subresource: subresource, Operation: pullpolicy.Operation(operation), Images: imagesOf(pod),
		}
		attributes := admission.NewAttributesRecord(pod, nil, schema.GroupVersionKind{}, "ns", "pod", resource.WithVersion("v1"), subresource, operation, nil, false, nil)
		if old != nil {
			request.OldImages = imagesOf(old)
			attributes = admission.NewAttributesRecord(pod, old, schema.GroupVersionKind{}, "ns", "pod", resource.WithVersion("v1"), subresource, operation, nil, false, nil)
		}
		what := fmt.Sprintf("%+v", request)
		want, got := plugin.Validate(t.Context(), attributes, nil), request.Validate()
		require.Equal(t, want != nil, got != nil, "%s: %v, ours %v", what, want, got)
		if got != nil {
			refused++
			for _, i := range got.(*pullpolicy.ForbiddenError).Images {
				field := i.Path + ".imagePullPolicy"
				if i.Volume {
					field = i.Path + ".image.pullPolicy"
				}
				require.Contains(t, want.Error(), field, what)
				require.Contains(t, got.Error(), field, what)
			}
		}
		require.NoError(t, plugin.Admit(t.Context(), attributes, nil), what)
		if request.Mutate() {
			changed++
		}
		require.Equal(t, imagesOf(pod), request.Images, what)
	}
	t.Logf("%d requests, no difference; %d refused, %d changed", requests, refused, changed)
	assert.Greater(t, refused, 1000)
	assert.Equal(t, refused, changed, "what is refused is what the mutating half would have changed")
}

func randomPod(r *rand.Rand) *api.Pod {
	images := []string{"a", "b:v1", "c"}
	policies := []string{"Always", "Always", "Always", "IfNotPresent", "Never", ""}
	policy := func() api.PullPolicy { return api.PullPolicy(pickOf(r, policies)) }
	var pod api.Pod
	for range r.IntN(3) {
		pod.Spec.Containers = append(pod.Spec.Containers, api.Container{Image: pickOf(r, images), ImagePullPolicy: policy()})
	}
	for range r.IntN(2) {
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, api.Container{Image: pickOf(r, images), ImagePullPolicy: policy()})
	}
	for range r.IntN(2) {
		pod.Spec.EphemeralContainers = append(pod.Spec.EphemeralContainers, api.EphemeralContainer{
			EphemeralContainerCommon: api.EphemeralContainerCommon{Image: pickOf(r, images), ImagePullPolicy: policy()},
		})
	}
	for range r.IntN(3) {
		var v api.Volume
		if r.IntN(3) > 0 {
			v.Image = &api.ImageVolumeSource{Reference: pickOf(r, images), PullPolicy: policy()}
		}
		pod.Spec.Volumes = append(pod.Spec.Volumes, v)
	}
	return &pod
}

// imagesOf returns a Pod's images as a webhook lists them.
func imagesOf(pod *api.Pod) []pullpolicy.PodImage {
	var images []pullpolicy.PodImage
	add := func(list string, i int, name string, policy api.PullPolicy) {
		images = append(images, pullpolicy.PodImage{
			Path: fmt.Sprintf("spec.%s[%d]", list, i), Name: name, Policy: pullpolicy.Policy(policy), Volume: list == "volumes",
		})
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
	return images
}
