package registry

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestReach(t *testing.T) {
	for addr, want := range map[string]reach{
		"8.8.8.8": public, "2606:4700::1": public, "100.128.0.1": public, "64:ff9b::808:808": public,
		"127.0.0.1": private, "127.9.9.9": private, "::1": private, "10.1.2.3": private, "172.31.0.1": private,
		"192.168.0.1": private, "fd00::1": private, "100.64.0.1": private, "0.0.0.0": private, "0.1.2.3": private,
		"::": private, "::ffff:10.0.0.1": private, "64:ff9b::a00:1": private, "64:ff9b:1::7f00:1": private,
		"169.254.169.254": linkLocal, "::ffff:169.254.169.254": linkLocal, "fe80::1": linkLocal, "fe80::1%eth0": linkLocal,
		"64:ff9b::a9fe:a9fe": linkLocal, "224.0.0.1": linkLocal, "ff02::1": linkLocal, "255.255.255.255": linkLocal,
	} {
		assert.Equal(t, want, reachOf(netip.MustParseAddr(addr)), addr)
	}
	assert.Equal(t, linkLocal, reachOf(netip.Addr{}))
}

func TestLoopbackName(t *testing.T) {
	for host, want := range map[string]bool{"localhost": true, "LOCALHOST.": true, "a.localhost": true, "127.0.0.1": true, "::1": true,
		"localhost.example": false, "notlocalhost": false, "10.0.0.1": false, "": false} {
		assert.Equal(t, want, loopbackName(host), host)
	}
}
