package puller_test

import (
	"context"
	"iter"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// findAt is a registry.Config.Find that yields one host.
func findAt(host *pullertest.Registry) func(context.Context, reference.Reference, digest.Digest) iter.Seq[registry.Host] {
	return func(context.Context, reference.Reference, digest.Digest) iter.Seq[registry.Host] {
		return func(yield func(registry.Host) bool) { yield(registry.Host{URL: host.URL()}) }
	}
}

// The registry says, with the Pod's credential, what the name points to. The content comes
// from a found host, without a credential. The records are as after a pull from the
// registry alone.
func TestAPullFromAFoundHostIsConfirmedByTheRegistry(t *testing.T) {
	users := []pullertest.User{{Name: "robot", Password: "right"}}
	reg, peer := startRegistry(t, pullertest.Config{Auth: pullertest.AuthBearer, Users: users}), startRegistry(t, pullertest.Config{})
	for _, r := range []*pullertest.Registry{reg, peer} {
		_, err := r.PutImage("team/app:v1", twoPlatforms)
		require.NoError(t, err)
	}
	client := registry.Config{PlainHTTP: []string{reg.Host()}, Find: findAt(peer)}
	n := newNode(t, client, nil)
	req := puller.Request{Image: reg.Host() + "/team/app:v1", Keyring: pullSecret("a", reg.Host(), "right"), Pod: credentials.Pod{Namespace: "a"}}
	img, err := n.Pull(t.Context(), req)
	require.NoError(t, err)
	assert.Equal(t, 1, reg.Counts().ManifestGet-reg.Counts().Unauthorized, "%+v", reg.Counts())
	assert.Zero(t, reg.Counts().BlobGet)
	assert.NotZero(t, peer.Counts().BlobBytes)
	record, err := n.dir.Record(t.Context(), img.ID)
	require.NoError(t, err)
	access := record.Names[reg.Host()+"/team/app"]
	assert.False(t, access.Everybody)
	assert.Len(t, access.Secrets, 1)
	assert.Empty(t, access.Public)

	// If the registry refuses, the found host is not asked.
	before := peer.Counts().Total()
	_, err = newNode(t, client, nil).Pull(t.Context(), puller.Request{Image: reg.Host() + "/team/app:v1"})
	require.Error(t, err)
	pinned := reg.Host() + "/team/app@" + img.Digest.String()
	_, err = newNode(t, client, nil).Pull(t.Context(), puller.Request{Image: pinned, Keyring: pullSecret("a", reg.Host(), "wrong")})
	require.Error(t, err)
	assert.Equal(t, before, peer.Counts().Total())
}

// While the registry cannot be reached, the content of a found host is stored, but that
// pull lets no Pod use the image.
func TestAPullWithoutTheRegistryGrantsNothing(t *testing.T) {
	away, peer := startRegistry(t, pullertest.Config{}), startRegistry(t, pullertest.Config{})
	put, err := peer.PutImage("team/app:v1", twoPlatforms)
	require.NoError(t, err)
	require.NoError(t, away.Close())
	client := registry.Config{PlainHTTP: []string{away.Host()}, Retries: -1, Find: findAt(peer)}
	pinned := puller.Request{Image: away.Host() + "/team/app@" + put.Descriptor.Digest.String()}
	_, err = newNode(t, client, nil).Pull(t.Context(), pinned)
	require.ErrorIs(t, err, puller.ErrRegistryUnavailable)

	client.FindWithoutRegistry = true
	for name, ring := range map[string]credentials.Keyring{"anonymous": nil, "the node's credential": pullSecret("", away.Host(), "right")} {
		n := newNode(t, client, ring)
		img, err := n.Pull(t.Context(), pinned)
		require.NoError(t, err, name)
		record, err := n.dir.Record(t.Context(), img.ID)
		require.NoError(t, err)
		assert.Equal(t, map[string]records.Access{away.Host() + "/team/app": {}}, record.Names, name)
		before := peer.Counts().Total()
		_, err = n.Pull(t.Context(), pinned)
		require.NoError(t, err, name)
		assert.Greater(t, peer.Counts().Total(), before, "the next Pod asks, too")
		tag := puller.Request{Image: away.Host() + "/team/app:v1"}
		_, err = n.Pull(t.Context(), tag)
		require.ErrorIs(t, err, puller.ErrRegistryUnavailable, "a tag is never asked of a found host")
	}
}

// The progress says which blobs are public while the pull still fetches others.
func TestProgressSaysWhichBlobsArePublic(t *testing.T) {
	users := []pullertest.User{{Name: "robot", Password: "right"}}
	for name, tt := range map[string]struct {
		config pullertest.Config
		want   int
	}{
		"open":    {want: 3},
		"private": {config: pullertest.Config{Auth: pullertest.AuthBasic, Users: users}},
	} {
		reg := startRegistry(t, tt.config)
		_, err := reg.PutImage("team/app:v1", twoPlatforms)
		require.NoError(t, err)
		source, err := registry.New(registry.Config{PlainHTTP: []string{reg.Host()}})
		require.NoError(t, err)
		rt, err := transfer.New(transfer.Config{Store: &pullertest.MemStore{}, Source: source})
		require.NoError(t, err)
		stored, public := 0, 0
		p, err := puller.New(puller.Config{Runtime: rt, Platform: twoPlatforms.Platforms[0], Keyring: pullSecret("", "other.example", "x"), Events: func(e puller.Event) {
			if e.Progress != nil && e.Progress.State == puller.BlobStored {
				stored++
			}
			if e.Progress != nil && e.Progress.Public {
				public++
				assert.Equal(t, puller.BlobStored, e.Progress.State)
			}
		}})
		require.NoError(t, err)
		req := puller.Request{Image: reg.Host() + "/team/app:v1"}
		if tt.config.Users != nil {
			req.Keyring = pullSecret("", reg.Host(), "right")
		}
		_, err = p.Pull(t.Context(), req)
		require.NoError(t, err)
		assert.Equal(t, 3, stored, name)
		assert.Equal(t, tt.want, public, name)
	}
}
