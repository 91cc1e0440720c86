package registry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/reference"
)

// exampleRegistry is a private registry with one image.
func exampleRegistry() (*pullertest.Registry, pullertest.PutResult) {
	reg, err := pullertest.Start(pullertest.Config{Auth: pullertest.AuthBearer, Users: []pullertest.User{{Name: "robot", Password: "s3cret-pass"}}})
	if err != nil {
		panic(err)
	}
	put, err := reg.PutImage("team/app:v1", pullertest.Image{Layers: []int64{1000}})
	if err != nil {
		panic(err)
	}
	return reg, put
}

func ExampleClient() {
	reg, _ := exampleRegistry()
	defer reg.Close()
	client := &registry.Client{PlainHTTP: []string{reg.Host()}}
	defer client.CloseIdleConnections()
	ref := reference.MustParse(reg.Host() + "/team/app:v1")
	cred := credentials.Credential{Username: "robot", Password: credentials.Conceal("s3cret-pass")}
	desc, body, err := client.Manifest(context.Background(), ref, cred, "")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(desc.MediaType, desc.Size == int64(len(body)))
	// Later: has the tag moved? One HEAD.
	_, body, err = client.Manifest(context.Background(), ref, cred, desc.Digest)
	fmt.Println(body == nil, err)
	// Output:
	// application/vnd.oci.image.manifest.v1+json true
	// true <nil>
}

func ExampleClient_Blob() {
	reg, put := exampleRegistry()
	defer reg.Close()
	client := &registry.Client{PlainHTTP: []string{reg.Host()}}
	defer client.CloseIdleConnections()
	ref := reference.MustParse(reg.Host() + "/team/app:v1")
	cred := credentials.Credential{Username: "robot", Password: credentials.Conceal("s3cret-pass")}
	layer := put.Blobs[len(put.Blobs)-1]
	body, start, err := client.Blob(context.Background(), ref, cred, layer, 100, 50)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	fmt.Println(len(data), "bytes from", start, err)
	// Output: 50 bytes from 100 <nil>
}

func ExampleStatusError() {
	reg, _ := exampleRegistry()
	defer reg.Close()
	client := &registry.Client{PlainHTTP: []string{reg.Host()}}
	defer client.CloseIdleConnections()
	ref := reference.MustParse(reg.Host() + "/team/app:v9")
	cred := credentials.Credential{Username: "robot", Password: credentials.Conceal("s3cret-pass")}
	_, _, err := client.Manifest(context.Background(), ref, cred, "")
	var status *registry.StatusError
	if errors.As(err, &status) {
		fmt.Println(status.Status, status.ErrorCodes())
	}
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	// Output:
	// 404 [MANIFEST_UNKNOWN]
	// true
}

func ExampleCode() {
	err := &registry.StatusError{Method: "GET", URL: "https://registry.example/v2/app/manifests/v1", Status: 429,
		Codes: []registry.Code{{Code: "TOOMANYREQUESTS", Message: "come back later"}}}
	fmt.Println(err)
	// Output: GET https://registry.example/v2/app/manifests/v1: 429 Too Many Requests: TOOMANYREQUESTS: come back later
}

func ExampleHosts() {
	reg, _ := exampleRegistry()
	defer reg.Close()
	// The images of registry.example are asked of a cache first; it gets no
	// credentials but those of Client.Mirrors.
	client := &registry.Client{
		Hosts: map[string]registry.Hosts{"registry.example": {
			Mirrors: []registry.Host{{URL: reg.URL(), Capabilities: registry.Pull | registry.Resolve}},
		}},
		Mirrors: credentials.Static{{Username: "robot", Password: credentials.Conceal("s3cret-pass")}},
	}
	defer client.CloseIdleConnections()
	desc, _, err := client.Manifest(context.Background(), reference.MustParse("registry.example/team/app:v1"), credentials.Credential{}, "")
	fmt.Println(desc.MediaType, err)
	// Output: application/vnd.oci.image.manifest.v1+json <nil>
}

func ExampleHost() {
	client := &registry.Client{Hosts: map[string]registry.Hosts{
		// A registry whose server has another certificate than its name says, in
		// a laboratory.
		"lab.example:5000": {Server: registry.Host{SkipVerify: true}},
		// Docker Hub behind a project of Harbor.
		"docker.io": {Mirrors: []registry.Host{{URL: "https://harbor.example/v2/dockerhub", OverridePath: true}}},
	}}
	fmt.Println(len(client.Hosts))
	// Output: 2
}

func ExampleCapability() {
	// What a peer says of a tag is not believed; content by digest is verified.
	peer := registry.Host{URL: "http://127.0.0.1:30020", Capabilities: registry.Pull}
	fmt.Println(peer.Capabilities&registry.Resolve != 0)
	// Output: false
}

func ExampleReadHosts() {
	certsDir, err := os.MkdirTemp("", "certs.d")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(certsDir)
	_ = os.Mkdir(filepath.Join(certsDir, "docker.io"), 0o700)
	_ = os.WriteFile(filepath.Join(certsDir, "docker.io", "hosts.toml"), []byte(`
server = "https://registry-1.docker.io"
[host."https://cache.example:5000"]
  capabilities = ["pull"]
`), 0o600)
	hosts, err := registry.ReadHosts(certsDir, "docker.io")
	fmt.Println(hosts.Mirrors[0].URL, hosts.Server.URL, err)
	// Output: https://cache.example:5000 https://registry-1.docker.io <nil>
}
