package puller_test

import (
	"context"
	"fmt"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
)

// The use cases of the Kubernetes documentation page "Images".

// A cluster that runs only public images needs no configuration.
func Example_publicImages() {
	p, err := puller.New(puller.Config{Runtime: &memory{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = p.Pull(context.Background(), puller.Request{Image: "busybox:1.36"})
	fmt.Println(reason(err))
	// Output: ok
}

// A cluster with private images that all its users may use: the node has a credential.
func Example_privateImagesForAll() {
	node := pullSecret("", "registry.example", "of the company") // credentials.ReadFile reads the node's config.json
	p, err := puller.New(puller.Config{
		Runtime: &memory{passwords: map[string]string{"registry.example/app": "of the company"}},
		Keyring: node,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, namespace := range []string{"team-a", "team-b"} {
		_, err = p.Pull(context.Background(), puller.Request{Image: "registry.example/app:v1", Pod: credentials.Pod{Namespace: namespace}})
		fmt.Println(namespace, reason(err))
	}
	// Output:
	// team-a ok
	// team-b ok
}

// A cluster with private images, a few of which need stricter control. With
// AlwaysPullImages the registry checks each use, and the Pods that may use the image have a
// pull secret.
func Example_stricterControl() {
	p, err := puller.New(puller.Config{
		Runtime:    &memory{passwords: map[string]string{"registry.example/payroll": "of finance"}},
		AlwaysPull: true,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	req := puller.Request{Image: "registry.example/payroll:v1", Policy: pullpolicy.IfNotPresent}
	finance := req
	finance.Pod = credentials.Pod{Namespace: "finance", UID: "1"}
	finance.Keyring = pullSecret("finance", "registry.example", "of finance")
	_, err = p.Pull(context.Background(), finance)
	fmt.Println("finance", reason(err))
	req.Pod = credentials.Pod{Namespace: "web", UID: "2"}
	_, err = p.Pull(context.Background(), req)
	fmt.Println("web, image present:", reason(err))
	// Output:
	// finance ok
	// web, image present: ErrImagePull
}

// A cluster of several tenants, each with its own registry and pull secrets. Records say
// which Pods may use an image that is on the node. This checks as strictly as
// AlwaysPullImages, with fewer requests to the registry.
func Example_multiTenant() {
	recs, done := tempRecords() // records.Open("/var/lib/agent/records")
	defer done()
	rt := &memory{passwords: map[string]string{"a.registry.example/app": "of a"}}
	p, err := puller.New(puller.Config{Runtime: rt, Records: recs})
	if err != nil {
		fmt.Println(err)
		return
	}
	show := func(tenant, password string, policy pullpolicy.Policy) {
		_, err := p.Pull(context.Background(), puller.Request{
			Image: "a.registry.example/app:v1", Policy: policy,
			Pod:     credentials.Pod{Namespace: tenant, UID: tenant + password},
			Keyring: pullSecret(tenant, "a.registry.example", password),
		})
		fmt.Println(tenant, reason(err), "- registry asked", rt.asked)
	}
	show("a", "of a", pullpolicy.IfNotPresent)
	show("a", "of a", pullpolicy.IfNotPresent)
	show("b", "a guess", pullpolicy.IfNotPresent)
	show("b", "a guess", pullpolicy.Never)
	// Output:
	// a ok - registry asked 1
	// a ok - registry asked 1
	// b ErrImagePull - registry asked 2
	// b ErrImageNeverPull - registry asked 2
}

// Pre-pulled images are found and used under IfNotPresent and Never, without any
// registry.
func Example_prePulledImages() {
	rt := &memory{}
	rt.preload(reference.MustParse("registry.example/app:v1"))
	p, err := puller.New(puller.Config{Runtime: rt})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, policy := range []pullpolicy.Policy{pullpolicy.IfNotPresent, pullpolicy.Never} {
		_, err := p.Pull(context.Background(), puller.Request{Image: "registry.example/app:v1", Policy: policy})
		fmt.Println(policy, reason(err), rt.asked)
	}
	// Output:
	// IfNotPresent ok 0
	// Never ok 0
}

// A webhook or a tool replaces the tags of a Pod by digests, and sets the pull policies that
// the API server would set. The answer is a JSON Patch.
func Example_pinnedPod() {
	p, err := puller.New(puller.Config{Runtime: &memory{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	patch, err := pin(context.Background(), p, []byte(`{"kind": "Pod", "spec": {
		"containers": [{"name": "web", "image": "nginx"}],
		"volumes": [{"name": "model", "image": {"reference": "registry.example/model:v2", "pullPolicy": "Never"}}]
	}}`))
	for _, op := range patch {
		fmt.Println(op.Path, op.Value)
	}
	fmt.Println(err)
	// Output:
	// /spec/containers/0/imagePullPolicy Always
	// /spec/containers/0/image docker.io/library/nginx:latest@sha256:86cee2c10898a48ff47a0626f8202a2408b5893aff5df58ae10d83166e6d7b0e
	// /spec/volumes/0/image/pullPolicy Never
	// /spec/volumes/0/image/reference registry.example/model:v2@sha256:fbde30f2f18be20426627df957fcbdbb447c11da3d5cb5ea10dae03c20a2fad5
	// <nil>
}

// An operation is one step of a JSON Patch (RFC 6902).
type operation struct{ Op, Path, Value string }

func pin(ctx context.Context, p *puller.Puller, pod []byte) (patch []operation, err error) {
	images, err := pullpolicy.Images(pod)
	if err != nil {
		return nil, err
	}
	for _, image := range images {
		policy := image.Policy.OrDefault(image.Name)                     // of the name as written, because a digest would change it
		pinned, err := p.Resolve(ctx, puller.Request{Image: image.Name}) // sends a HEAD; a name with a digest is returned without a request
		if err != nil {
			return nil, fmt.Errorf("%s: %w", image.Path, err)
		}
		patch = append(patch,
			operation{"add", image.PolicyPointer(), string(policy)},
			operation{"add", image.NamePointer(), pinned.String()})
	}
	return patch, nil
}
