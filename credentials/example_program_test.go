package credentials_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/reference"
)

// The configurations in testdata/providers have the matchImages that the documentation of
// the plugins for Amazon's, Google's and Azure's registries gives. The programs in
// testdata/bin are in place of these plugins.
func ExampleReadProviders() {
	ring, err := credentials.ReadProviders("testdata/providers", credentials.ProviderConfig{Exec: credentials.Exec{Dir: "testdata/bin"}})
	if err != nil {
		panic(err)
	}
	for _, image := range []string{
		"123456789012.dkr.ecr.eu-central-1.amazonaws.com/app", "eu.gcr.io/project/app", "europe-docker.pkg.dev/project/app",
		"team.azurecr.io/app", "registry.example/app",
	} {
		fmt.Println(image)
		for cred, err := range ring.Lookup(context.Background(), reference.MustParse(image)) {
			fmt.Println(" ", cred.Origin.Name, cred.Username, err)
		}
	}
	// Output:
	// 123456789012.dkr.ecr.eu-central-1.amazonaws.com/app
	//   ecr-credential-provider AWS <nil>
	// eu.gcr.io/project/app
	//   auth-provider-gcp _token <nil>
	// europe-docker.pkg.dev/project/app
	//   auth-provider-gcp _token <nil>
	// team.azurecr.io/app
	//   acr-credential-provider 00000000-0000-0000-0000-000000000000 <nil>
	// registry.example/app
}

func ExampleReadProviders_explain() {
	ring, _ := credentials.ReadProviders("testdata/providers", credentials.ProviderConfig{Exec: credentials.Exec{Dir: "testdata/bin"}})
	for note := range ring.(credentials.Explainer).Explain(reference.MustParse("gcr.io/project/app")) { // starts no program
		fmt.Println(note.Origin.Name, note.Matched)
	}
	// Output:
	// ecr-credential-provider false
	// auth-provider-gcp true
	// acr-credential-provider false
}

func ExampleProviderConfig() {
	ring, err := credentials.ReadProviders("testdata/providers/2-gcr.yaml", credentials.ProviderConfig{
		Exec: credentials.Exec{Dir: "testdata/bin", Timeout: 10 * time.Second, MaxOutput: 64 << 10},
	})
	fmt.Println(ring != nil, err)
	// Output: true <nil>
}

const robots = `
apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
- name: acr-credential-provider
  apiVersion: credentialprovider.kubelet.k8s.io/v1
  matchImages: ["*.registry.example"]
  defaultCacheDuration: 10m
`

func ExampleParseProviders() {
	_, err := credentials.ParseProviders([]byte(robots), credentials.ProviderConfig{Exec: credentials.Exec{Dir: "testdata/bin"}})
	fmt.Println(err)
	_, err = credentials.ParseProviders([]byte(robots), credentials.ProviderConfig{})
	fmt.Println(err)
	bad := strings.Replace(robots, "*.registry.example", "registry.example:https", 1)
	_, err = credentials.ParseProviders([]byte(bad), credentials.ProviderConfig{Exec: credentials.Exec{Dir: "testdata/bin"}})
	fmt.Println(err)
	// Output:
	// <nil>
	// credential providers: no directory of plugins is given
	// credential provider config: provider "acr-credential-provider": matchImages: key "registry.example:https": port is not a number
}

// withToken returns a keyring of a plugin that receives the token of the Pod's service
// account.
func withToken() credentials.PodKeyring {
	ring, err := credentials.ParseProviders([]byte(robots+`
  tokenAttributes:
    serviceAccountTokenAudience: registry
    cacheType: ServiceAccount
    requireServiceAccount: true
`), credentials.ProviderConfig{
		Exec: credentials.Exec{Dir: "testdata/bin"},
		Token: func(_ context.Context, pod credentials.Pod, audience string) (credentials.Sensitive, error) {
			return credentials.Conceal("the TokenRequest API's answer"), nil
		},
	})
	if err != nil {
		panic(err)
	}
	return ring
}

func ExamplePodKeyring() {
	ring := withToken()
	pod := credentials.Pod{Namespace: "web", Name: "app-1", ServiceAccount: credentials.ServiceAccount{Name: "builder"}}
	for cred, err := range ring.For(pod).Lookup(context.Background(), reference.MustParse("eu.registry.example/app")) {
		fmt.Println(cred.Origin, err)
	}
	// Output: plugin "acr-credential-provider", key "eu.registry.example", service account "web/builder" <nil>
}

func ExamplePod() {
	ref := reference.MustParse("eu.registry.example/app")
	for _, pod := range []credentials.Pod{{}, {ServiceAccount: credentials.ServiceAccount{Name: "builder"}}} {
		for note := range withToken().For(pod).(credentials.Explainer).Explain(ref) {
			fmt.Println(note.Matched)
		}
	}
	// Output:
	// false
	// true
}

func ExamplePodKeyring_joined() {
	ring := credentials.Join(config(), withToken()).For(credentials.Pod{ServiceAccount: credentials.ServiceAccount{Name: "builder"}})
	for cred := range ring.Lookup(context.Background(), reference.MustParse("eu.registry.example/app")) {
		fmt.Println(cred.Origin.ServiceAccount.Name)
	}
	// Output: builder
}

func ExampleServiceAccount() {
	fmt.Println(credentials.Origin{Kind: credentials.KindPlugin, Name: "robots", ServiceAccount: credentials.ServiceAccount{Namespace: "web", Name: "builder"}})
	// Output: plugin "robots", service account "web/builder"
}

func ExampleNewHelper() {
	h, err := credentials.NewHelper("example", credentials.Exec{Dir: "testdata/bin"})
	if err != nil {
		panic(err)
	}
	for cred, err := range h.Lookup(context.Background(), reference.MustParse("registry.example/app")) {
		fmt.Println(cred.Username, cred.Origin, err)
	}
	// Output: kept helper "example", key "registry.example" <nil>
}

func ExampleNewHelper_badName() {
	_, err := credentials.NewHelper("../../bin/sh", credentials.Exec{})
	fmt.Println(err)
	// Output: helper "../../bin/sh" names a helper that cannot be a program: only letters, digits, dot, underscore and dash
}

func ExampleFile_WithHelpers() {
	c, _ := credentials.ParseFile([]byte(`{"credsStore": "example"}`), "config.json", credentials.Rules{})
	ring := c.WithHelpers(credentials.Exec{Dir: "testdata/bin"})
	for cred := range ring.Lookup(context.Background(), reference.MustParse("nginx")) {
		fmt.Println(cred.Username, cred.Origin.Key)
	}
	// Output: kept https://index.docker.io/v1/
}

func ExampleExec() {
	x := credentials.Exec{
		Dir:     "testdata/bin",
		Environ: map[string]credentials.Sensitive{"TOKEN": credentials.Conceal("secret")}, // and no variable of this process
	}
	h, _ := credentials.NewHelper("example", x)
	for cred := range h.Lookup(context.Background(), reference.MustParse("registry.example/app")) {
		fmt.Println(cred.Username)
	}
	// Output: kept
}

func ExampleNewHelper_missing() {
	h, _ := credentials.NewHelper("missing", credentials.Exec{Dir: "testdata/bin"})
	for _, err := range h.Lookup(context.Background(), reference.MustParse("registry.example/app")) {
		fmt.Println(errors.Is(err, credentials.ErrProgramStart), err)
	}
	// Output: true helper "missing", for image "registry.example/app": program not found: docker-credential-missing
}
