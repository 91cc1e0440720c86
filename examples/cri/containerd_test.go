package cri_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/examples/cri"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestContainerdPullsByTheKubeletsRules: Debian's containerd pulls from Debian's docker-registry.
func TestContainerdPullsByTheKubeletsRules(t *testing.T) {
	ca := realtest.NewCA(t)
	dir := t.TempDir()
	filling := realtest.StartRegistry(t, realtest.RegistryConfig{Dir: dir})
	id := push(t, filling)
	filling.Stop()
	reg := realtest.StartRegistry(t, realtest.RegistryConfig{Dir: dir, CA: ca, Htpasswd: map[string]string{"alice": "s3cret"}})
	socket := startContainerd(t, reg, ca)
	rt := connect(t, socket)

	image := reg.Host + "/team/hello:v1"
	good, stale := secret(t, "good", reg.Host, "s3cret"), secret(t, "stale", reg.Host+"/team", "old")
	store, err := records.Open(t.TempDir())
	require.NoError(t, err)
	defer store.Close()
	var reasons []puller.EventReason
	p, err := puller.New(puller.Config{Runtime: rt, Records: store, Events: func(e puller.Event) { reasons = append(reasons, e.Reason) }})
	require.NoError(t, err)
	pull := func(image, uid string, policy pullpolicy.Policy, secrets ...credentials.Secret) (puller.Image, error) {
		reasons = nil
		req := puller.Request{Image: image, Policy: policy, Pod: credentials.Pod{Namespace: "team", UID: uid}}
		if len(secrets) > 0 {
			req.Keyring = credentials.FromSecrets(secrets, credentials.Rules{})
		}
		return p.Pull(t.Context(), req)
	}

	_, err = pull(image, "0", pullpolicy.Never)
	assert.ErrorIs(t, err, puller.ErrImageNeverPull)
	assert.Equal(t, []puller.EventReason{puller.EventNeverPull}, reasons)

	_, err = pull(image, "1", "", stale)
	var e *puller.Error
	require.ErrorAs(t, err, &e, "a wrong password")
	assert.Equal(t, puller.ErrImagePull, e.Reason)
	assert.Contains(t, e.Error(), `with secret "team/stale", key "`+reg.Host+`/team": `)
	assert.Contains(t, e.Error(), "401 Unauthorized")
	assert.Equal(t, []puller.EventReason{puller.EventPulling, puller.EventAttempt, puller.EventFailed}, reasons)
	_, err = pull(image, "1", "", stale)
	assert.ErrorIs(t, err, puller.ErrImagePullBackOff)

	img, err := pull(image, "1", "", stale, good)
	require.NoError(t, err, "the new secrets, a stale and a good one, are tried within the window")
	assert.Equal(t, id, img.ID, "the ID is the config's digest")
	assert.NotZero(t, img.Size)
	assert.Equal(t, []puller.EventReason{puller.EventPulling, puller.EventAttempt, puller.EventPulled}, reasons)

	again, err := pull(image, "2", "", good)
	require.NoError(t, err)
	assert.Equal(t, img, again)
	assert.Equal(t, []puller.EventReason{puller.EventPulled}, reasons, "the secret is on record")
	_, err = pull(image, "3", "")
	assert.ErrorIs(t, err, puller.ErrImagePull, "another Pod, without the secret, has to ask the registry")
	_, err = pull(image, "4", pullpolicy.Never)
	assert.ErrorIs(t, err, puller.ErrImageNeverPull, "under Never the Pod gets the same error as for an absent image")

	_, err = pull(reg.Host+"/team/hello:absent", "1", "", good)
	assert.ErrorIs(t, err, puller.ErrImagePull)
	assert.Equal(t, []puller.EventReason{puller.EventPulling, puller.EventAttempt, puller.EventFailed}, reasons)

	out, err := exec.Command(build(t), "-socket", socket, "-secrets", manifest(t, reg.Host), image).CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "Normal Pulled Container image")
	assert.Contains(t, string(out), id)

	// A CRI request cannot name a platform other than the node's.
	_, err = p.Pull(t.Context(), puller.Request{Image: image, Policy: pullpolicy.Always, Platform: ocispec.Platform{OS: "linux", Architecture: "s390x"}})
	assert.ErrorContains(t, err, "CRI pulls only for "+index.FormatPlatform(index.Normalize(index.Host()))+", not for linux/s390x")
}

func secret(t *testing.T, name, server, password string) credentials.Secret {
	t.Helper()
	doc, err := credentials.DockerConfig{Server: server, Username: "alice", Password: credentials.Conceal(password)}.JSON()
	require.NoError(t, err)
	return credentials.Secret{
		Namespace: "team", Name: name, UID: "uid-" + name, Type: credentials.TypeDockerConfigJSON,
		Data: credentials.ConcealData(map[string][]byte{credentials.KeyDockerConfigJSON: doc}),
	}
}

// push stores an image with one small layer and returns the digest of its config.
func push(t *testing.T, reg *realtest.DockerRegistry) string {
	t.Helper()
	var layer, zipped bytes.Buffer
	tw := tar.NewWriter(&layer)
	require.NoError(t, tw.WriteHeader(&tar.Header{Name: "hello", Mode: 0o644, Size: 5}))
	_, err := tw.Write([]byte("hello"))
	require.NoError(t, err)
	require.NoError(t, tw.Close())
	zw := gzip.NewWriter(&zipped)
	_, err = zw.Write(layer.Bytes())
	require.NoError(t, err)
	require.NoError(t, zw.Close())

	host := index.Host()
	config, err := json.Marshal(ocispec.Image{
		Platform: ocispec.Platform{OS: host.OS, Architecture: host.Architecture},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer.Bytes())}},
	})
	require.NoError(t, err)
	manifest, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: describe(ocispec.MediaTypeImageConfig, config),
		Layers: []ocispec.Descriptor{describe(ocispec.MediaTypeImageLayerGzip, zipped.Bytes())},
	})
	require.NoError(t, err)
	reg.Push(t, "team/hello", "v1", ocispec.MediaTypeImageManifest, manifest, config, zipped.Bytes())
	return digest.FromBytes(config).String()
}

func describe(mediaType string, data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

// startContainerd starts a containerd for the test that trusts ca for reg.
func startContainerd(t *testing.T, reg *realtest.DockerRegistry, ca *realtest.CA) (socket string) {
	t.Helper()
	return realtest.StartContainerd(t, realtest.ContainerdProgram, map[string]string{
		reg.Host: fmt.Sprintf("server = %q\n[host.%q]\n  ca = %q\n", reg.URL, reg.URL, ca.File),
	}).Socket
}

// connect waits until containerd listens.
func connect(t *testing.T, socket string) *cri.Runtime {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err = runtimeapi.NewImageServiceClient(conn).ListImages(ctx, &runtimeapi.ListImagesRequest{}, grpc.WaitForReady(true))
	require.NoError(t, err)
	return cri.New(conn)
}

// build builds the program.
func build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "cri-pull")
	out, err := exec.Command("go", "build", "-o", program, "./cri-pull").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return program
}

// manifest returns a file with the good secret, for kubectl apply.
func manifest(t *testing.T, server string) string {
	t.Helper()
	doc, err := credentials.DockerConfig{Server: server, Username: "alice", Password: credentials.Conceal("s3cret")}.JSON()
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "secret.yaml")
	write(t, file, fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: good, namespace: team}\ntype: %s\nstringData:\n  %s: %q\n",
		credentials.TypeDockerConfigJSON, credentials.KeyDockerConfigJSON, doc))
	return file
}

func write(t *testing.T, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
}
