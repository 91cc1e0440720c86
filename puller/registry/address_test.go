package registry

import (
	"encoding/json"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/puller/content"
)

func TestEachAddressHasItsClass(t *testing.T) {
	for addr, want := range map[string]addrClass{
		"8.8.8.8": public, "2606:4700::1": public, "100.128.0.1": public, "64:ff9b::808:808": public,
		"127.0.0.1": private, "127.9.9.9": private, "::1": private, "10.1.2.3": private, "172.31.0.1": private,
		"192.168.0.1": private, "fd00::1": private, "100.64.0.1": private, "0.0.0.0": private, "0.1.2.3": private,
		"::": private, "::ffff:10.0.0.1": private, "64:ff9b::a00:1": private, "64:ff9b:1::7f00:1": private,
		"169.254.169.254": linkLocal, "::ffff:169.254.169.254": linkLocal, "fe80::1": linkLocal, "fe80::1%eth0": linkLocal,
		"64:ff9b::a9fe:a9fe": linkLocal, "224.0.0.1": linkLocal, "ff02::1": linkLocal, "255.255.255.255": linkLocal,
		// 6to4, Teredo (server, client), IPv4-compatible, IPv4-translated and ISATAP addresses have the class of the IPv4 address in them.
		"2002:a9fe:a9fe::1": linkLocal, "2002:a00:1::1": private, "2002:7f00:1::": private, "2002:808:808::1": public,
		"2001:0:a9fe:a9fe::1": linkLocal, "2001:0:808:808::5601:5601": linkLocal, "2001:0:808:808:0:0:f5ff:fffe": private, "2001:0:808:808:0:0:f7f7:f7f7": public, "2001:1::1": public,
		"::127.0.0.1": private, "::10.0.0.1": private, "::169.254.169.254": linkLocal, "::8.8.8.8": public, "::2": private,
		"::ffff:0:169.254.169.254": linkLocal, "::ffff:0:10.0.0.1": private, "::ffff:0:8.8.8.8": public,
		"2606:4700::5efe:a9fe:a9fe": linkLocal, "2606:4700::200:5efe:a00:1": private, "fd00::5efe:808:808": private, "2606:4700::5efe:808:808": public,
		"2002:808:808::5efe:127.0.0.1": private, "2002:808:808::200:5efe:a9fe:a9fe": linkLocal, "2002:a00:1::5efe:808:808": private, "2002:808:808::5efe:808:808": public,
		// NAT64 with a network's own prefix, of 48, 56, 64 and 96 bits.
		"64:ff9b:1::808:808": private, "64:ff9b:1:a9fe:a9:fe00:808:808": linkLocal, "64:ff9b:1:a9:fe:a9fe:808:808": linkLocal,
		"64:ff9b:1:0:a9:fea9:fe08:808": linkLocal, "64:ff9b:1::a9fe:a9fe": linkLocal, "64:ff9b:2::808:808": public,
		// Site-local, reserved, benchmarking, protocol assignments.
		"fec0::1": private, "feff::1": private, "240.0.0.1": private, "255.255.255.254": private, "239.255.255.255": linkLocal,
		"192.0.0.8": private, "192.0.1.1": public, "198.18.0.1": private, "198.19.255.255": private, "198.20.0.1": public,
		// Where clouds serve a machine's secrets.
		"168.63.129.16": linkLocal, "::ffff:168.63.129.16": linkLocal, "64:ff9b::a83f:8110": linkLocal, "168.63.129.17": public,
		"100.100.100.200": linkLocal, "fd00:ec2::254": linkLocal, "fd00:ec2::23": linkLocal, "fd00:ec2:0:1::1": private,
		"fd20:ce::254": linkLocal, "fd20:ce::253": private, "fd00:100::100:200": linkLocal, "fd00:100::100:201": private, "fd00:42::42": linkLocal, "192.0.0.192": linkLocal,
	} {
		assert.Equal(t, want, classOf(netip.MustParseAddr(addr)), addr)
	}
	assert.Equal(t, linkLocal, classOf(netip.Addr{}))
}

// The rows are from other libraries' tests.
func TestPublishedAddressesHaveTheirClass(t *testing.T) {
	names := map[string]addrClass{"public": public, "private": private, "never": linkLocal}
	found := 0
	for _, row := range peers(t) {
		if !strings.HasPrefix(row.ID, "reach-") {
			continue
		}
		found++
		word := strings.FieldsFunc(row.Expected.Reach, func(r rune) bool { return r < 'a' || r > 'z' })[0]
		want, ok := names[word]
		require.True(t, ok, row.ID)
		assert.Equal(t, want, classOf(netip.MustParseAddr(row.Input.Address)), "%s: %s", row.ID, row.Why)
	}
	assert.Equal(t, 12, found)
}

type peerRow struct {
	ID, Why  string
	Input    struct{ Address string }
	Expected struct{ Reach string }
}

// peers reads the cases out of other libraries' tests.
func peers(t *testing.T) []peerRow {
	data, err := os.ReadFile("testdata/vectors/field/peers-addresses.json")
	require.NoError(t, err)
	var doc struct{ Cases []peerRow }
	require.NoError(t, json.Unmarshal(data, &doc))
	return doc.Cases
}

// The addresses at which clouds serve a machine's secrets are not dialled for a registry
// on a private address either, even if AllowAddr allows every address.
func TestMetadataAddressesAreNeverDialled(t *testing.T) {
	ep := &endpoint{registry: "private.example", client: newClient(t, Config{AllowAddr: func(string, netip.Addr) bool { return true }})}
	for _, addr := range []string{"169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254", "fd20:ce::254", "fd00:100::100:200", "2002:a9fe:a9fe::1"} {
		assert.ErrorIs(t, ep.checkAddr(netip.MustParseAddr(addr), true), content.ErrForbiddenURL, addr)
	}
	assert.NoError(t, ep.checkAddr(netip.MustParseAddr("fec0::1"), true))
	assert.NoError(t, ep.checkAddr(netip.MustParseAddr("240.0.0.1"), true))
}

func TestNamesOfLoopbackAreRecognized(t *testing.T) {
	for host, want := range map[string]bool{"localhost": true, "LOCALHOST.": true, "a.localhost": true, "127.0.0.1": true, "::1": true,
		"localhost.example": false, "notlocalhost": false, "10.0.0.1": false, "": false} {
		assert.Equal(t, want, loopbackName(host), host)
	}
}
