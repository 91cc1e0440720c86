package puller_test

import (
	"context"
	"fmt"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/pullpolicy"
)

// On a node, the kubelet's own records say whether a Pod may use a present image. Explain
// shows the answer and the reason. It changes nothing.
func ExampleAccessCheck() {
	kubelet, err := records.OpenKubelet("records/testdata/kubelet") // /var/lib/kubelet on a node
	if err != nil {
		fmt.Println(err)
		return
	}
	defer kubelet.Close()
	node := &presentImages{id: "sha256:1"} // asks the container runtime, as examples/cri does
	p, err := puller.New(puller.Config{Runtime: node, Records: kubelet, AsKubelet: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	d, err := p.Explain(context.Background(), puller.Request{
		Image: "registry.example/team/app:v1", Policy: pullpolicy.IfNotPresent, Pod: credentials.Pod{Namespace: "web"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(d.Store)
	fmt.Println(d.StoreWhy)
	fmt.Println(d.Access.Secrets)
	// Output:
	// present, but not for this Pod
	// none of the Pod's secrets has pulled the image before
	// [web/regcred (7)]
}

// presentImages is a Runtime in which every image is present.
type presentImages struct {
	memory
	id string
}

func (r *presentImages) Status(_ context.Context, spec puller.Spec) (puller.Image, error) {
	return puller.Image{Ref: spec.Ref, ID: r.id}, nil
}
