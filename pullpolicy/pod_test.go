package pullpolicy_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/pullpolicy"
)

func TestImagesListsEveryPlaceOfAPod(t *testing.T) {
	got, err := pullpolicy.Images([]byte(`{
		"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app", "labels": {"image": "a label"}},
		"spec": {
			"volumes": [
				{"name": "data", "emptyDir": {}},
				{"name": "model", "image": {"reference": "model:v2", "pullPolicy": "Never"}},
				{"name": "none", "image": null},
				{"name": "half", "image": {}}
			],
			"ephemeralContainers": [{"name": "debug", "image": "busybox", "targetContainerName": "web"}],
			"containers": [
				{"name": "web", "image": "nginx", "imagePullPolicy": "Sometimes", "env": [{"name": "image", "value": "x"}]},
				{"name": "twice", "image": "nginx"},
				{"name": "filled in by another webhook"},
				null
			],
			"initContainers": [{"name": "migrate", "image": "migrate:v7", "imagePullPolicy": "Always"}],
			"imagePullSecrets": [{"name": "regcred"}]
		},
		"status": {"containerStatuses": [{"image": "docker.io/library/nginx:latest"}]}
	}`))
	require.NoError(t, err)
	assert.Equal(t, []pullpolicy.PodImage{
		{Path: "spec.initContainers[0]", Name: "migrate:v7", Policy: pullpolicy.Always},
		{Path: "spec.containers[0]", Name: "nginx", Policy: "Sometimes"},
		{Path: "spec.containers[1]", Name: "nginx"},
		{Path: "spec.containers[2]"},
		{Path: "spec.containers[3]"},
		{Path: "spec.ephemeralContainers[0]", Name: "busybox"},
		{Path: "spec.volumes[1]", Name: "model:v2", Policy: pullpolicy.Never, Volume: true},
		{Path: "spec.volumes[3]", Volume: true},
	}, got)
	for image, want := range map[pullpolicy.PodImage][2]string{
		got[0]: {"/spec/initContainers/0/image", "/spec/initContainers/0/imagePullPolicy"},
		got[5]: {"/spec/ephemeralContainers/0/image", "/spec/ephemeralContainers/0/imagePullPolicy"},
		got[6]: {"/spec/volumes/1/image/reference", "/spec/volumes/1/image/pullPolicy"},
	} {
		assert.Equal(t, want, [2]string{image.NamePointer(), image.PolicyPointer()})
	}
}

func TestImagesOfPodsWithoutImages(t *testing.T) {
	for _, pod := range []string{
		`{"spec": {}}`,
		`{"spec": {"containers": null, "volumes": []}}`,
		`{"kind": "", "apiVersion": "", "spec": {"volumes": [null]}}`, // as types of Go encode a Pod
	} {
		got, err := pullpolicy.Images([]byte(pod))
		require.NoError(t, err, pod)
		assert.Empty(t, got, pod)
	}
}

// A webhook must not admit a Pod of which it has not seen all images.
func TestImagesRefusesWhatIsNotAPod(t *testing.T) {
	for pod, want := range map[string]string{
		``:                            "not a Pod: bad JSON: the document ends early at byte 0",
		`[]`:                          "not a Pod: wrong type: want an object, found an array at byte 0",
		`{"spec": {}} {}`:             "not a Pod: data after the document at byte 13",
		`null`:                        "not a Pod: spec is required",
		`{}`:                          "not a Pod: spec is required",
		`{"kind": "Pod"}`:             "not a Pod: spec is required",
		`{"spec": null}`:              "not a Pod: spec is required",
		`{"containers": []}`:          "not a Pod: spec is required",
		`{"kind": "Deployment"}`:      `not a Pod: kind is "Deployment"; give the Pod itself`,
		`{"kind": "AdmissionReview"}`: `not a Pod: kind is "AdmissionReview"; give the Pod itself`,
		`{"apiVersion": "apps/v1", "kind": "Pod", "spec": {}}`: `not a Pod: apiVersion is "apps/v1"; give a Pod of v1`,
		`{"kind": 7}`:                                                   "not a Pod: kind: wrong type: want a string, found a number at byte 9",
		`{"spec": []}`:                                                  "not a Pod: spec: wrong type: want an object, found an array at byte 9",
		`{"spec": {"containers": {}}}`:                                  "not a Pod: spec.containers: wrong type: want an array, found an object at byte 24",
		`{"spec": {"containers": ["x"]}}`:                               "not a Pod: spec.containers[0]: wrong type: want an object, found a string at byte 25",
		`{"spec": {"containers": [{}, {"image": 1}]}}`:                  "not a Pod: spec.containers[1].image: wrong type: want a string, found a number at byte 39",
		`{"spec": {"containers": [{"Image": "x"}]}}`:                    "not a Pod: spec.containers[0].image: key in another case at byte 26",
		`{"spec": {"containers": [{"image": "x", "image": "y"}]}}`:      "not a Pod: spec.containers[0].image: duplicate key at byte 40",
		`{"spec": {"volumes": [{"image": "x"}]}}`:                       "not a Pod: spec.volumes[0].image: wrong type: want an object, found a string at byte 32",
		`{"spec": {"volumes": [{"image": {"pullPolicy": true}}]}}`:      "not a Pod: spec.volumes[0].image.pullPolicy: wrong type: want a string at byte 47",
		`{"spec": {"containers": []}, "spec": {"containers": []}}`:      "not a Pod: spec: duplicate key at byte 29",
		`{"spec": {"initContainers": [], "initcontainers": [{"a":1}]}}`: "not a Pod: spec.initContainers: key in another case at byte 32",
	} {
		got, err := pullpolicy.Images([]byte(pod))
		assert.EqualError(t, err, want, pod)
		assert.ErrorIs(t, err, pullpolicy.ErrPod, pod)
		assert.Nil(t, got, pod)
	}
}

func TestImagesHasLimits(t *testing.T) {
	many := func(n int) []byte {
		return []byte(`{"spec": {"volumes": [{}], "containers": [` + strings.Repeat("{},", n) + `{}], "initContainers": [{}]}}`)
	}
	got, err := pullpolicy.Images(many(9998))
	require.NoError(t, err)
	assert.Len(t, got, 10_000)
	_, err = pullpolicy.Images(many(9999))
	assert.EqualError(t, err, "not a Pod: it names more than 10000 images")
	_, err = pullpolicy.Images([]byte(`{"x": "` + strings.Repeat("x", 8<<20) + `"}`))
	assert.EqualError(t, err, "not a Pod: too large: 8388617 bytes, at most 8388608 are read at byte 0")
	_, err = pullpolicy.Images([]byte(fmt.Sprintf(`{"kind": %q}`, strings.Repeat("x", 1000))))
	assert.Less(t, len(err.Error()), 200)
}

// The policy that the API server fills in is the same in all four places.
func TestVectorsDefaultInEachPlaceOfAPod(t *testing.T) {
	for _, v := range load[struct{ Image, Policy, Want string }](t, "default.json", 69) {
		image, err := json.Marshal(v.Image)
		require.NoError(t, err)
		pod := fmt.Sprintf(`{"spec": {"initContainers": [{"image": %[1]s, "imagePullPolicy": %[2]q}], "containers": [{"image": %[1]s, "imagePullPolicy": %[2]q}],
			"ephemeralContainers": [{"image": %[1]s, "imagePullPolicy": %[2]q}], "volumes": [{"image": {"reference": %[1]s, "pullPolicy": %[2]q}}]}}`, image, v.Policy)
		images, err := pullpolicy.Images([]byte(pod))
		require.NoError(t, err, pod)
		require.Len(t, images, 4)
		for _, i := range images {
			assert.Equal(t, v.Image, i.Name)
			assert.Equal(t, pullpolicy.Policy(v.Want), i.Policy.OrDefault(i.Name), "%s: %q", i.Path, v.Image)
		}
	}
}

// FuzzImages compares Images with encoding/json, for all documents that Images accepts.
func FuzzImages(f *testing.F) {
	f.Add([]byte(`{"kind": "Pod", "spec": {"containers": [{"image": "a", "imagePullPolicy": "Always"}, null], "volumes": [{"image": {"reference": "b"}}, {}]}}`))
	f.Add([]byte(`{"spec": {"ephemeralContainers": [{"image": "\ud800"}], "initContainers": [{"\u0069mage": "c"}]}}`))
	f.Add([]byte(`{"spec": {"containers": [{"image": "a", "IMAGE": "b"}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := pullpolicy.Images(data)
		if err != nil {
			require.ErrorIs(t, err, pullpolicy.ErrPod)
			return
		}
		type container struct{ Image, ImagePullPolicy string }
		var pod struct {
			Spec struct {
				InitContainers, Containers, EphemeralContainers []container
				Volumes                                         []struct {
					Image *struct{ Reference, PullPolicy string }
				}
			}
		}
		require.NoError(t, json.Unmarshal(data, &pod))
		var want []pullpolicy.PodImage
		add := func(list string, containers []container) {
			for i, c := range containers {
				want = append(want, pullpolicy.PodImage{Path: fmt.Sprintf("spec.%s[%d]", list, i), Name: c.Image, Policy: pullpolicy.Policy(c.ImagePullPolicy)})
			}
		}
		add("initContainers", pod.Spec.InitContainers)
		add("containers", pod.Spec.Containers)
		add("ephemeralContainers", pod.Spec.EphemeralContainers)
		for i, v := range pod.Spec.Volumes {
			if v.Image != nil {
				want = append(want, pullpolicy.PodImage{Path: fmt.Sprintf("spec.volumes[%d]", i), Name: v.Image.Reference, Policy: pullpolicy.Policy(v.Image.PullPolicy), Volume: true})
			}
		}
		require.Equal(t, want, got)
	})
}
