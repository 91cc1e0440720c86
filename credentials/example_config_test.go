package credentials_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/reference"
)

func ExampleFile() {
	for cred := range config().Lookup(context.Background(), reference.MustParse("registry.example/team/app:v1")) {
		fmt.Println(cred.Origin.Key, cred.Username)
	}
	// Output:
	// registry.example/team robot
	// registry.example everybody
}

func ExampleParseFile() {
	c, err := credentials.ParseFile([]byte(`{"auths": {
		"*.registry.example": {"auth": "cm9ib3Q6c2VjcmV0"},
		"broken.example": {"auth": "cm9ib3Q"}
	}}`), "config.json", credentials.Rules{})
	fmt.Println(err)
	for cred := range c.Lookup(context.Background(), reference.MustParse("eu.registry.example/app")) {
		fmt.Println(cred.Username)
	}
	fmt.Println(credentials.Problems(c))
	// Output:
	// <nil>
	// robot
	// [file "config.json", key "broken.example": auth holds no colon between user name and password]
}

func ExampleReadFile() {
	_, err := credentials.ReadFile("testdata/config.json", credentials.Rules{})
	fmt.Println(err)
	fmt.Println(errors.Is(err, credentials.ErrNoFile), errors.Is(err, fs.ErrNotExist))
	// Output:
	// no credential file found at "testdata/config.json": file does not exist
	// true false
}

func ExampleFindFile() {
	node, err := credentials.FindFile([]string{"testdata/config.json", "testdata/.dockercfg"}, credentials.Rules{}) // or KubeletPaths("")
	fmt.Println(err)
	fmt.Println(len(slices.Collect(node.All())), "credentials")
	// Output:
	// <nil>
	// 0 credentials
}

func ExampleReadDocker() {
	os.Setenv("DOCKER_CONFIG", "testdata") // where there is no config.json
	os.Setenv("DOCKER_AUTH_CONFIG", `{"auths": {"registry.example": {"auth": "Ym9iOnMzY3JldA=="}}}`)
	defer os.Unsetenv("DOCKER_CONFIG")
	defer os.Unsetenv("DOCKER_AUTH_CONFIG")

	config, err := credentials.ReadDocker()
	if err != nil {
		panic(err)
	}
	for cred := range config.Lookup(context.Background(), reference.MustParse("registry.example/app")) {
		fmt.Println(cred.Username, "from", cred.Origin)
	}
	// Output: bob from variable "DOCKER_AUTH_CONFIG", key "registry.example"
}

func ExampleLogin() {
	ring, err := credentials.Login("registry.example/team", "bob", credentials.Conceal("s3cret"))
	if err != nil {
		panic(err)
	}
	for _, image := range []string{"registry.example/team/app", "registry.example/other", "evil.example/team/app"} {
		n := 0
		for range ring.Lookup(context.Background(), reference.MustParse(image)) {
			n++
		}
		fmt.Println(image, n)
	}
	_, err = credentials.Login("oci://registry.example", "bob", credentials.Conceal("s3cret"))
	fmt.Println(errors.Is(err, credentials.ErrLooksWrong))
	// Output:
	// registry.example/team/app 1
	// registry.example/other 0
	// evil.example/team/app 0
	// true
}

func ExampleKubeletPaths() {
	for _, path := range credentials.KubeletPaths("/var/lib/kubelet")[:2] {
		fmt.Println(path)
	}
	// Output:
	// /var/lib/kubelet/config.json
	// config.json
}

func ExampleDockerPaths() {
	os.Setenv("DOCKER_CONFIG", "/etc/docker")
	defer os.Unsetenv("DOCKER_CONFIG")
	fmt.Println(credentials.DockerPaths())
	// Output: [/etc/docker/config.json]
}

func ExampleContainersPaths() {
	os.Setenv("REGISTRY_AUTH_FILE", "/etc/auth.json")
	defer os.Unsetenv("REGISTRY_AUTH_FILE")
	fmt.Println(credentials.ContainersPaths())
	// Output: [/etc/auth.json]
}

func ExampleMatch() {
	for _, key := range []string{"*.registry.example", "eu[0-9].registry.example", "registry.example", "eu1.registry.example/team", "eu1.registry.example:443"} {
		ok, err := credentials.Match(key, "eu1.registry.example/team-b/app", credentials.Rules{})
		fmt.Println(key, ok, err)
	}
	// Output:
	// *.registry.example true <nil>
	// eu[0-9].registry.example true <nil>
	// registry.example false <nil>
	// eu1.registry.example/team false <nil>
	// eu1.registry.example:443 false <nil>
}

func ExampleRules() {
	kubelet := credentials.Rules{Kubelet: true}
	ours, _ := credentials.Match("registry.example/team", "registry.example/team-b/app", credentials.Rules{})
	theirs, _ := credentials.Match("registry.example/team", "registry.example/team-b/app", kubelet)
	fmt.Println(ours, theirs)
	// Output: false true
}

func ExampleMatch_malformed() {
	_, err := credentials.Match("registry.example:https", "registry.example/app", credentials.Rules{})
	fmt.Println(err)
	// Output: key "registry.example:https": port is not a number
}

func ExampleError() {
	c, _ := credentials.ParseFile([]byte(`{"auths": {"registry.example": {"auth": "%%%"}}}`), "config.json", credentials.Rules{})
	for _, err := range credentials.Problems(c) {
		var about *credentials.Error
		if errors.As(err, &about) {
			fmt.Println(about.Origin.Name, about.Origin.Key)
		}
		fmt.Println(err)
	}
	// Output:
	// config.json registry.example
	// file "config.json", key "registry.example": auth is not base64
}

func ExampleReason() {
	c, _ := credentials.ParseFile([]byte(`{"auths": {"a.example": {"auth": "%%%"}}, "AUTHS": {}}`), "config.json", credentials.Rules{})
	for _, err := range credentials.Problems(c) {
		var problem *credentials.Error
		fmt.Println(errors.As(err, &problem) && problem.Warning(), errors.Is(err, credentials.ErrLooksWrong))
	}
	// Output:
	// true true
	// false false
}

func ExampleExplainer() {
	var ring credentials.Explainer = config()
	for note := range ring.Explain(reference.MustParse("registry.example/other/app")) {
		fmt.Println(note.Origin.Key, note.Matched, note.Why)
	}
	// Output:
	// registry.example/team false the image is not below the key's path
	// registry.example true matches
}

func ExampleNote() {
	for note := range config().Explain(reference.MustParse("docker.io/library/app")) {
		fmt.Println(note.Username, note.Why)
	}
	// Output:
	// robot the host is another one
	// everybody the host is another one
}

func ExampleFingerprinter() {
	ref := reference.MustParse("registry.example/team/app")
	before := config().Fingerprint(ref)
	fmt.Println(before == config().Fingerprint(ref), before == credentials.Static{{Username: "other"}}.Fingerprint(ref))
	// Output: true false
}

func ExampleCredential() {
	c := credentials.Credential{Username: "robot", Password: credentials.Conceal("secret")}
	d := c
	d.Origin = credentials.Origin{Kind: credentials.KindFile, Name: "config.json"}
	fmt.Println(c == d, c.Same(d), c.Anonymous())
	// Output: false true false
}

func ExampleSensitive() {
	s := credentials.Conceal("secret")
	fmt.Println(s == credentials.Conceal("secret"), s.IsZero(), len(s.Reveal()))
	// Output: true false 6
}

func ExampleConceal() {
	fmt.Println(credentials.Conceal("") == credentials.Sensitive{})
	// Output: true
}

func ExampleOrigin() {
	fmt.Println(credentials.Origin{Kind: credentials.KindSecret, Namespace: "web", Name: "regcred", Key: "registry.example/team"})
	// Output: secret "web/regcred", key "registry.example/team"
}

func ExampleKind() {
	for cred := range config().Lookup(context.Background(), reference.MustParse("registry.example/app")) {
		fmt.Println(cred.Origin.Kind == credentials.KindFile)
	}
	// Output: true
}
