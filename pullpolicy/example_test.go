package pullpolicy_test

import (
	"errors"
	"fmt"

	"github.com/pullkit/pullkit/pullpolicy"
)

func ExampleDefault() {
	fmt.Println(pullpolicy.Default("nginx"))
	fmt.Println(pullpolicy.Default("nginx:1.27"))
	fmt.Println(pullpolicy.Default("registry.example:5000/nginx"))
	// Output:
	// Always
	// IfNotPresent
	// Always
}

func ExampleImages() {
	images, err := pullpolicy.Images([]byte(`{"kind": "Pod", "spec": {
		"containers": [{"name": "web", "image": "nginx"}],
		"initContainers": [{"name": "migrate", "image": "migrate:v7", "imagePullPolicy": "Never"}],
		"volumes": [{"name": "model", "image": {"reference": "registry.example/model:v2"}}]
	}}`))
	for _, image := range images {
		fmt.Println(image.Path, image.Name, image.Policy.OrDefault(image.Name))
	}
	fmt.Println(err)
	// Output:
	// spec.initContainers[0] migrate:v7 Never
	// spec.containers[0] nginx Always
	// spec.volumes[0] registry.example/model:v2 IfNotPresent
	// <nil>
}

func ExamplePodImage_PolicyPointer() {
	images, err := pullpolicy.Images([]byte(`{"spec": {"containers": [{"image": "nginx"}]}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, image := range images { // a JSON Patch that fills in what the API server would
		fmt.Printf(`{"op": "add", "path": %q, "value": %q}`, image.PolicyPointer(), image.Policy.OrDefault(image.Name))
	}
	// Output: {"op": "add", "path": "/spec/containers/0/imagePullPolicy", "value": "Always"}
}

func ExamplePodImage_NamePointer() {
	image := pullpolicy.PodImage{Path: "spec.volumes[2]", Name: "registry.example/model:v2", Volume: true}
	fmt.Println(image.NamePointer())
	// Output: /spec/volumes/2/image/reference
}

func ExampleDefaultByDigest() {
	const image = "nginx:latest@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	fmt.Println(pullpolicy.Default(image), pullpolicy.DefaultByDigest(image))
	// Output: Always IfNotPresent
}

func ExampleParse() {
	_, err := pullpolicy.Parse("always")
	fmt.Println(err)
	// Output: pull policy "always" is not supported; write Always
}

func ExampleReason() {
	_, err := pullpolicy.Parse("")
	fmt.Println(errors.Is(err, pullpolicy.ErrRequired))
	// Output: true
}

func ExamplePolicy() {
	var written pullpolicy.Policy // the Pod says nothing
	policy := written.OrDefault("nginx:1.27")
	fmt.Println(policy, policy.AsksStore(), policy.Decide(pullpolicy.Present))
	// Output: IfNotPresent true Use
}

func ExamplePresence() {
	for _, known := range []pullpolicy.Presence{pullpolicy.Present, pullpolicy.NeedsProof, pullpolicy.Absent} {
		fmt.Println(known, pullpolicy.IfNotPresent.Decide(known))
	}
	// Output:
	// Present Use
	// NeedsProof Pull
	// Absent Pull
}

func ExampleOutcome() {
	switch pullpolicy.Never.Decide(pullpolicy.Absent) {
	case pullpolicy.Refuse:
		fmt.Println("ErrImageNeverPull")
	case pullpolicy.Pull:
		fmt.Println("pulling")
	}
	// Output: ErrImageNeverPull
}

func ExampleAlwaysPullImages() {
	request := pullpolicy.AlwaysPullImages{
		Images: []pullpolicy.PodImage{
			{Path: "spec.containers[0]", Name: "app:v1", Policy: pullpolicy.IfNotPresent},
			{Path: "spec.volumes[0]", Name: "model:v1", Volume: true},
		},
	}
	fmt.Println(request.Mutate(), request.Images[0].Policy, request.Images[1].Policy)
	// Output: true Always Always
}

func ExampleForbiddenError() {
	request := pullpolicy.AlwaysPullImages{Images: []pullpolicy.PodImage{
		{Path: "spec.containers[0]", Name: "app:v1", Policy: pullpolicy.Never},
	}}
	var forbidden *pullpolicy.ForbiddenError
	if err := request.Validate(); errors.As(err, &forbidden) {
		fmt.Println(err)
		fmt.Println(forbidden.Images[0].Name)
	}
	// Output:
	// AlwaysPullImages: "spec.containers[0].imagePullPolicy" is "Never"; write Always
	// app:v1
}

// An update that changes only a label brings no new image.
func ExampleOperation() {
	images := []pullpolicy.PodImage{{Path: "spec.containers[0]", Name: "app:v1", Policy: pullpolicy.Never}}
	request := pullpolicy.AlwaysPullImages{Operation: pullpolicy.Update, Images: images, OldImages: images}
	fmt.Println(request.Applies(), request.Validate())
	// Output: false <nil>
}

func ExamplePodImage() {
	old := []pullpolicy.PodImage{{Path: "spec.containers[0]", Name: "app:v1"}}
	images := []pullpolicy.PodImage{{Path: "spec.containers[0]", Name: "app:v2"}}
	request := pullpolicy.AlwaysPullImages{Operation: pullpolicy.Update, Images: images, OldImages: old}
	request.Mutate()
	fmt.Println(images[0].Policy)
	// Output: Always
}

func ExampleVerificationPolicy() {
	check, err := pullpolicy.NewVerification(pullpolicy.NeverVerifyAllowlistedImages, "registry.k8s.io/*", "ubuntu")
	fmt.Println(check.Policy(), check.Required("registry.k8s.io/pause:3.10", true), check.Required("docker.io/library/ubuntu", true), err)
	_, err = pullpolicy.NewVerification(pullpolicy.NeverVerifyAllowlistedImages, "*.example/app")
	fmt.Println(err)
	// Output:
	// NeverVerifyAllowlistedImages false true <nil>
	// allowlist: "*.example/app" is not a pattern of an allowlist: a star may only be at the end, in "/*"
}

func ExampleNewVerification() {
	check, err := pullpolicy.NewVerification(pullpolicy.NeverVerifyAllowlistedImages, "registry.k8s.io/*")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(check.Required("registry.k8s.io/pause:3.10", false), check.Required("team.example/app:v1", false))
	// Output: false true
}

func ExampleVerification() {
	var check pullpolicy.Verification // the kubelet's default
	fmt.Println(check.Policy())
	fmt.Println("preloaded:", check.Required("app:v1", false), "pulled:", check.Required("app:v1", true))
	// Output:
	// NeverVerifyPreloadedImages
	// preloaded: false pulled: true
}
