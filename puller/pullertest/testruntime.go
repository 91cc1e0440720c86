package pullertest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/reference"
)

// TestRuntime tests an implementation of puller.Runtime with an image for linux/amd64 and
// linux/arm64/v8. The image is in registries of this package, which listen in the network,
// or on sockets if network is nil.
//
// TestRuntime calls newRuntime several times. Each call of newRuntime returns a new Runtime
// that has no image and can pull from the registry at host ("127.0.0.1:5000") over plain
// http. The caller of TestRuntime closes and removes the Runtimes.
//
// The error is nil if the Runtime keeps its contract, and otherwise lists all that is
// wrong. A Runtime that is also a puller.Planner, a puller.Resolver or a
// puller.Inspector is tested as one.
func TestRuntime(network *Network, newRuntime func(host string) (puller.Runtime, error)) error {
	var wrong []error
	for _, c := range []struct {
		name  string
		check func(*runtimeCheck)
	}{
		{"pull", (*runtimeCheck).pull},
		{"credentials", (*runtimeCheck).credentials},
		{"pull again", (*runtimeCheck).again},
		{"what is not there", (*runtimeCheck).absent},
		{"cancelled", (*runtimeCheck).cancelled},
		{"progress", (*runtimeCheck).progress},
		{"plan", (*runtimeCheck).plan},
		{"resolve", (*runtimeCheck).resolve},
		{"admission", (*runtimeCheck).inspect},
		{"many at once", (*runtimeCheck).manyAtOnce},
	} {
		errs, err := checkRuntime(network, newRuntime, c.check)
		if err != nil {
			return err
		}
		for _, err := range errs {
			wrong = append(wrong, fmt.Errorf("%s: %w", c.name, err))
		}
	}
	return errors.Join(wrong...)
}

// A runtimeCheck is the test of one Runtime.
type runtimeCheck struct {
	runtime puller.Runtime
	reg     *Registry
	image   PutResult

	findings
}

func checkRuntime(network *Network, newRuntime func(string) (puller.Runtime, error), check func(*runtimeCheck)) ([]error, error) {
	reg, err := Start(Config{Network: network, Auth: AuthBearer, Users: []User{{Name: "robot", Password: "right"}}})
	if err != nil {
		return nil, err
	}
	defer reg.Close()
	image, err := reg.PutImage("team/app:v1", ImageSpec{
		Platforms: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64", Variant: "v8"}},
		Layers:    []int64{200_000, 1000},
	})
	if err != nil {
		return nil, err
	}
	runtime, err := newRuntime(reg.Host())
	if err != nil {
		return nil, fmt.Errorf("new runtime: %w", err)
	}
	c := &runtimeCheck{runtime: runtime, reg: reg, image: image}
	check(c)
	return c.wrong, nil
}

// spec asks for the i-th platform of the image with the right credential.
func (c *runtimeCheck) spec(i int) puller.Spec {
	written := c.reg.Host() + "/team/app:v1"
	return puller.Spec{
		Ref:        reference.MustParse(written),
		Written:    written,
		Platform:   *c.image.Manifests[i].Platform,
		Credential: credentials.Credential{Username: "robot", Password: credentials.Conceal("right")},
	}
}

// stored checks the Image that Pull returned for the i-th platform, and that Status returns
// the same Image.
func (c *runtimeCheck) stored(i int, pulled puller.Image) {
	spec := c.spec(i)
	c.must(pulled.Ref == spec.Ref, "the image's name is %v, want %v", pulled.Ref, spec.Ref)
	c.must(pulled.ID != "", "the image has no ID")
	c.must(pulled.Digest == "" || pulled.Digest == c.image.Descriptor.Digest, "the image's digest is %s, want the index's, %s", pulled.Digest, c.image.Descriptor.Digest)
	c.must(pulled.Manifest == "" || pulled.Manifest == c.image.Manifests[i].Digest, "the image's manifest is %s, want %s", pulled.Manifest, c.image.Manifests[i].Digest)
	got, err := c.runtime.Status(context.Background(), spec)
	c.must(err == nil && got.ID == pulled.ID && got.Ref == pulled.Ref && got.Digest == pulled.Digest,
		"Status after Pull: %+v, %v, want %+v", got, err, pulled)
}

func (c *runtimeCheck) pull() {
	ctx := context.Background()
	for i := range c.image.Manifests {
		_, err := c.runtime.Status(ctx, c.spec(i))
		c.must(errors.Is(err, fs.ErrNotExist), "Status before Pull: %v, want fs.ErrNotExist", err)
		pulled, err := c.runtime.Pull(ctx, c.spec(i))
		if c.must(err == nil, "Pull: %v", err) {
			c.stored(i, pulled)
		}
	}
	other := c.spec(0)
	other.Platform = ocispec.Platform{OS: "plan9", Architecture: "mips"}
	_, err := c.runtime.Pull(ctx, other)
	c.must(err != nil, "Pull for a platform that is not in the index succeeds")
}

func (c *runtimeCheck) credentials() {
	for _, cred := range []credentials.Credential{{}, {Username: "robot", Password: credentials.Conceal(wrongPassword)}} {
		spec := c.spec(0)
		spec.Credential = cred
		_, err := c.runtime.Pull(context.Background(), spec)
		c.must(errors.Is(err, fs.ErrPermission), "Pull with a wrong credential: %v, want fs.ErrPermission", err)
		_, err = c.runtime.Status(context.Background(), spec)
		c.must(errors.Is(err, fs.ErrNotExist), "Status after a Pull that was refused: %v, want fs.ErrNotExist", err)
	}
	pulled, err := c.runtime.Pull(context.Background(), c.spec(0))
	if c.must(err == nil, "Pull with the right credential after wrong ones: %v", err) {
		c.stored(0, pulled)
	}
}

func (c *runtimeCheck) again() {
	ctx := context.Background()
	first, err := c.runtime.Pull(ctx, c.spec(0))
	if !c.must(err == nil, "Pull: %v", err) {
		return
	}
	c.reg.ResetCounts()
	second, err := c.runtime.Pull(ctx, c.spec(0))
	c.must(err == nil && second.ID == first.ID, "Pull again: %+v, %v, want %+v", second, err, first)
	counts := c.reg.Counts()
	c.must(counts.BlobGet == 0, "Pull again fetches %d blobs", counts.BlobGet)
	c.must(counts.ManifestGet+counts.ManifestHead > 0, "Pull again does not ask the registry")
	wrong := c.spec(0)
	wrong.Credential.Password = credentials.Conceal(wrongPassword)
	_, err = c.runtime.Pull(ctx, wrong)
	c.must(errors.Is(err, fs.ErrPermission), "Pull again with a wrong credential: %v, want fs.ErrPermission", err)
	c.stored(0, first)
}

func (c *runtimeCheck) absent() {
	spec := c.spec(0)
	spec.Written = c.reg.Host() + "/team/app:v2"
	spec.Ref = reference.MustParse(spec.Written)
	_, err := c.runtime.Pull(context.Background(), spec)
	c.must(errors.Is(err, fs.ErrNotExist), "Pull of a tag that is not there: %v, want fs.ErrNotExist", err)
}

func (c *runtimeCheck) cancelled() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := c.runtime.Pull(ctx, c.spec(0))
	c.must(errors.Is(err, context.Canceled), "Pull with a context that has ended: %v, want context.Canceled", err)
}

func (c *runtimeCheck) progress() {
	var mu sync.Mutex
	done := map[string]puller.Progress{}
	busy, returned, total := false, false, int64(0)
	spec := c.spec(0)
	spec.Progress = func(p puller.Progress) {
		mu.Lock()
		c.must(!busy, "Progress is called while it runs")
		c.must(!returned, "Progress is called after Pull has returned")
		busy = true
		mu.Unlock()
		before := done[string(p.Blob.Digest)]
		c.must(p.State == puller.BlobRestarted || p.Done >= before.Done, "Done of %s goes from %d to %d", p.Blob.Digest, before.Done, p.Done)
		c.must(p.Done <= p.Blob.Size && p.Resumed <= p.Done, "%d of %d bytes are done, %d of them resumed", p.Done, p.Blob.Size, p.Resumed)
		c.must(p.State == puller.BlobRestarted || p.TotalDone >= total, "TotalDone goes from %d to %d", total, p.TotalDone)
		total = p.TotalDone
		done[string(p.Blob.Digest)] = p
		mu.Lock()
		busy = false
		mu.Unlock()
	}
	_, err := c.runtime.Pull(context.Background(), spec)
	mu.Lock()
	returned = true
	mu.Unlock()
	c.must(err == nil, "Pull: %v", err)
}

func (c *runtimeCheck) plan() {
	planner, ok := c.runtime.(puller.Planner)
	if !ok {
		return
	}
	plan, err := planner.Plan(context.Background(), c.spec(1))
	if !c.must(err == nil, "Plan: %v", err) {
		return
	}
	c.must(plan.Digest == c.image.Descriptor.Digest && plan.Manifest == c.image.Manifests[1].Digest, "Plan: %s and %s, want %s and %s",
		plan.Digest, plan.Manifest, c.image.Descriptor.Digest, c.image.Manifests[1].Digest)
	c.must(len(plan.Verdicts) == len(c.image.Manifests), "Plan: %d verdicts for %d entries", len(plan.Verdicts), len(c.image.Manifests))
	blobs := len(c.image.Blobs) / len(c.image.Manifests)
	c.must(len(plan.Fetch) == blobs && len(plan.Present) == 0, "Plan before Pull: %d to fetch and %d present of %d blobs", len(plan.Fetch), len(plan.Present), blobs)
	c.must(c.reg.Counts().BlobGet == 0, "Plan fetches blobs")
	_, err = c.runtime.Pull(context.Background(), c.spec(1))
	c.must(err == nil, "Pull: %v", err)
	plan, err = planner.Plan(context.Background(), c.spec(1))
	c.must(err == nil && len(plan.Fetch) == 0 && len(plan.Present) == blobs, "Plan after Pull: %d to fetch and %d present of %d blobs, %v", len(plan.Fetch), len(plan.Present), blobs, err)
}

func (c *runtimeCheck) resolve() {
	resolver, ok := c.runtime.(puller.Resolver)
	if !ok {
		return
	}
	spec := c.spec(0)
	spec.Platform = ocispec.Platform{OS: "plan9", Architecture: "mips"} // which is not in the index
	found, err := resolver.Resolve(context.Background(), spec)
	c.must(err == nil && found == c.image.Descriptor.Digest, "Resolve: %s, %v, want %s whatever the platform", found, err, c.image.Descriptor.Digest)
	spec.Credential.Password = credentials.Conceal(wrongPassword)
	_, err = resolver.Resolve(context.Background(), spec)
	c.must(errors.Is(err, fs.ErrPermission), "Resolve with a wrong credential: %v, want fs.ErrPermission", err)
	spec = c.spec(0)
	spec.Written = c.reg.Host() + "/team/app:v2"
	spec.Ref = reference.MustParse(spec.Written)
	_, err = resolver.Resolve(context.Background(), spec)
	c.must(errors.Is(err, fs.ErrNotExist), "Resolve of a tag that is not there: %v, want fs.ErrNotExist", err)
}

func (c *runtimeCheck) manyAtOnce() {
	var pulls sync.WaitGroup
	for n := range 8 {
		pulls.Go(func() {
			pulled, err := c.runtime.Pull(context.Background(), c.spec(n%2))
			if c.must(err == nil, "Pull: %v", err) {
				c.stored(n%2, pulled)
			}
		})
	}
	pulls.Wait()
}
