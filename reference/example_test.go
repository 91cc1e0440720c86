package reference_test

import (
	"errors"
	"fmt"

	"github.com/pullkit/pullkit/reference"
)

func ExampleParse() {
	ref, err := reference.Parse("fictional.registry.example:10443/imagename")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(ref.Registry())
	fmt.Println(ref.Repository())
	fmt.Println(ref.Tag())
	// Output:
	// fictional.registry.example:10443
	// imagename
	// latest
}

// Two spellings of one image are equal, so that a Reference can be a map key.
func ExampleReference() {
	a := reference.MustParse("pause")
	b := reference.MustParse("docker.io/library/pause:latest")
	fmt.Println(a == b, a, a.Familiar())
	// Output: true docker.io/library/pause:latest pause:latest
}

func ExampleMustParse() {
	fmt.Println(reference.MustParse("registry.k8s.io/pause:3.10").Name())
	// Output: registry.k8s.io/pause
}

func ExampleParseWritten() {
	_, written, err := reference.ParseWritten("busybox")
	fmt.Println(written.CRI, written.Registry, written.Tag, err)
	// Output: busybox:latest false false <nil>
}

func ExampleWritten() {
	for _, name := range []string{"nginx", "docker.io/nginx:latest"} {
		if _, written, err := reference.ParseWritten(name); err == nil && !written.Tag {
			fmt.Println(name, "should have a tag")
		}
	}
	// Output: nginx should have a tag
}

func ExampleParser() {
	p := reference.Parser{Registry: "registry.example", Namespace: "team", Tag: "stable"}
	for _, name := range []string{"app", "docker.io/nginx:1.27"} {
		ref, err := p.Parse(name)
		fmt.Println(ref, err)
	}
	// Output:
	// registry.example/team/app:stable <nil>
	// docker.io/library/nginx:1.27 <nil>
}

func ExampleTrim() {
	name, err := reference.Trim("localhost:5000/app:v1")
	fmt.Println(name, err)
	// Output: localhost:5000/app <nil>
}

func ExampleParseError() {
	_, err := reference.Parse("reg.example/App")
	fmt.Println(err)
	var perr *reference.ParseError
	if errors.As(err, &perr) {
		fmt.Println(perr.Part, perr.Offset)
	}
	// Output:
	// image name "reg.example/App": repository at byte 12: upper case letter; write it in lower case
	// repository 12
}

func ExampleReason() {
	_, err := reference.Parse("https://registry.k8s.io/pause")
	fmt.Println(errors.Is(err, reference.ErrScheme))
	// Output: true
}

func ExamplePart() {
	_, err := reference.Parse("nginx:v1+build.7")
	var perr *reference.ParseError
	if errors.As(err, &perr) && perr.Part == reference.PartTag {
		fmt.Println("a tag has no plus sign")
	}
	// Output: a tag has no plus sign
}

// Images are published under a plain name, which is an index of all
// architectures, and for old configurations under suffixed names, one each:
// the convention -$(ARCH) of the Kubernetes documentation.
func ExampleReference_WithArch() {
	plain := reference.MustParse("registry.k8s.io/pause:3.10")
	fmt.Println(plain)
	for _, arch := range []string{"amd64", "arm64"} {
		old, err := plain.WithArch(arch)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(old)
	}
	// Output:
	// registry.k8s.io/pause:3.10
	// registry.k8s.io/pause-amd64:3.10
	// registry.k8s.io/pause-arm64:3.10
}

func ExampleReference_WithRegistry() {
	ref, err := reference.MustParse("nginx:1.27").WithRegistry("mirror.example:5000")
	fmt.Println(ref, err)
	// Output: mirror.example:5000/library/nginx:1.27 <nil>
}

func ExampleReference_WithDigest() {
	pinned, err := reference.MustParse("nginx:1.27").WithDigest("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
	fmt.Println(pinned.Familiar(), err)
	fmt.Println(pinned.WithoutTag().Familiar())
	fmt.Println(pinned.WithoutDigest().Familiar())
	// Output:
	// nginx:1.27@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 <nil>
	// nginx@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
	// nginx:1.27
}
