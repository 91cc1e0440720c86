package registry_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/content"
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
	put, err := reg.PutImage("team/app:v1", pullertest.ImageSpec{Layers: []int64{1000}})
	if err != nil {
		panic(err)
	}
	return reg, put
}

func ExampleClient() {
	reg, _ := exampleRegistry()
	defer reg.Close()
	client, err := registry.New(registry.Config{PlainHTTP: []string{reg.Host()}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.CloseIdleConnections()
	ref := reference.MustParse(reg.Host() + "/team/app:v1")
	cred := credentials.Credential{Username: "robot", Password: credentials.Conceal("s3cret-pass")}
	doc, err := client.Manifest(context.Background(), content.Repo{Ref: ref, Cred: cred}, "")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(doc.Desc.MediaType, doc.Desc.Size == int64(len(doc.Body)))
	// Later one HEAD shows whether the tag has moved.
	doc, err = client.Manifest(context.Background(), content.Repo{Ref: ref, Cred: cred}, doc.Desc.Digest)
	fmt.Println(doc.Body == nil, err)
	// Output:
	// application/vnd.oci.image.manifest.v1+json true
	// true <nil>
}

func ExampleClient_Blob() {
	reg, put := exampleRegistry()
	defer reg.Close()
	client, err := registry.New(registry.Config{PlainHTTP: []string{reg.Host()}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.CloseIdleConnections()
	ref := reference.MustParse(reg.Host() + "/team/app:v1")
	cred := credentials.Credential{Username: "robot", Password: credentials.Conceal("s3cret-pass")}
	layer := put.Blobs[len(put.Blobs)-1]
	body, err := client.Blob(context.Background(), content.Repo{Ref: ref, Cred: cred}, layer, 100, 50)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	fmt.Println(len(data), "bytes from", body.Start, err)
	// Output: 50 bytes from 100 <nil>
}

func ExampleClient_Manifest() {
	reg, _ := exampleRegistry()
	defer reg.Close()
	client, err := registry.New(registry.Config{PlainHTTP: []string{reg.Host()}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.CloseIdleConnections()
	ref := reference.MustParse(reg.Host() + "/team/app:v9")
	cred := credentials.Credential{Username: "robot", Password: credentials.Conceal("s3cret-pass")}
	_, err = client.Manifest(context.Background(), content.Repo{Ref: ref, Cred: cred}, "")
	var refused *content.Error
	if errors.As(err, &refused) {
		fmt.Println(refused.Reason, refused.Status, refused.Codes)
	}
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	// Output:
	// not found 404 [MANIFEST_UNKNOWN]
	// true
}

func ExampleClient_MirrorNames() {
	client, err := registry.New(registry.Config{Registries: map[string]registry.Hosts{
		"registry.example": {Mirrors: []registry.Host{{URL: "https://cache.example:5000"}}},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	// A pull secret whose key is cache.example:5000 is shown to this mirror.
	names, err := client.MirrorNames(context.Background(), reference.MustParse("registry.example/team/app:v1"))
	fmt.Println(names, err)
	// Output: [cache.example:5000/team/app:v1] <nil>
}

func ExampleConfig_find() {
	reg, image := exampleRegistry()
	defer reg.Close()
	peer, err := pullertest.Start(pullertest.Config{}) // another node, which serves the same image
	if err != nil {
		fmt.Println(err)
		return
	}
	defer peer.Close()
	if _, err := peer.PutImage("team/app:v1", pullertest.ImageSpec{Layers: []int64{1000}}); err != nil {
		fmt.Println(err)
		return
	}
	client, err := registry.New(registry.Config{
		PlainHTTP: []string{reg.Host()},
		Find: func(_ context.Context, _ reference.Reference, _ digest.Digest) iter.Seq[registry.Host] {
			return slices.Values([]registry.Host{{URL: peer.URL()}})
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.CloseIdleConnections()
	repo := content.Repo{
		Ref:  reference.MustParse(reg.Host() + "/team/app:v1"),
		Cred: credentials.Credential{Username: "robot", Password: credentials.Conceal("s3cret-pass")},
	}
	doc, err := client.Manifest(context.Background(), repo, "")
	if err != nil {
		fmt.Println(err)
		return
	}
	repo.Confirmation = doc.Confirmation // package transfer does this
	body, err := client.Blob(context.Background(), repo, image.Blobs[0], 0, -1)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer body.Close()
	fmt.Println(reg.Counts().BlobGet, "requests for blobs at the registry,", peer.Counts().BlobGet, "at the other node")
	// Output: 0 requests for blobs at the registry, 1 at the other node
}

func ExampleHosts() {
	reg, _ := exampleRegistry()
	defer reg.Close()
	// A cache is asked first for the images of registry.example. It gets only the
	// credentials of Config.MirrorKeyring.
	client, err := registry.New(registry.Config{
		Registries: map[string]registry.Hosts{"registry.example": {
			Mirrors: []registry.Host{{URL: reg.URL(), Can: registry.CanPull | registry.CanResolve}},
		}},
		MirrorKeyring: credentials.Static{{Username: "robot", Password: credentials.Conceal("s3cret-pass")}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.CloseIdleConnections()
	doc, err := client.Manifest(context.Background(), content.Repo{Ref: reference.MustParse("registry.example/team/app:v1")}, "")
	fmt.Println(doc.Desc.MediaType, err)
	// Output: application/vnd.oci.image.manifest.v1+json <nil>
}

func ExampleHost() {
	_, err := registry.New(registry.Config{Registries: map[string]registry.Hosts{
		// A registry for tests, whose certificate is for another name.
		"lab.example:5000": {Server: registry.Host{SkipVerify: true}},
		// Docker Hub behind a project of Harbor.
		"docker.io": {Mirrors: []registry.Host{{URL: "https://harbor.example/v2/dockerhub", OverridePath: true}}},
	}})
	fmt.Println(err)
	// Output: <nil>
}

func ExampleNew() {
	_, err := registry.New(registry.Config{PlainHTTP: []string{"https://registry.example"}})
	fmt.Println(err)
	// Output: registry: PlainHTTP has "https://registry.example", which is not a host[:port]
}

// A tracer counts the requests that go through it.
type tracer struct {
	base     http.RoundTripper
	requests *atomic.Int64
}

func (t tracer) RoundTrip(r *http.Request) (*http.Response, error) {
	t.requests.Add(1)
	return t.base.RoundTrip(r)
}

func ExampleConfig() {
	reg, _ := exampleRegistry()
	defer reg.Close()
	var requests atomic.Int64
	client, err := registry.New(registry.Config{
		PlainHTTP:     []string{reg.Host()},
		Retries:       5,
		StallTimeout:  30 * time.Second,
		WrapTransport: func(base http.RoundTripper) http.RoundTripper { return tracer{base, &requests} },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.CloseIdleConnections()
	_, err = client.Manifest(context.Background(), content.Repo{Ref: reference.MustParse(reg.Host() + "/team/app:v1")}, "")
	fmt.Println(errors.Is(err, content.ErrUnauthorized), requests.Load(), "requests")
	// Output: true 2 requests
}

func ExampleCapability() {
	// The peer is asked only for content by digest, which is verified, and not for what a
	// tag points to.
	peer := registry.Host{URL: "http://127.0.0.1:30020", Can: registry.CanPull}
	fmt.Println(peer.Can&registry.CanResolve != 0)
	// Output: false
}

// ownHosts is the configuration of a program that has one mirror for all registries.
type ownHosts struct{ mirror string }

func (o ownHosts) ReadHosts(name string, _ *x509.CertPool) (registry.Hosts, string, error) {
	hosts := registry.Hosts{Mirrors: []registry.Host{{URL: o.mirror + "/v2/" + name, OverridePath: true}}}
	return hosts, o.mirror, hosts.Validate()
}

func ExampleHostsReader() {
	client, err := registry.New(registry.Config{HostsReader: ownHosts{"https://cache.example"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.CloseIdleConnections()
	hosts, version, err := ownHosts{"ftp://cache.example"}.ReadHosts("docker.io", nil)
	fmt.Println(len(hosts.Mirrors), version, err)
	// Output: 1 ftp://cache.example mirror 1: host "ftp://cache.example/v2/docker.io": the scheme of its URL must be http or https
}

func ExampleHosts_Validate() {
	err := registry.Hosts{Server: registry.Host{URL: "https://reg.example?x=y"}}.Validate()
	fmt.Println(err)
	// Output: server: host "reg.example": its URL must not have a query or a fragment
}

func ExampleClient_Referrers() {
	reg, put := exampleRegistry()
	defer reg.Close()
	client, err := registry.New(registry.Config{PlainHTTP: []string{reg.Host()}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.CloseIdleConnections()
	reg.PutManifest("team/app", "application/vnd.oci.image.manifest.v1+json", fmt.Appendf(nil, `{"schemaVersion": 2,
		"mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": "application/vnd.example.signature",
		"config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", "size": 2},
		"layers": [], "subject": {"mediaType": %q, "digest": %q, "size": %d}}`, put.Descriptor.MediaType, put.Descriptor.Digest, put.Descriptor.Size))
	repo := content.Repo{Ref: reference.MustParse(reg.Host() + "/team/app:v1"),
		Cred: credentials.Credential{Username: "robot", Password: credentials.Conceal("s3cret-pass")}}
	list, err := client.Referrers(context.Background(), repo, put.Descriptor.Digest, "application/vnd.example.signature")
	for _, signature := range list {
		fmt.Println(signature.ArtifactType)
	}
	fmt.Println(err)
	// Output:
	// application/vnd.example.signature
	// <nil>
}
