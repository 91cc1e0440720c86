package verify_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/verify"
	"github.com/pullkit/pullkit/reference"
)

var exampleImage = content.Admission{Ref: reference.MustParse("registry.example/team/app:v1")}

// exampleDir is a directory with one program, a script.
func exampleDir(text string) (dir string, remove func()) {
	dir, err := os.MkdirTemp("", "programs")
	if err != nil {
		panic(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cosign-check"), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		panic(err)
	}
	return dir, func() { os.RemoveAll(dir) }
}

func ExamplePrograms() {
	dir, remove := exampleDir("echo signed by key 7")
	defer remove()
	check, err := verify.Programs(dir, verify.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	by, err := check.Admit(context.Background(), exampleImage)
	fmt.Println(by, err)

	check, err = verify.Programs("/absent", verify.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = check.Admit(context.Background(), exampleImage)
	fmt.Println(errors.Is(err, content.ErrCheckFailed), err)
	// Output:
	// cosign-check => signed by key 7 <nil>
	// true the directory of the programs: open /absent: no such file or directory
}

func ExampleConfig() {
	dir, remove := exampleDir("echo no signature; exit 1")
	defer remove()
	check, err := verify.Programs(dir, verify.Config{Timeout: time.Minute, PassCredential: true, Version: "keys of 2026-11"})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = check.Admit(context.Background(), exampleImage)
	fmt.Println(errors.Is(err, content.ErrRefused), err)
	// Output: true program "cosign-check": exit status 1: no signature
}

func ExamplePolicy() {
	check, err := verify.Policy(verify.Reject(),
		verify.Rule{Pattern: "registry.k8s.io/pause", Check: verify.Accept()},
		verify.Rule{Pattern: "registry.example/team/*", Check: verify.Func("the team's key", "key 7", func(context.Context, content.Admission) (string, error) {
			return "signed", nil
		})})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(check.Admit(context.Background(), exampleImage))
	fmt.Println(check.Admit(context.Background(), content.Admission{Ref: reference.MustParse("nginx")}))
	// Output:
	// rule 2, registry.example/team/*: the team's key => signed <nil>
	//  the default, because no rule matches: rejected by the policy
}

func ExampleRule() {
	_, err := verify.Policy(nil, verify.Rule{Pattern: "nginx", Check: verify.Accept()})
	fmt.Println(err)
	// Output: verify: rule 1: pattern "nginx" is not a full name; write "docker.io/library/nginx"
}

func ExampleFunc() {
	check := verify.Func("names", "1", func(_ context.Context, image content.Admission) (string, error) {
		if image.Ref.Tag() == "latest" {
			return "", errors.New("a tag that moves")
		}
		return "", nil
	})
	fmt.Println(check.Admit(context.Background(), exampleImage))
	// Output: names <nil>
}

func ExampleAccept() {
	fmt.Println(verify.Accept().Admit(context.Background(), exampleImage))
	// Output: accepted without a check <nil>
}

func ExampleReject() {
	_, err := verify.Reject().Admit(context.Background(), exampleImage)
	fmt.Println(err)
	// Output: rejected by the policy
}

// A signatures is a Source that has an image and lists no signature. A registry.Client
// lists the signatures in the registry.
type signatures struct{ content.Source }

func (signatures) Referrers(context.Context, content.Repo, digest.Digest, string) ([]ocispec.Descriptor, error) {
	return nil, nil
}

func (signatures) Manifest(context.Context, content.Repo, digest.Digest) (content.Document, error) {
	return content.Document{Desc: exampleImage.Top}, nil
}

func ExampleSigned() {
	check := verify.Func("key 7", "1", func(ctx context.Context, image content.Admission) (string, error) {
		return verify.Signed(ctx, image, "application/vnd.example.signature", func(sig verify.Signature) (string, error) {
			return "", fmt.Errorf("none of the %d layers is good", len(sig.Layers)) // compare with image.Top.Digest
		})
	})
	image := exampleImage
	image.Source = signatures{}
	_, err := check.Admit(context.Background(), image)
	fmt.Println(err)
	// Output: key 7: the image is not signed
}

func ExampleSignature() {
	judge := func(sig verify.Signature) (string, error) {
		if len(sig.Layers) != 1 {
			return "", errors.New("a signature has one layer")
		}
		return "key 7", nil
	}
	fmt.Println(judge(verify.Signature{Layers: [][]byte{[]byte("signed")}}))
	// Output: key 7 <nil>
}
