package puller_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
)

func ExampleRuntime() {
	var rt puller.Runtime = &memory{}
	spec := puller.Spec{Ref: reference.MustParse("busybox:1"), Written: "busybox:1"}
	_, err := rt.Status(context.Background(), spec)
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	img, err := rt.Pull(context.Background(), spec)
	fmt.Println(img.Ref, err)
	// Output:
	// true
	// docker.io/library/busybox:1 <nil>
}

func ExamplePlanner() {
	var rt puller.Runtime = &memory{}
	planner, ok := rt.(puller.Planner)
	fmt.Println(ok)
	plan, err := planner.Plan(context.Background(), puller.Spec{Ref: reference.MustParse("busybox:1")})
	fmt.Println(plan.Digest[:19], len(plan.Fetch), err)
	// Output:
	// true
	// sha256:601084643101 0 <nil>
}

func ExampleResolver() {
	var rt puller.Runtime = &memory{}
	resolver, ok := rt.(puller.Resolver)
	fmt.Println(ok)
	found, err := resolver.Resolve(context.Background(), puller.Spec{Ref: reference.MustParse("busybox:1")})
	fmt.Println(found[:19], err)
	// Output:
	// true
	// sha256:601084643101 <nil>
}

func ExamplePlan() {
	plan := puller.Plan{
		Fetch:   []ocispec.Descriptor{{Size: 3_000_000}, {Size: 2_000}},
		Present: []ocispec.Descriptor{{Size: 500}},
	}
	var bytes int64
	for _, blob := range plan.Fetch {
		bytes += blob.Size
	}
	fmt.Println(len(plan.Fetch), bytes, len(plan.Present))
	// Output: 2 3002000 1
}

func ExampleSpec() {
	ref, written, err := reference.ParseWritten("busybox")
	spec := puller.Spec{Ref: ref, Written: written.CRI, Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}}
	fmt.Println(spec.Ref, spec.Written, spec.Credential.Anonymous(), err)
	// Output: docker.io/library/busybox:latest busybox:latest true <nil>
}

func ExampleImage() {
	p, err := puller.New(puller.Config{Runtime: &memory{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	img, err := p.Pull(context.Background(), puller.Request{Image: "busybox:1"})
	fmt.Println(img.Ref.Familiar(), img.Digest.Algorithm(), img.Size, err)
	// Output: busybox:1 sha256 4096 <nil>
}

func ExampleProgress() {
	show := func(p puller.Progress) {
		fmt.Printf("%s %d%%\n", p.State, 100*p.TotalDone/p.Total)
	}
	show(puller.Progress{State: puller.BlobFetching, Total: 200, TotalDone: 50})
	show(puller.Progress{State: puller.BlobStored, Total: 200, TotalDone: 200})
	// Output:
	// fetching 25%
	// stored 100%
}

func ExampleBlobState() {
	for _, state := range []puller.BlobState{puller.BlobFetching, puller.BlobRestarted, puller.BlobStored, puller.BlobPresent} {
		fmt.Print(state, " ")
	}
	// Output: fetching restarted stored present
}

func ExamplePuller_Find() {
	p, err := puller.New(puller.Config{Runtime: &memory{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	found, err := p.Find(context.Background(), puller.Request{Image: "busybox:1.36"})
	fmt.Println(found.Ref.Digest().Encoded()[:12], "opened by", found.Origin, err)
	// Output: d55432289a2f opened by no credential <nil>
}

func ExampleFound() {
	found := puller.Found{Origin: credentials.Origin{Kind: credentials.KindSecret, Namespace: "web", Name: "regcred"}}
	fmt.Println("opened by", found.Origin)
	// Output: opened by secret "web/regcred"
}

func ExampleInspector() {
	var rt puller.Runtime = &memory{}
	_, ok := rt.(puller.Inspector)
	fmt.Println(ok)
	_, err := puller.New(puller.Config{Runtime: rt, Admission: onlyTeam{}})
	fmt.Println(err)
	// Output:
	// false
	// puller: Config.Admission needs a Runtime that is an Inspector, because an Inspector asks it before it fetches blobs; *puller_test.memory is not an Inspector
}

// onlyTeam admits the images of one team. Package verify has checks of signatures.
type onlyTeam struct{}

func (onlyTeam) Admit(_ context.Context, image content.Admission) (string, error) {
	if repo := image.Ref.Repository(); !strings.HasPrefix(repo, "team/") {
		return "", fmt.Errorf("%s is not an image of the team", repo)
	}
	return "the rule of the team", nil
}

func (onlyTeam) Fingerprint() string { return "team" }

func (onlyTeam) Explain(reference.Reference) string { return "only images of the team" }

func ExampleConfig_admission() {
	reg, err := pullertest.Start(pullertest.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer reg.Close()
	for _, name := range []string{"team/app:v1", "other/app:v1"} {
		if _, err := reg.PutImage(name, pullertest.ImageSpec{Layers: []int64{100}}); err != nil {
			fmt.Println(err)
			return
		}
	}
	rt, err := transfer.New(transfer.Config{Store: &pullertest.MemStore{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := puller.New(puller.Config{Runtime: rt, Admission: onlyTeam{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	img, err := p.Pull(context.Background(), puller.Request{Image: reg.Host() + "/team/app:v1"})
	fmt.Println(img.AdmittedBy, err)
	_, err = p.Pull(context.Background(), puller.Request{Image: reg.Host() + "/other/app:v1"})
	fmt.Println(errors.Is(err, puller.ErrSignatureValidation), reg.Counts().BlobGet)
	// Output:
	// the rule of the team <nil>
	// true 2
}

func ExampleAdmissionState() {
	rt, err := transfer.New(transfer.Config{Store: &pullertest.MemStore{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := puller.New(puller.Config{Runtime: rt, Admission: onlyTeam{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	d, err := p.Explain(context.Background(), puller.Request{Image: "registry.example/team/app:v1", Policy: "Never"})
	fmt.Println(d.Admission.Policy, d.Admission.Rule, d.Admission.Admitted, err)
	// Output: team only images of the team false <nil>
}
