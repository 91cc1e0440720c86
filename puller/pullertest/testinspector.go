package pullertest

import (
	"context"
	"errors"
	"io/fs"
	"sync"

	"github.com/pullkit/pullkit/internal/fakeregistry"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
)

// inspect checks a puller.Inspector: that Pull asks Spec.Admit before any blob, obeys it,
// and that Inspect describes what is stored.
func (c *runtimeCheck) inspect() {
	inspector, ok := c.runtime.(puller.Inspector)
	if !ok {
		return
	}
	ctx := context.Background()
	_, err := inspector.Inspect(ctx, c.spec(0))
	c.must(errors.Is(err, fs.ErrNotExist), "Inspect before Pull: %v, want fs.ErrNotExist", err)

	var mu sync.Mutex
	var asked []content.Admission
	blobs := 0
	admit := func(answer error) func(context.Context, content.Admission) error {
		return func(_ context.Context, image content.Admission) error {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, image)
			blobs += c.reg.Counts().BlobGet
			return answer
		}
	}
	refusal := errors.New("refused by the test")
	spec := c.spec(0)
	spec.Admit = admit(refusal)
	_, err = c.runtime.Pull(ctx, spec)
	c.must(errors.Is(err, refusal), "Pull of an image that Spec.Admit refuses: %v, want the error of Admit in it", err)
	c.must(len(asked) > 0, "Pull does not call Spec.Admit")
	c.must(blobs == 0 && c.reg.Counts().BlobGet == 0, "a blob of an image that Spec.Admit refuses is fetched")
	_, err = c.runtime.Status(ctx, c.spec(0))
	c.must(errors.Is(err, fs.ErrNotExist), "Status after Spec.Admit has refused the image: %v, want fs.ErrNotExist", err)
	for _, image := range asked {
		c.described(image, spec)
	}

	asked, blobs = nil, 0
	spec.Admit = admit(nil)
	pulled, err := c.runtime.Pull(ctx, spec)
	if !c.must(err == nil, "Pull of an image that Spec.Admit admits: %v", err) {
		return
	}
	c.must(len(asked) > 0, "Pull does not call Spec.Admit")
	c.must(blobs == 0, "Spec.Admit is called after a blob was fetched")
	image, err := inspector.Inspect(ctx, c.spec(0))
	if c.must(err == nil, "Inspect after Pull: %v", err) {
		c.described(image, spec)
		c.must(image.Top.Digest == pulled.Digest && image.Descriptor.Digest == pulled.Manifest,
			"Inspect describes %s and %s, and Pull has returned %s and %s", image.Top.Digest, image.Descriptor.Digest, pulled.Digest, pulled.Manifest)
	}
}

// described checks an Admission that describes the first image.
func (c *runtimeCheck) described(image content.Admission, spec puller.Spec) {
	c.must(image.Ref == spec.Ref, "Admission.Ref is %v, want %v", image.Ref, spec.Ref)
	c.must(image.Repo.Ref.Name() == spec.Ref.Name() && image.Repo.Ref.Digest() == c.image.Descriptor.Digest,
		"Admission.Repo is of %v, want %s with the digest of the index", image.Repo.Ref, spec.Ref.Name())
	c.must(image.Repo.Cred.Same(spec.Credential), "Admission.Repo has another credential than Spec.Credential")
	c.must(image.Top.Digest == c.image.Descriptor.Digest, "Admission.Top is %s, want the index, %s", image.Top.Digest, c.image.Descriptor.Digest)
	c.must(image.Descriptor.Digest == c.image.Manifests[0].Digest, "Admission.Descriptor is %s, want the platform's manifest, %s", image.Descriptor.Digest, c.image.Manifests[0].Digest)
	c.must(fakeregistry.SHA256(image.Manifest) == image.Descriptor.Digest, "Admission.Manifest does not have the bytes of the platform's manifest")
}
