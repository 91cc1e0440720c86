package registry

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// listOf returns the hosts of a registry.
func listOf(t *testing.T, c *Client, registry string) ([]*endpoint, error) {
	k, err := c.hostsFor(t.Context(), registry)
	if err != nil {
		return nil, err
	}
	c.hosts.release(k)
	return k.hosts, nil
}

// A hostsReader is a HostsReader that does not fail.
type hostsReader func(registry string) (Hosts, string)

func (f hostsReader) ReadHosts(registry string, _ *x509.CertPool) (Hosts, string, error) {
	hosts, version := f(registry)
	return hosts, version, nil
}

func TestHostsAreAskedInTheirOrder(t *testing.T) {
	hosts := Hosts{Server: Host{URL: "https://reg.example:5000"}, Mirrors: []Host{
		{URL: "https://z.example", Can: CanPull | CanResolve},
		{URL: "http://a.example:5001/proxy", Can: CanPull, OverridePath: true},
		{URL: "m.example", Can: 1 << 7},
	}}
	c := newClient(t, Config{HostsReader: hostsReader(func(string) (Hosts, string) { return hosts, "1" })})
	list, err := listOf(t, c, "reg.example:5000")
	require.NoError(t, err)
	var urls []string
	for _, ep := range list {
		urls = append(urls, ep.url(ep.base.Scheme, "team/app", "manifests", "v1").String())
	}
	assert.Equal(t, []string{"https://z.example/v2/team/app/manifests/v1?ns=reg.example%3A5000", "http://a.example:5001/proxy/team/app/manifests/v1?ns=reg.example%3A5000",
		"https://m.example/v2/team/app/manifests/v1?ns=reg.example%3A5000", "https://reg.example:5000/v2/team/app/manifests/v1"}, urls)
	assert.False(t, list[2].can(CanPull) || list[2].can(CanResolve), "a host that is only for pushing is not asked")
	assert.False(t, list[1].can(CanResolve))
	assert.True(t, list[3].can(CanPull) && list[3].can(CanResolve) && !list[3].mirror && list[0].mirror)
}

// The Client calls HostsReader again after half a minute. It keeps its connections if the version
// is the same.
func TestHostsThatChangedAreReadAgain(t *testing.T) {
	version := "one"
	c := newClient(t, Config{HostsReader: hostsReader(func(string) (Hosts, string) {
		return Hosts{Server: Host{URL: "https://" + version + ".example"}}, version
	})})
	first, err := listOf(t, c, "reg.example")
	require.NoError(t, err)
	again, err := listOf(t, c, "reg.example")
	require.NoError(t, err)
	assert.Same(t, first[0], again[0])

	c.hosts.byName["reg.example"].until = time.Now() // as if half a minute had passed
	again, err = listOf(t, c, "reg.example")
	require.NoError(t, err)
	assert.Same(t, first[0], again[0], "nothing has changed, so the endpoint stays")

	version = "two"
	c.hosts.byName["reg.example"].until = time.Now()
	again, err = listOf(t, c, "reg.example")
	require.NoError(t, err)
	assert.Equal(t, "two.example", again[0].base.Host)
	assert.True(t, again[0].mirror, "the new host does not get the registry's credentials")
}

func TestAServerAtAnotherHostCountsAsAMirror(t *testing.T) {
	for _, tt := range []struct {
		registry string
		hosts    Hosts
		plain    []string
		want     string
		mirror   bool
	}{
		{"docker.io", Hosts{}, nil, "https://registry-1.docker.io/v2/app/blobs/x", false},
		{"docker.io", Hosts{Server: Host{URL: "https://registry-1.docker.io"}}, nil, "https://registry-1.docker.io/v2/app/blobs/x", false},
		{"docker.io", Hosts{Server: Host{URL: "https://harbor.example/v2/hub"}}, nil, "https://harbor.example/v2/hub/v2/app/blobs/x?ns=docker.io", true},
		{"docker.io", Hosts{Server: Host{URL: "https://harbor.example/v2/hub", OverridePath: true}}, nil, "https://harbor.example/v2/hub/app/blobs/x?ns=docker.io", true},
		{"reg.example", Hosts{}, []string{"reg.example"}, "http://reg.example/v2/app/blobs/x", false},
		{"reg.example", Hosts{Server: Host{URL: "https://reg.example:443"}}, nil, "https://reg.example:443/v2/app/blobs/x?ns=reg.example", false},
		{"reg.example", Hosts{Server: Host{URL: "https://reg.example:444"}}, nil, "https://reg.example:444/v2/app/blobs/x?ns=reg.example", true},
		{"reg.example:5000", Hosts{Server: Host{SkipVerify: true}}, nil, "https://reg.example:5000/v2/app/blobs/x", false},
	} {
		c := newClient(t, Config{PlainHTTP: tt.plain, Registries: map[string]Hosts{tt.registry: tt.hosts}})
		list, err := listOf(t, c, tt.registry)
		require.NoError(t, err)
		require.Len(t, list, 1)
		assert.Equal(t, tt.want, list[0].url(list[0].base.Scheme, "app", "blobs", "x").String())
		assert.Equal(t, tt.mirror, list[0].mirror, tt.want)
		assert.Equal(t, tt.hosts.Server.SkipVerify, list[0].host.SkipVerify)
	}
	// If a registry is one of its own mirrors, it is asked once.
	c := newClient(t, Config{Registries: map[string]Hosts{"reg.example": {Mirrors: []Host{{URL: "https://m.example"}, {URL: "https://reg.example", SkipVerify: true}}}}})
	list, err := listOf(t, c, "reg.example")
	require.NoError(t, err)
	require.Len(t, list, 2)
	assert.True(t, list[1].host.SkipVerify)
	assert.False(t, list[1].mirror)
}
