package puller_test

import (
	"encoding/json"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/pullpolicy"
)

// A presence is one case: the name that was pulled, and the name that is asked for
// afterwards, when the registry is gone.
type presence struct {
	ID, Pull, Then string
	Expect         struct{ IfNotPresent, Never bool }
	Why            string
}

// A pulledStore is a Store into which one image was pulled from a registry that
// is gone.
type pulledStore struct {
	runtime puller.Runtime
	host    string
	put     pullertest.PutResult
}

// pullInto starts a registry with the image team/app:v1, pulls what request returns for it,
// and closes the registry. It sets config's Runtime and Platform.
func pullInto(t *testing.T, store content.Store, image pullertest.ImageSpec, users []pullertest.User, config puller.Config, request func(host string, put pullertest.PutResult) puller.Request) pulledStore {
	t.Helper()
	reg, err := pullertest.Start(pullertest.Config{Auth: authOf(users), Users: users})
	require.NoError(t, err)
	defer reg.Close()
	put, err := reg.PutImage("team/app:v1", image)
	require.NoError(t, err)
	client, err := registry.New(registry.Config{Retries: -1}) // the registry is closed later, and the client must not wait for it
	require.NoError(t, err)
	t.Cleanup(client.CloseIdleConnections)
	rt, err := transfer.New(transfer.Config{Store: store, Source: client})
	require.NoError(t, err)
	s := pulledStore{rt, reg.Host(), put}
	config.Runtime, config.Platform = s.runtime, ocispec.Platform{OS: "linux", Architecture: "amd64"}
	p, err := puller.New(config)
	require.NoError(t, err)
	_, err = p.Pull(t.Context(), request(reg.Host(), put))
	require.NoError(t, err)
	return s
}

func authOf(users []pullertest.User) pullertest.AuthMode {
	if users == nil {
		return pullertest.AuthNone
	}
	return pullertest.AuthBasic
}

// present reports whether a new Puller finds the name under the policy. The registry is
// gone, so the image can only come from the store.
func (s pulledStore) present(t *testing.T, name string, policy pullpolicy.Policy, config puller.Config, ring credentials.Keyring) (puller.Image, bool) {
	t.Helper()
	config.Runtime, config.Platform = s.runtime, ocispec.Platform{OS: "linux", Architecture: "amd64"}
	p, err := puller.New(config)
	require.NoError(t, err)
	img, err := p.Pull(t.Context(), puller.Request{Image: name, Policy: policy, Keyring: ring, Pod: credentials.Pod{Namespace: "apps"}})
	return img, err == nil
}

// name returns the whole name for the part of it that a case has: what follows the
// repository, with @D for the digest.
func (c presence) name(host, behind string, d digest.Digest) string {
	repository := host + "/team/app"
	if rest, ok := strings.CutPrefix(behind, "/../"); ok {
		repository, behind = host+"/team/", rest
	}
	return repository + strings.ReplaceAll(behind, "@D", "@"+string(d))
}

func readPresences(t *testing.T) []presence {
	var file struct{ Cases []presence }
	data, err := os.ReadFile(path.Join("testdata", "vectors", "presence.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &file))
	require.Len(t, file.Cases, 6)
	return file.Cases
}

// stores are the Stores of this module.
func stores(t *testing.T) map[string]content.Store {
	onDisk, err := layout.Open(t.TempDir(), layout.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { onDisk.Close() })
	return map[string]content.Store{"layout": onDisk, "memory": &pullertest.MemStore{}}
}

// An image that was pulled by tag is present by digest, in the same repository.
func TestAnImagePulledByTagIsPresentByDigest(t *testing.T) {
	images := map[string]pullertest.ImageSpec{
		"manifest": {Layers: []int64{1000}},
		"index": {Layers: []int64{1000}, Platforms: []ocispec.Platform{
			{OS: "linux", Architecture: "arm64"}, {OS: "linux", Architecture: "amd64"},
		}},
	}
	for _, c := range readPresences(t) {
		for kind, image := range images {
			for where, store := range stores(t) {
				t.Run(c.ID+" "+kind+" "+where, func(t *testing.T) {
					s := pullInto(t, store, image, nil, puller.Config{}, func(host string, put pullertest.PutResult) puller.Request {
						return puller.Request{Image: c.name(host, c.Pull, put.Descriptor.Digest)}
					})
					then := c.name(s.host, c.Then, s.put.Descriptor.Digest)
					img, ok := s.present(t, then, pullpolicy.IfNotPresent, puller.Config{}, nil)
					assert.Equal(t, c.Expect.IfNotPresent, ok, "IfNotPresent: %s", c.Why)
					if ok {
						assert.Equal(t, s.put.Descriptor.Digest, img.Digest)
					}
					_, ok = s.present(t, then, pullpolicy.Never, puller.Config{}, nil)
					assert.Equal(t, c.Expect.Never, ok, "Never: %s", c.Why)
				})
			}
		}
	}
}

// After an index was pulled by tag, the platform's manifest is present by its own digest.
// The manifests of other platforms are not.
func TestThePlatformsManifestIsPresentByItsDigest(t *testing.T) {
	image := pullertest.ImageSpec{Layers: []int64{1000}, Platforms: []ocispec.Platform{
		{OS: "linux", Architecture: "arm64"}, {OS: "linux", Architecture: "amd64"},
	}}
	for where, store := range stores(t) {
		t.Run(where, func(t *testing.T) {
			s := pullInto(t, store, image, nil, puller.Config{}, func(host string, _ pullertest.PutResult) puller.Request {
				return puller.Request{Image: host + "/team/app:v1"}
			})
			for i, want := range []bool{false, true} {
				name := s.host + "/team/app@" + string(s.put.Manifests[i].Digest)
				img, ok := s.present(t, name, pullpolicy.Never, puller.Config{}, nil)
				assert.Equal(t, want, ok, name)
				if ok {
					assert.Equal(t, s.put.Manifests[i].Digest, img.Digest)
				}
				_, ok = s.present(t, strings.Replace(name, "team/app", "team/copy", 1), pullpolicy.Never, puller.Config{}, nil)
				assert.False(t, ok, "another repository")
			}
		})
	}
}

// A Pod may use an image by digest only if it may use the image by tag.
func TestAnImageByDigestNeedsTheSameSecretAsByTag(t *testing.T) {
	image := pullertest.ImageSpec{Layers: []int64{1000}, Platforms: []ocispec.Platform{
		{OS: "linux", Architecture: "arm64"}, {OS: "linux", Architecture: "amd64"},
	}}
	users := []pullertest.User{{Name: "robot", Password: "right"}}
	for _, text := range []pullpolicy.VerificationPolicy{pullpolicy.NeverVerifyPreloadedImages, pullpolicy.AlwaysVerify} {
		verify, err := pullpolicy.NewVerification(text)
		require.NoError(t, err)
		for where, store := range stores(t) {
			t.Run(string(text)+" "+where, func(t *testing.T) {
				recs, err := records.Open(t.TempDir())
				require.NoError(t, err)
				config := puller.Config{Records: recs, Verify: verify}
				s := pullInto(t, store, image, users, config, func(host string, _ pullertest.PutResult) puller.Request {
					return puller.Request{Image: host + "/team/app:v1", Keyring: pullSecret("apps", host, "right"), Pod: credentials.Pod{Namespace: "apps"}}
				})
				for _, d := range []digest.Digest{s.put.Descriptor.Digest, s.put.Manifests[1].Digest} {
					for _, tag := range []string{"", ":v1", ":any"} {
						name := s.host + "/team/app" + tag + "@" + string(d)
						for _, policy := range []pullpolicy.Policy{pullpolicy.IfNotPresent, pullpolicy.Never} {
							_, ok := s.present(t, name, policy, config, pullSecret("apps", s.host, "right"))
							assert.True(t, ok, "%s %s: the same Secret", policy, name)
							_, ok = s.present(t, name, policy, config, nil)
							assert.False(t, ok, "%s %s: no Secret", policy, name)
							_, ok = s.present(t, name, policy, config, pullSecret("others", s.host, "wrong"))
							assert.False(t, ok, "%s %s: another Secret", policy, name)
						}
					}
				}
			})
		}
	}
}
