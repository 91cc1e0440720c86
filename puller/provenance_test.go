package puller_test

import (
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A node is a Puller with its own store and records.
type node struct {
	*puller.Puller
	store *layout.Layout
	dir   *records.Dir
}

func newNode(t *testing.T, client registry.Config, ring credentials.Keyring) node {
	t.Helper()
	store, err := layout.Open(t.TempDir(), layout.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { store.Close() })
	source, err := registry.New(client)
	require.NoError(t, err)
	t.Cleanup(source.CloseIdleConnections)
	rt, err := transfer.New(transfer.Config{Store: store, Source: source})
	require.NoError(t, err)
	dir, err := records.Open(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { dir.Close() })
	p, err := puller.New(puller.Config{Runtime: rt, Records: dir, Keyring: ring, Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}})
	require.NoError(t, err)
	return node{p, store, dir}
}

// public pulls an image, and returns it with the digests that its record lists as public.
func (n node) public(t *testing.T, req puller.Request) (puller.Image, []digest.Digest) {
	t.Helper()
	img, err := n.Pull(t.Context(), req)
	require.NoError(t, err)
	record, err := n.dir.Record(t.Context(), img.ID)
	require.NoError(t, err)
	return img, record.Names[reference.MustParse(req.Image).Name()].Public
}

func startRegistry(t *testing.T, config pullertest.Config) *pullertest.Registry {
	t.Helper()
	reg, err := pullertest.Start(config)
	require.NoError(t, err)
	t.Cleanup(func() { reg.Close() })
	return reg
}

var twoPlatforms = pullertest.ImageSpec{
	Platforms: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64", Variant: "v8"}},
	Layers:    []int64{3 << 20, 1000}, // the first layer is fetched over several connections
}

// everything returns the digests of an image in a store: those of the documents and blobs.
func everything(t *testing.T, store *layout.Layout, img puller.Image) []digest.Digest {
	t.Helper()
	all := []digest.Digest{img.Digest, img.Manifest}
	f, err := store.FS().Open("sha256/" + img.Manifest.Encoded())
	require.NoError(t, err)
	defer f.Close()
	var m ocispec.Manifest
	require.NoError(t, json.NewDecoder(f).Decode(&m))
	all = append(all, m.Config.Digest)
	for _, l := range m.Layers {
		all = append(all, l.Digest)
	}
	return all
}

type adding struct {
	base http.RoundTripper
	name string
}

func (a adding) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set(a.name, "secret")
	return a.base.RoundTrip(req)
}

// Content is public if it was fetched without a credential and without anything else that
// could open it, and if the registry itself named its digest. Records list no other
// content as public.
func TestOnlyContentWithoutACredentialIsPublic(t *testing.T) {
	const all, index, none = 5, 1, 0
	users := []pullertest.User{{Name: "robot", Password: "right"}}
	for name, tt := range map[string]struct {
		registry pullertest.Config
		client   func(reg, mirror *pullertest.Registry) registry.Config
		node     bool // the node has the password
		pod      bool // the Pod has it
		want     int  // how many digests of the index, the manifest, the config and the layers
	}{
		"an open registry":                        {want: all},
		"an open registry on https":               {registry: pullertest.Config{TLS: true}, want: all},
		"the node's password":                     {registry: pullertest.Config{Auth: pullertest.AuthBasic, Users: users}, node: true, want: none},
		"the Pod's password":                      {registry: pullertest.Config{Auth: pullertest.AuthBasic, Users: users}, pod: true, want: none},
		"a token for a password":                  {registry: pullertest.Config{Auth: pullertest.AuthBearer, Users: users}, node: true, want: none},
		"the Pod's password, not asked for":       {pod: true, want: none},
		"the node's password, not asked for":      {node: true, want: none},
		"a mirror that says what the name is":     {client: mirroredBy(registry.Host{}), want: none},
		"a mirror for blobs only":                 {client: mirroredBy(registry.Host{Can: registry.CanPull}), want: all},
		"a mirror for blobs with a header":        {client: mirroredBy(registry.Host{Can: registry.CanPull, Header: http.Header{"X-Key": {"secret"}}}), want: index},
		"a header of the configuration":           {client: serverWith(registry.Host{Header: http.Header{"X-Key": {"secret"}}}), want: none},
		"another server for the registry's names": {client: serverWith(registry.Host{URL: "mirror"}), want: none},
		"a transport that adds Authorization":     {client: wrappedBy("Authorization"), want: none},
		"a transport that adds a cookie":          {client: wrappedBy("Cookie"), want: none},
		"a transport that adds a trace":           {client: wrappedBy("Traceparent"), want: all},
	} {
		t.Run(name, func(t *testing.T) {
			reg, mirror := startRegistry(t, tt.registry), startRegistry(t, pullertest.Config{})
			_, err := reg.PutImage("team/app:v1", twoPlatforms)
			require.NoError(t, err)
			_, err = mirror.PutImage("team/app:v1", twoPlatforms)
			require.NoError(t, err)
			config := registry.Config{}
			if tt.client != nil {
				config = tt.client(reg, mirror)
			}
			if ca := reg.CA(); ca != nil {
				config.RootCAs = x509.NewCertPool()
				require.True(t, config.RootCAs.AppendCertsFromPEM(ca))
			}
			var ring credentials.Keyring
			req := puller.Request{Image: reg.Host() + "/team/app:v1"}
			if tt.node {
				ring = pullSecret("", reg.Host(), "right")
			}
			if tt.pod {
				req.Keyring = pullSecret("", reg.Host(), "right")
			}
			n := newNode(t, config, ring)
			img, public := n.public(t, req)
			assert.Equal(t, everything(t, n.store, img)[:tt.want], append([]digest.Digest{}, public...))
			assert.Equal(t, public, img.Public)
		})
	}
}

// mirroredBy returns the configuration of a registry with a mirror. host has the mirror's
// other settings.
func mirroredBy(host registry.Host) func(reg, mirror *pullertest.Registry) registry.Config {
	return func(reg, mirror *pullertest.Registry) registry.Config {
		host.URL = mirror.URL()
		return registry.Config{Registries: map[string]registry.Hosts{reg.Host(): {Mirrors: []registry.Host{host}, Server: registry.Host{URL: reg.URL()}}}}
	}
}

// serverWith returns the configuration of a registry whose server has the settings of
// host.
func serverWith(host registry.Host) func(reg, mirror *pullertest.Registry) registry.Config {
	return func(reg, mirror *pullertest.Registry) registry.Config {
		host := host
		if host.URL == "mirror" {
			host.URL = mirror.URL()
		} else {
			host.URL = reg.URL()
		}
		return registry.Config{Registries: map[string]registry.Hosts{reg.Host(): {Server: host}}}
	}
}

// wrappedBy returns a configuration whose transport adds a header to each request.
func wrappedBy(header string) func(reg, mirror *pullertest.Registry) registry.Config {
	return func(reg, _ *pullertest.Registry) registry.Config {
		return registry.Config{PlainHTTP: []string{reg.Host()}, WrapTransport: func(base http.RoundTripper) http.RoundTripper { return adding{base, header} }}
	}
}

// A public image of another user can name a blob and a manifest of a private image that is
// in the store. That does not make them public.
func TestPrivateContentThatAPublicImageNamesIsNotPublic(t *testing.T) {
	private := startRegistry(t, pullertest.Config{Auth: pullertest.AuthBasic, Users: []pullertest.User{{Name: "robot", Password: "right"}}})
	_, err := private.PutImage("team/app:v1", twoPlatforms)
	require.NoError(t, err)
	n := newNode(t, registry.Config{}, pullSecret("", private.Host(), "right"))
	secret, public := n.public(t, puller.Request{Image: private.Host() + "/team/app:v1"})
	assert.Empty(t, public)
	digests := everything(t, n.store, secret)
	stored := func(d digest.Digest, mediaType string) ocispec.Descriptor {
		f, err := n.store.FS().Open("sha256/" + d.Encoded())
		require.NoError(t, err)
		defer f.Close()
		info, err := f.Stat()
		require.NoError(t, err)
		return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: info.Size()}
	}

	strange := startRegistry(t, pullertest.Config{})
	put := func(name, mediaType string, doc any) ocispec.Descriptor {
		data, err := json.Marshal(doc)
		require.NoError(t, err)
		return strange.PutManifest(name, mediaType, data)
	}
	// A manifest that names the private layer, and has its own config as data.
	config := []byte(`{"architecture":"amd64","os":"linux"}`)
	own := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config)), Data: config}
	top := put("x/blob:v1", ocispec.MediaTypeImageManifest, ocispec.Manifest{Versioned: versioned, MediaType: ocispec.MediaTypeImageManifest, Config: own,
		Layers: []ocispec.Descriptor{stored(digests[3], ocispec.MediaTypeImageLayerGzip)}})
	_, public = n.public(t, puller.Request{Image: strange.Host() + "/x/blob:v1"})
	assert.Equal(t, []digest.Digest{top.Digest, own.Digest}, public)

	// An index with the private manifest. Then the manifest itself, under a name of the other user.
	child := stored(secret.Manifest, ocispec.MediaTypeImageManifest)
	child.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	top = put("x/index:v1", ocispec.MediaTypeImageIndex, ocispec.Index{Versioned: versioned, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{child}})
	_, public = n.public(t, puller.Request{Image: strange.Host() + "/x/index:v1"})
	assert.Equal(t, []digest.Digest{top.Digest}, public)
	img, err := n.Pull(t.Context(), puller.Request{Image: strange.Host() + "/x/index:v1", Policy: pullpolicy.Always})
	require.NoError(t, err)
	assert.Empty(t, img.Public, "a HEAD brings no bytes")
}

var versioned = specs.Versioned{SchemaVersion: 2}

// Bytes that an earlier pull has left may have come with a credential.
func TestABlobThatAnEarlierPullStartedIsNotPublic(t *testing.T) {
	reg := startRegistry(t, pullertest.Config{})
	put, err := reg.PutImage("team/app:v1", pullertest.ImageSpec{Layers: []int64{100_000}})
	require.NoError(t, err)
	n := newNode(t, registry.Config{}, nil)
	layer := put.Blobs[1] // after the config
	in, err := n.store.Ingest(t.Context(), layer)
	require.NoError(t, err)
	source, err := registry.New(registry.Config{})
	require.NoError(t, err)
	ref := reference.MustParse(reg.Host() + "/team/app:v1")
	body, err := source.Blob(t.Context(), content.Repo{Ref: ref}, layer, 0, 50_000)
	require.NoError(t, err)
	half, err := io.ReadAll(body)
	require.NoError(t, err)
	require.NoError(t, body.Close())
	_, err = in.WriteAt(half, 0)
	require.NoError(t, err)
	require.NoError(t, in.Close())

	img, public := n.public(t, puller.Request{Image: reg.Host() + "/team/app:v1"})
	assert.Subset(t, everything(t, n.store, img), public)
	assert.NotContains(t, public, layer.Digest)
	assert.Contains(t, public, img.Manifest)
}
