package realtest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
)

const (
	user     = "alice"
	password = "s3cret"
)

var platforms = []ocispec.Platform{
	{OS: "linux", Architecture: "amd64"},
	{OS: "linux", Architecture: "arm64", Variant: "v8"},
}

// A private image is pulled for two platforms from a real registry into one store. Then
// skopeo and umoci read the store.
func TestOtherToolsReadWhatWasPulledFromDockerRegistry(t *testing.T) {
	t.Run("htpasswd", func(t *testing.T) {
		ca := realtest.NewCA(t)
		pullBothPlatforms(t, ca, realtest.RegistryConfig{CA: ca, Htpasswd: map[string]string{user: password}})
	})
	t.Run("token", func(t *testing.T) {
		ca := realtest.NewCA(t)
		issuer := realtest.StartIssuer(t, ca, map[string]string{user: password})
		pullBothPlatforms(t, ca, realtest.RegistryConfig{CA: ca, Issuer: issuer})
		all, _ := issuer.Requests()
		assert.NotZero(t, all)
	})
}

func pullBothPlatforms(t *testing.T, ca *realtest.CA, conf realtest.RegistryConfig) {
	reg := realtest.StartRegistry(t, conf)
	image := reg.Host + "/team/hello:multi"
	put := pushBySkopeo(t, ca, image)

	dir := filepath.Join(t.TempDir(), "images")
	store, err := layout.Open(dir, layout.Config{})
	require.NoError(t, err)
	defer store.Close()
	source, err := registry.New(registry.Config{RootCAs: ca.Pool})
	require.NoError(t, err)
	var reasons []puller.EventReason
	rt, err := transfer.New(transfer.Config{Store: store, Source: source})
	require.NoError(t, err)
	p, err := puller.New(puller.Config{
		Runtime: rt,
		Events: func(e puller.Event) {
			if e.Reason != puller.EventProgress {
				reasons = append(reasons, e.Reason)
			}
		},
	})
	require.NoError(t, err)
	secrets := twoSecrets(t, reg.Host)
	for i, platform := range platforms {
		reasons = nil
		img, err := p.Pull(t.Context(), puller.Request{Image: image, Keyring: secrets, Platform: platform, Policy: "Always"})
		require.NoError(t, err)
		assert.Equal(t, put.Descriptor.Digest, img.Digest, "of the index")
		assert.Equal(t, put.Manifests[i].Digest, img.Manifest, "of %v", platform)
		assert.Equal(t, []puller.EventReason{puller.EventPulling, puller.EventAttempt, puller.EventPulled}, reasons)
	}

	for i, platform := range platforms {
		assert.Equal(t, put.Manifests[i].Digest, copiedBySkopeo(t, dir, image, platform), "%v; index %s, manifests %s, %s", platform, put.Descriptor.Digest, put.Manifests[0].Digest, put.Manifests[1].Digest)
	}
	umoci := realtest.Need(t, "umoci")
	// umoci cannot read an index with several platforms, but it lists the tagged names.
	assert.Contains(t, output(t, umoci, "ls", "--layout", dir), image)
}

// The image is pulled for one platform only, because umoci cannot read an index with several.
func TestUmociUnpacksAPulledImage(t *testing.T) {
	umoci := realtest.Need(t, "umoci")
	reg, err := pullertest.Start(pullertest.Config{})
	require.NoError(t, err)
	defer reg.Close()
	put, err := reg.PutImage("team/hello:multi", pullertest.ImageSpec{Platforms: platforms, Layers: []int64{1000, 2000}, Seed: 7})
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "images")
	store, err := layout.Open(dir, layout.Config{})
	require.NoError(t, err)
	defer store.Close()
	rt, err := transfer.New(transfer.Config{Store: store})
	require.NoError(t, err)
	p, err := puller.New(puller.Config{Runtime: rt, Platform: platforms[1]})
	require.NoError(t, err)
	image := reg.Host() + "/team/hello:multi"
	img, err := p.Pull(t.Context(), puller.Request{Image: image})
	require.NoError(t, err)
	assert.Equal(t, put.Descriptor.Digest, img.Digest)
	bundle := filepath.Join(t.TempDir(), "bundle")
	output(t, umoci, "unpack", "--rootless", "--image", dir+":"+image, bundle)
	files, err := filepath.Glob(filepath.Join(bundle, "rootfs", "*"))
	require.NoError(t, err)
	assert.Len(t, files, 2, "one file for each layer")
}

// pushBySkopeo copies an image into the registry from another registry without
// credentials.
func pushBySkopeo(t *testing.T, ca *realtest.CA, image string) pullertest.PutResult {
	skopeo := realtest.Need(t, "skopeo")
	source, err := pullertest.Start(pullertest.Config{})
	require.NoError(t, err)
	defer source.Close()
	put, err := source.PutImage("hello:multi", pullertest.ImageSpec{Platforms: platforms, Layers: []int64{300 << 10, 1000}})
	require.NoError(t, err)
	output(t, skopeo, "copy", "--all", "--src-tls-verify=false",
		"--dest-cert-dir", filepath.Dir(ca.File), "--dest-creds", user+":"+password,
		"docker://"+source.Host()+"/hello:multi", "docker://"+image)
	return put
}

// twoSecrets returns two pull secrets. The first one is stale.
func twoSecrets(t *testing.T, host string) credentials.PodKeyring {
	var secrets []credentials.Secret
	for _, pass := range []string{"stale", password} {
		data, err := credentials.DockerConfig{Server: host, Username: user, Password: credentials.Conceal(pass)}.JSON()
		require.NoError(t, err)
		secrets = append(secrets, credentials.Secret{
			Namespace: "default", Name: pass[:2], Type: credentials.TypeDockerConfigJSON,
			Data: credentials.ConcealData(map[string][]byte{credentials.KeyDockerConfigJSON: data}),
		})
	}
	return credentials.FromSecrets(secrets, credentials.Rules{})
}

// copiedBySkopeo lets skopeo choose a platform from the layout and copy its image. It
// returns the digest of the manifest that skopeo wrote.
func copiedBySkopeo(t *testing.T, dir, image string, platform ocispec.Platform) digest.Digest {
	skopeo := realtest.Need(t, "skopeo")
	to := filepath.Join(t.TempDir(), "copy")
	file := filepath.Join(t.TempDir(), "digest")
	output(t, skopeo, "--insecure-policy", "--override-os", platform.OS, "--override-arch", platform.Architecture,
		"--override-variant", platform.Variant, "copy", "--digestfile", file, "oci:"+dir+":"+image, "dir:"+to)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return digest.Digest(strings.TrimSpace(string(text)))
}

func output(t *testing.T, program string, args ...string) string {
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", program, args, out)
	return string(out)
}
